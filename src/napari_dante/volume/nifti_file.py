"""The bytes of a file: voxels read as they are stored, and written back as NIfTI."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.freesurfer.mghformat import MGHError
from nibabel.nifti1 import Nifti1Header, Nifti1Image
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from napari_dante.errors import SeriesChoice, VolumeError
from napari_dante.volume.file_header import DAMAGED, Header, open_voxels
from napari_dante.volume.geometry import Geometry
from napari_dante.volume.machine import is_large, room
from napari_dante.volume.nifti_header import forms_agree, read_header
from napari_dante.volume.nrrd_header import NRRD_ERRORS, NRRD_MAGIC, read_nrrd_header
from napari_dante.volume.progress import Tell, untold
from napari_dante.volume.quiet import quietly

__all__ = [
    "Stored",
    "read_file_header",
    "read_stored",
    "stored_header",
    "stored_image",
    "write_stream",
]

_SCANNER = 1
# No gzip file shrinks its content more than this.
_DENSEST = 1100
_PIECE = 1 << 22
_BROKEN = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    ZeroDivisionError,
    np.linalg.LinAlgError,
    zlib.error,
    ImageFileError,
    HeaderDataError,
    MGHError,
    *NRRD_ERRORS,
)


@dataclass(frozen=True)
class Stored:
    """One volume of a file as it is stored.

    Parameters
    ----------
    raw
        Values before scaling, axes (i, j, k) of the file.
    header
        What the file says about them.
    """

    raw: NDArray[Any]
    header: Header

    @property
    def is_scaled(self) -> bool:
        """Whether the stored values are not yet the values of the image."""
        return (self.header.slope, self.header.intercept) != (1.0, 0.0)


def stored_header(path: Path) -> Header:
    """Read what a file says about its voxels; a packed file is read to its end.

    Raises
    ------
    VolumeError
        As for `read_stored`.
    """
    with _told():
        header = _header(path)
        with _open(header) as stream:
            _read_to_the_end(stream)
        return header


def read_file_header(path: Path) -> Header:
    """Read the header of a file; nothing is known yet of its voxels.

    Raises
    ------
    VolumeError
        As for `read_stored`.
    """
    with _told():
        return _header(path)


def _header(path: Path) -> Header:
    with path.open("rb") as stream:
        is_nrrd = stream.read(len(NRRD_MAGIC)) == NRRD_MAGIC
    return read_nrrd_header(path) if is_nrrd else read_header(path)


def _open(header: Header) -> AbstractContextManager[BinaryIO]:
    return open_voxels(header.voxels, packed=header.packed, start=header.start)


def read_stored(path: Path, series: str | None = None, tell: Tell = untold) -> Stored:
    """Read one volume of a NIfTI (either version, packed, pair), Analyze, MGH or NRRD file.

    More than a quarter of the main memory is not read but mapped, where the voxels stand in
    the file as numbers of this machine: they are read when they are looked at, and writing
    to them does not change the file. Otherwise so much is unpacked into a mapped file.

    Parameters
    ----------
    path
        The file, or one half of a pair.
    series
        ``"1"``, ``"2"``, ...: which volume; needed where there are several.
    tell
        Hears how far it is, from 0 to 1.

    Raises
    ------
    SeriesChoice
        There are several volumes and none was chosen.
    VolumeError
        The file is missing, not such a file, damaged, in colour, or places its voxels
        nowhere.
    """
    with _told():
        header = _header(path)
        offset = header.offset + _chosen(header.count, series) * header.volume_bytes
        if is_large(header.volume_bytes) and not header.packed and header.dtype.isnative:
            return Stored(_mapped(header, offset), header)
        with _open(header) as stream:
            stream.seek(offset, os.SEEK_CUR)
            raw = _read_voxels(stream, header, tell)
            _read_to_the_end(stream)
    if not raw.dtype.isnative:
        raw = raw.byteswap(inplace=True).view(raw.dtype.newbyteorder("="))
    return Stored(raw, header)


@contextmanager
def _told() -> Iterator[None]:
    """Turn what goes wrong with a file into a sentence."""
    try:
        with np.errstate(all="ignore"), quietly():
            yield
    except FileNotFoundError:
        raise VolumeError("The file does not exist.") from None
    except IsADirectoryError:
        raise VolumeError("This is a folder, not a NIfTI file.") from None
    except PermissionError:
        raise VolumeError("You may not read this file.") from None
    except MemoryError:
        raise VolumeError("The volume does not fit into the memory of this computer.") from None
    except _BROKEN as error:
        raise VolumeError(DAMAGED, type(error).__name__) from None


def _chosen(count: int, series: str | None) -> int:
    """Return which volume is wanted, counted from 0."""
    if series is None and count > 1:
        raise SeriesChoice(
            f"The file holds {count} volumes (time points or channels), numbered 1 to {count}; "
            "choose one of them.",
            [str(number + 1) for number in range(count)],
        )
    wanted = series or "1"
    if not wanted.isdecimal() or not 1 <= int(wanted) <= count:
        known = "1" if count == 1 else f"1 to {count}"
        raise VolumeError(f"There is no such series here; there is: {known}.")
    return int(wanted) - 1


def _mapped(header: Header, offset: int) -> NDArray[Any]:
    return np.memmap(
        header.voxels,
        header.dtype,
        mode="c",
        offset=header.start + offset,
        shape=header.geometry.stored_shape,
        order="F",
    )


def _read_voxels(stream: BinaryIO, header: Header, tell: Tell) -> NDArray[Any]:
    content = _place_for(header)
    view, filled = content.data, 0
    while filled < len(view):
        read = stream.readinto(view[filled : filled + _PIECE])  # type: ignore[attr-defined]
        if not read:
            raise VolumeError(DAMAGED, "fewer voxels than the header says")
        filled += read
        tell(filled / len(view))
    return content.view(header.dtype).reshape(header.geometry.stored_shape, order="F")


def _place_for(header: Header) -> NDArray[np.uint8]:
    """Return an array for the voxels; a header that cannot be true gets no place on the disk.

    Memory that is never written to is never taken, so there such a header does no harm.
    """
    size = header.voxels.stat().st_size * (_DENSEST if header.packed else 1)
    if size < header.volume_bytes:
        return np.empty(header.volume_bytes, np.uint8)
    return room((header.volume_bytes,), np.uint8)


def _read_to_the_end(stream: BinaryIO) -> None:
    """Read what follows the voxels: only the end of a gzip stream proves it intact."""
    if isinstance(stream, gzip.GzipFile):
        while stream.read(1 << 20):
            pass


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
    if header["sform_code"] and not forms_agree(header, geometry.stored_shape):
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
