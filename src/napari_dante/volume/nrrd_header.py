"""What the header of a NRRD file says; Slicer keeps segmentations in it (.seg.nrrd).

The header is parsed by pynrrd; the voxels are read like those of every other format.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nrrd
import numpy as np
from numpy.typing import NDArray

from napari_dante.errors import VolumeError
from napari_dante.volume.file_header import DAMAGED, NOWHERE, Header, check_size
from napari_dante.volume.geometry import Geometry
from napari_dante.volume.volume import Label, default_label

__all__ = ["NRRD_ERRORS", "NRRD_MAGIC", "read_nrrd_header"]

NRRD_MAGIC = b"NRRD"
NRRD_ERRORS = (nrrd.NRRDError,)

_LONGEST = 4 << 20
_END = re.compile(rb"\r?\n\r?\n")
_TO_RAS = {
    **dict.fromkeys(("left-posterior-superior", "lps"), (-1.0, -1.0, 1.0)),
    **dict.fromkeys(("right-anterior-superior", "ras"), (1.0, 1.0, 1.0)),
    **dict.fromkeys(("left-anterior-superior", "las"), (-1.0, 1.0, 1.0)),
}
_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_DTYPES = {name: np.dtype(kind) for kind, names in _TYPES.items() for name in names}
_SEGMENT = re.compile(r"Segment(\d+)_LabelValue")
_COLOURS = re.compile(r"rgb|hsv|xyz|complex|matrix|quaternion", re.IGNORECASE)


def read_nrrd_header(path: Path) -> Header:
    """Read the header of a .nrrd file, or of a .nhdr file with the voxels beside it.

    Raises
    ------
    VolumeError
        It is in a rare form of the format, in colour, or places its voxels nowhere.
    OSError, ValueError, TypeError, NRRDError, ...
        It is damaged (`nifti_file` turns these into a sentence).
    """
    with path.open("rb") as stream:
        whole = stream.read(_LONGEST)
    end = _END.search(whole)
    # Given text, pynrrd leaves names in other than Latin letters as they are.
    lines = whole[: end.start() if end else None].decode(errors="replace").splitlines()
    fields = nrrd.read_header(lines)
    voxels, start = _voxels(path, fields, end.end() if end else None)
    dtype = _dtype(fields)
    geometry, count, notes = _grid(fields)
    skip = int(fields.get("byte skip", fields.get("byteskip", 0)))
    packed = fields["encoding"] in ("gzip", "gz")
    if skip == -1 and not packed:
        size = dtype.itemsize * count * math.prod(geometry.stored_shape)
        start, skip = voxels.stat().st_size - size, 0
    if skip < 0 or start < 0:
        raise VolumeError(DAMAGED, "byte skip")
    header = Header(
        kind="NRRD",
        voxels=voxels,
        packed=packed,
        start=start,
        offset=skip,
        dtype=dtype,
        count=count,
        slope=1.0,
        intercept=0.0,
        geometry=geometry,
        labels=_segments(fields),
        label_problems=(),
        problems=notes,
    )
    check_size(header)
    return header


def _voxels(path: Path, fields: Mapping[str, Any], end: int | None) -> tuple[Path, int]:
    """Return the file that holds the voxels, and where in it they or what packs them begin."""
    if fields["encoding"] not in ("raw", "gzip", "gz"):
        raise VolumeError("The voxels of this NRRD file are written in a rare way; save it again.")
    if int(fields.get("line skip", fields.get("lineskip", 0))):
        raise VolumeError("The voxels of this NRRD file follow lines of text; save it again.")
    name = fields.get("data file", fields.get("datafile"))
    if name is None:
        if end is None:
            raise VolumeError(DAMAGED, "no end of the header")
        return path, end
    # Never a path that leads out of the folder of the header.
    if Path(name).name != name or "%" in name or name.startswith("LIST"):
        raise VolumeError("This NRRD header refers to several or distant files; save it as .nrrd.")
    if not (path.parent / name).is_file():
        raise VolumeError("This volume is split in two files, and the one with voxels is not here.")
    return path.parent / name, 0


def _dtype(fields: Mapping[str, Any]) -> np.dtype[Any]:
    dtype = _DTYPES.get(str(fields["type"]))
    if dtype is None:
        raise VolumeError("The NRRD file holds values of a kind that is not supported.")
    if dtype.itemsize > 1:
        dtype = dtype.newbyteorder("<" if fields["endian"] == "little" else ">")
    return dtype


def _grid(fields: Mapping[str, Any]) -> tuple[Geometry, int, tuple[str, ...]]:
    """Return where the voxels lie, how many volumes there are, and notes."""
    sizes = [int(size) for size in fields["sizes"]]
    if any(_COLOURS.search(kind) for kind in fields.get("kinds", ())):
        raise VolumeError("This is a colour picture; a grey-value volume is needed.")
    if len(sizes) not in (3, 4) or min(sizes) < 1:
        raise VolumeError(f"A volume has three axes, this one has {len(sizes)}.")
    directions, notes = _directions(fields, len(sizes))
    spatial = [bool(np.isfinite(row).all()) for row in directions]
    if spatial != [True] * 3 + [False] * (len(sizes) - 3):
        raise VolumeError(
            "The volumes or overlapping segments of this NRRD file are mixed voxel by voxel; "
            "save each as a file of its own."
        )
    signs = np.array([*_TO_RAS.get(_space(fields), (-1.0, -1.0, 1.0))])
    affine = np.eye(4)
    affine[:3, :3] = (directions[:3] * signs).T
    affine[:3, 3] = _origin(fields) * signs
    return Geometry.from_affine(sizes[:3], affine), math.prod(sizes[3:]), notes


def _directions(
    fields: Mapping[str, Any], axes: int
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Return the step along each axis, not finite where it is no axis of space."""
    stated = fields.get("space directions")
    if stated is not None:
        rows: Sequence[Any] = [[np.nan] * 3 if row is None else row for row in stated]
        directions = np.array(rows, dtype=np.float64)
        if directions.shape != (axes, 3):
            raise VolumeError(DAMAGED, "space directions")
        known = _space(fields) in _TO_RAS
        return directions, () if known else (NOWHERE.format("its space is not an anatomical one"),)
    spacings = np.array(fields.get("spacings", [1.0] * axes), dtype=np.float64)
    directions = np.full((axes, 3), np.nan)
    directions[:3] = np.diag(spacings[:3])
    return directions, (NOWHERE.format("no space directions"),)


def _space(fields: Mapping[str, Any]) -> str:
    return str(fields.get("space", "")).lower().removesuffix("-time")


def _origin(fields: Mapping[str, Any]) -> NDArray[np.float64]:
    stated = fields.get("space origin")
    return np.zeros(3) if stated is None else np.asarray(stated, dtype=np.float64)


def _segments(fields: Mapping[str, Any]) -> dict[int, Label] | None:
    """Return the names and colours of Slicer's segments, None where there are none."""
    labels = {}
    for key, value in fields.items():
        found = _SEGMENT.fullmatch(key)
        if not found:
            continue
        fallback = default_label(int(value))
        name = str(fields.get(f"Segment{found[1]}_Name") or fallback.name)
        colour = tuple(float(part) for part in fields.get(f"Segment{found[1]}_Color", "").split())
        labels[int(value)] = Label(name, colour if len(colour) == 3 else fallback.colour)
    return labels or None
