"""What a file of one piece says before a voxel of it is read, whatever its format."""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from napari_dante.errors import VolumeError
from napari_dante.volume.geometry import Geometry
from napari_dante.volume.volume import Label

__all__ = ["DAMAGED", "NOWHERE", "Header", "check_size", "is_packed", "open_voxels"]

DAMAGED = "The file is damaged or cut short; copy or export it again."
NOWHERE = "The file does not say how the patient lies ({}); left and right are a guess."
_GZIP_MAGIC = b"\x1f\x8b"
# The most that deflate can pack.
_DENSEST = 1032


@dataclass(frozen=True)
class Header:
    """Where the voxels of a file are, what kind they are and where they lie.

    Parameters
    ----------
    kind
        ``"NIfTI"``, ``"NIfTI-2"``, ``"NIfTI pair"``, ``"Analyze"``, ``"MGH"``, ``"NRRD"``, ...
    voxels
        The file that holds the voxels; the header itself may be in another one.
    packed
        Whether they are packed by gzip.
    start
        Bytes of that file before the voxels, or before what is packed.
    offset
        Bytes before the first voxel from there, unpacked.
    dtype
        Kind of the stored values, in the byte order of the file.
    count
        How many volumes (time points, channels) follow each other.
    slope, intercept
        value = stored * slope + intercept.
    geometry
        Where the voxels of each volume are.
    labels
        Names and colours of labels; None where the file does not say that it holds labels.
    label_problems
        What is wrong with them.
    problems
        What the person should know about the file.
    """

    kind: str
    voxels: Path
    packed: bool
    start: int
    offset: int
    dtype: np.dtype[Any]
    count: int
    slope: float
    intercept: float
    geometry: Geometry
    labels: Mapping[int, Label] | None
    label_problems: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def volume_bytes(self) -> int:
        """Bytes of one volume."""
        return math.prod(self.geometry.stored_shape) * self.dtype.itemsize


def is_packed(path: Path) -> bool:
    """Whether the content of a file is gzip."""
    with path.open("rb") as stream:
        start = stream.read(2)
    if not start:
        raise VolumeError("The file is empty.")
    return start == _GZIP_MAGIC


@contextmanager
def open_voxels(path: Path, *, packed: bool, start: int = 0) -> Iterator[BinaryIO]:
    """Open a file from its byte `start` on, unpacked where it is packed."""
    with ExitStack() as stack:
        stream = stack.enter_context(path.open("rb"))
        stream.seek(start)
        yield cast("BinaryIO", stack.enter_context(gzip.open(stream))) if packed else stream


def check_size(header: Header) -> None:
    """Refuse a header that claims more voxels than its file can hold, before any is read.

    Raises
    ------
    VolumeError
        It does.
    """
    size = header.voxels.stat().st_size - header.start
    claimed = header.offset + header.count * header.volume_bytes
    if claimed > (size * _DENSEST if header.packed else size):
        raise VolumeError(DAMAGED, "the header claims more voxels than the file holds")
