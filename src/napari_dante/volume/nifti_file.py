"""The bytes of a NIfTI file: opening, checking and placing, before any value is used."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.nifti1 import Nifti1Header, Nifti1Image
from nibabel.nifti2 import Nifti2Image
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from napari_dante.errors import VolumeError
from napari_dante.volume.geometry import Geometry, corner_distance

__all__ = ["Stored", "read_stored", "stored_image", "write_stream"]

_GZIP_MAGIC = b"\x1f\x8b"
_DAMAGED = "The file is damaged or cut short; copy or export it again."
_NOT_NIFTI = "This is not a NIfTI file."
_SCANNER = 1
_BROKEN = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    OverflowError,
    zlib.error,
    ImageFileError,
    HeaderDataError,
)


@dataclass(frozen=True)
class Stored:
    """A NIfTI file as it is.

    Parameters
    ----------
    raw
        Values before scaling, axes (i, j, k) of the file.
    slope, intercept
        The scaling the file states: value = raw * slope + intercept.
    geometry
        Where the voxels are.
    extensions
        The header extensions, as nibabel gives them.
    problems
        What the person should know about the file.
    """

    raw: NDArray[Any]
    slope: float
    intercept: float
    geometry: Geometry
    extensions: list[Any]
    problems: tuple[str, ...]

    @property
    def is_scaled(self) -> bool:
        """Whether the stored values are not yet the values of the image."""
        return (self.slope, self.intercept) != (1.0, 0.0)


def read_stored(path: Path) -> Stored:
    """Read a single-file NIfTI (either version, packed or not) as it is stored.

    Raises
    ------
    VolumeError
        The file is missing, not a NIfTI file, damaged, in colour, holds several volumes,
        or places its voxels nowhere.
    """
    try:
        with _open(path) as stream:
            return _parse(stream)
    except FileNotFoundError:
        raise VolumeError("The file does not exist.") from None
    except IsADirectoryError:
        raise VolumeError("This is a folder, not a NIfTI file.") from None
    except PermissionError:
        raise VolumeError("You may not read this file.") from None
    except MemoryError:
        raise VolumeError("The volume does not fit into the memory of this computer.") from None
    except _BROKEN as error:
        raise VolumeError(_DAMAGED, type(error).__name__) from None


def _open(path: Path) -> BinaryIO:
    with path.open("rb") as stream:
        start = stream.read(2)
    if not start:
        raise VolumeError("The file is empty.")
    return cast("BinaryIO", gzip.open(path) if start == _GZIP_MAGIC else path.open("rb"))


def _parse(stream: BinaryIO) -> Stored:
    image = _header(stream)
    dtype = image.get_data_dtype()
    if dtype.fields is not None:
        raise VolumeError("This is a colour picture; a grey-value volume is needed.")
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise VolumeError("The file holds complex or extended numbers, which are not supported.")
    shape = _three_axes(image.shape)
    geometry = Geometry.from_affine(shape, image.affine)
    raw = np.asarray(image.dataobj.get_unscaled()).reshape(shape, order="F")
    _read_to_the_end(stream)
    if not raw.dtype.isnative:
        raw = raw.byteswap(inplace=True).view(raw.dtype.newbyteorder("="))
    slope, intercept = float(image.dataobj.slope), float(image.dataobj.inter)
    header = image.header
    return Stored(raw, slope, intercept, geometry, list(header.extensions), _notes(image))


def _header(stream: BinaryIO) -> Nifti1Image:
    start = stream.read(Nifti2Image.header_class.sizeof_hdr)
    stream.seek(0)
    for kind in (Nifti1Image, Nifti2Image):
        if kind.header_class.may_contain_header(start):
            break
    else:
        raise VolumeError(_DAMAGED if _cut_in_header(start) else _NOT_NIFTI)
    magic = start[344:347] if kind is Nifti1Image else start[4:7]
    if magic in (b"ni1", b"ni2"):
        raise VolumeError(
            "This NIfTI volume is split into .hdr and .img; convert it to a single .nii.gz."
        )
    return kind.from_file_map(kind.make_file_map({"image": stream}), mmap=False)


def _cut_in_header(start: bytes) -> bool:
    sizes = (size.to_bytes(4, order) for size in (348, 540) for order in ("little", "big"))
    return len(start) < 540 and start[:4] in sizes


def _three_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    count = int(np.prod(shape[3:], dtype=np.int64))
    if count != 1:
        raise VolumeError(
            f"The file holds {count} volumes (time points or channels); save the one you "
            "need as a file of its own."
        )
    if len(shape) < 2:
        raise VolumeError("The file holds no picture: it has fewer than two axes.")
    return (*shape, 1)[:3]


def _read_to_the_end(stream: BinaryIO) -> None:
    """Read what follows the voxels: only the end of a gzip stream proves it intact."""
    if isinstance(stream, gzip.GzipFile):
        while stream.read(1 << 20):
            pass


def _notes(image: Nifti1Image) -> tuple[str, ...]:
    header, shape = image.header, image.shape
    notes = []
    if header["sform_code"] == 0 and header["qform_code"] == 0:
        notes.append(
            "The file does not say how the patient lies (no sform and no qform); "
            "left and right are a guess."
        )
    if header["sform_code"] > 0 and header["qform_code"] > 0 and not _agree(header, shape):
        notes.append("The file states two different positions; its sform is used.")
    if int(header["xyzt_units"]) & 7 in (1, 3):
        notes.append("The file gives lengths in metres or micrometres; they are taken as mm.")
    return tuple(notes)


def _agree(header: Nifti1Header, shape: tuple[int, ...]) -> bool:
    """Whether sform and qform differ by no more than a tenth of a voxel."""
    try:
        qform = header.get_qform()
    except ValueError:
        return False
    sform = header.get_sform()
    voxel = float(np.linalg.norm(sform[:3, :3], axis=0).min())
    return corner_distance(_three_axes(shape), sform, qform) <= voxel / 10.0


def stored_image(stored: NDArray[Any], geometry: Geometry) -> Nifti1Image:
    """Return a nibabel image of a `stored` array; its header says nothing but the grid."""
    header = Nifti1Header()
    header.set_data_shape(stored.shape)
    header.set_data_dtype(stored.dtype)
    header.set_xyzt_units("mm")
    _place(header, geometry)
    return Nifti1Image(stored, header.get_best_affine(), header)


def _place(header: Nifti1Header, geometry: Geometry) -> None:
    """State the affine as sform and qform, or as the one form that holds it exactly."""
    affine = geometry.affine
    for sform, qform in ((_SCANNER, _SCANNER), (0, _SCANNER), (0, 0)):
        header.set_sform(affine, sform)
        header.set_qform(affine, qform)
        if np.array_equal(header.get_best_affine(), affine):
            break
    else:
        header.set_sform(affine, _SCANNER)
        header.set_qform(affine, _SCANNER)
    if header["sform_code"] and not _agree(header, geometry.stored_shape):
        # A sheared affine has no qform; a wrong one would mislead who prefers it.
        header["qform_code"] = 0


def write_stream(image: Nifti1Image, stream: BinaryIO, *, compressed: bool) -> None:
    """Write a nibabel image to an open binary stream."""
    if not compressed:
        image.to_stream(stream)
        return
    # No file name and no time in the gzip header: same voxels, same bytes.
    with gzip.GzipFile("", "wb", compresslevel=3, fileobj=stream, mtime=0) as packed:
        image.to_stream(packed)
