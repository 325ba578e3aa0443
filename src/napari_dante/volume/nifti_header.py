"""What the header of a NIfTI, Analyze or MGH file says, before a voxel is read."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.freesurfer.mghformat import MGHImage
from nibabel.nifti1 import Nifti1Header, Nifti1Image, Nifti1Pair
from nibabel.nifti2 import Nifti2Image, Nifti2Pair
from nibabel.spm2analyze import Spm2AnalyzeImage

from napari_dante.errors import VolumeError
from napari_dante.volume.file_header import (
    DAMAGED,
    NOWHERE,
    Header,
    check_size,
    is_packed,
    open_voxels,
)
from napari_dante.volume.geometry import Geometry, corner_distance
from napari_dante.volume.label_table import read_label_table

__all__ = ["forms_agree", "read_header"]

_NOT_NIFTI = "This is not a NIfTI file."
_NAMES = {
    Nifti1Image: "NIfTI",
    Nifti2Image: "NIfTI-2",
    Nifti1Pair: "NIfTI pair",
    Nifti2Pair: "NIfTI-2 pair",
    Spm2AnalyzeImage: "Analyze",
    MGHImage: "MGH",
}
_HALVES = {".hdr": ".img", ".img": ".hdr", ".HDR": ".IMG", ".IMG": ".HDR"}
_MOST_VOLUMES = 20_000


def read_header(path: Path) -> Header:
    """Read the header of a file, or of the pair that a file belongs to.

    Raises
    ------
    VolumeError
        It is no such file, incomplete, in colour, or places its voxels nowhere.
    OSError, ValueError, TypeError, ...
        It is damaged (`nifti_file` turns these into a sentence).
    """
    place = _other_half(path) if _ending(path) in (".img", ".IMG") else path
    with open_voxels(place, packed=is_packed(place)) as stream:
        kind = _kind(stream.read(Nifti2Image.header_class.sizeof_hdr))
        stream.seek(0)
        if kind in (Nifti1Image, Nifti2Image, MGHImage):
            files = {"image": stream}
            image, voxels = kind.from_file_map(kind.make_file_map(files), mmap=False), place
        else:
            voxels = _other_half(place) if place == path else path
            with voxels.open("rb") as second:
                files = {"header": stream, "image": second, "mat": io.BytesIO()}
                image = kind.from_file_map(kind.make_file_map(files), mmap=False)
    return _header(image, voxels)


def _ending(path: Path) -> str:
    return (path.with_suffix("") if path.suffix.lower() == ".gz" else path).suffix


def _other_half(path: Path) -> Path:
    """Return the .img of a .hdr file and the .hdr of an .img file."""
    packed = path.suffix if path.suffix.lower() == ".gz" else ""
    bare = path.with_suffix("") if packed else path
    wanted = _HALVES.get(bare.suffix, ".img")
    for ending in (wanted + packed, wanted, wanted + ".gz"):
        other = bare.with_suffix(ending)
        if other != path and other.is_file():
            return other
    raise VolumeError(f"This volume is split in two files, and its {wanted.lower()} is not here.")


def _kind(start: bytes) -> Any:  # noqa: ANN401 (nibabel has no types)
    for single, pair in ((Nifti1Image, Nifti1Pair), (Nifti2Image, Nifti2Pair)):
        if single.header_class.may_contain_header(start):
            magic = start[344:347] if single is Nifti1Image else start[4:7]
            return pair if magic in (b"ni1", b"ni2") else single
    sizes = [start[:4] == (348).to_bytes(4, order) for order in ("little", "big")]
    if any(sizes) and len(start) >= 348:
        return Spm2AnalyzeImage
    if start[:4] == b"\0\0\0\1" and len(start) >= 284:
        return MGHImage
    cut = any(sizes) or start[:4] in [(540).to_bytes(4, order) for order in ("little", "big")]
    raise VolumeError(DAMAGED if cut else _NOT_NIFTI)


def _header(image: Any, voxels: Path) -> Header:  # noqa: ANN401 (nibabel has no types)
    dtype = image.get_data_dtype()
    if dtype.fields is not None or dtype.kind == "V":
        raise VolumeError("This is a colour picture; a grey-value volume is needed.")
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise VolumeError("The file holds complex or extended numbers, which are not supported.")
    sizes = [int(size) for size in image.shape]
    if len(sizes) < 2:
        raise VolumeError("The file holds no picture: it has fewer than two axes.")
    count = math.prod(sizes[3:])
    if min(sizes) < 1:
        raise VolumeError("The volume holds no voxels.")
    if count > _MOST_VOLUMES:
        raise VolumeError(f"The file holds {count} volumes; that is no series of images.")
    table, problems = read_label_table(getattr(image.header, "extensions", ()))
    header = Header(
        kind=_NAMES[type(image)],
        voxels=voxels,
        packed=is_packed(voxels),
        start=0,
        offset=int(image.dataobj.offset),
        dtype=np.dtype(image.dataobj.dtype),
        count=count,
        slope=float(image.dataobj.slope),
        intercept=float(image.dataobj.inter),
        geometry=Geometry.from_affine((*sizes, 1)[:3], image.affine),
        labels=table if table or problems else None,
        label_problems=problems,
        problems=_notes(image),
    )
    check_size(header)
    return header


def _notes(image: Any) -> tuple[str, ...]:  # noqa: ANN401 (nibabel has no types)
    if isinstance(image, MGHImage):
        if not image.header["goodRASFlag"]:
            return (NOWHERE.format("no good RAS flag"),)
        return ()
    if not isinstance(image, Nifti1Pair):
        return (NOWHERE.format("it is an Analyze file"),)
    header = image.header
    notes = []
    if header["sform_code"] == 0 and header["qform_code"] == 0:
        notes.append(NOWHERE.format("no sform and no qform"))
    if header["sform_code"] > 0 and header["qform_code"] > 0:
        sizes = (*image.shape, 1)[:3]
        if not forms_agree(header, sizes):
            notes.append("The file states two different positions; its sform is used.")
    if int(header["xyzt_units"]) & 7 in (1, 3):
        notes.append("The file gives lengths in metres or micrometres; they are taken as mm.")
    return tuple(notes)


def forms_agree(header: Nifti1Header, sizes: tuple[int, ...]) -> bool:
    """Whether sform and qform differ by no more than a tenth of a voxel."""
    try:
        qform = header.get_qform()
    except ValueError:
        return False
    sform = header.get_sform()
    voxel = float(np.linalg.norm(sform[:3, :3], axis=0).min())
    return corner_distance(sizes, sform, qform) <= voxel / 10.0
