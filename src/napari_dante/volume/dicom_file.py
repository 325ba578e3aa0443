"""The header of one DICOM file.

Only the tags listed here are ever parsed; those that name the patient are not among them.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)

from napari_dante.errors import VolumeError
from napari_dante.volume.dicom_frames import FRAME_TAGS
from napari_dante.volume.dicom_vendor import PLANNED_TAGS
from napari_dante.volume.quiet import quietly
from napari_dante.volume.sniff import START_BYTES, starts_like_dicom

__all__ = [
    "PIXEL_TAGS",
    "UNREADABLE",
    "Header",
    "read_header",
]

PIXEL_TAGS: list[Any] = [
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
]
_TAGS: list[Any] = [
    *PIXEL_TAGS,
    *FRAME_TAGS,
    "SOPClassUID",
    "SeriesInstanceUID",
    "SeriesDescription",
    "Modality",
    "ImagesInAcquisition",
    *PLANNED_TAGS,
]
UNREADABLE = (
    InvalidDicomError,
    BytesLengthException,
    EOFError,
    OSError,
    struct.error,
    zlib.error,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    MemoryError,
)
_MODALITIES = {"MR", "CT", "PT", "NM", "US", "OT", "SC", "XA", "RF", "CR", "DX", "MG", "RTDOSE"}
_META_BYTES = 2048
# What a header takes, as a rule: one look at the disk.
_HEADER_BYTES = 16384
_PIXEL_TAG = b"\xe0\x7f\x10\x00"
_PIXEL_TAG_BYTES = 12
_MOST_INFLATED = 512 << 20
_DAMAGED = "The file is damaged or cut short; copy or export it again."


@dataclass(frozen=True)
class Header:
    """The few tags of one file that a volume is built from.

    Parameters
    ----------
    path
        Where the file is; it never leaves the machine.
    tags
        The parsed tags.
    series
        Eight hexadecimal digits that stand for the SeriesInstanceUID.
    description
        What the operator called the series; for the screen only.
    modality
        Such as ``"MR"``.
    syntax
        The transfer syntax: how the pixels are packed.
    pixel_bytes
        How many bytes the file has left for pixels; None where that says nothing.
    pixels_at
        Where in the file the pixels begin, if they are little-endian numbers one after the
        other; None where they are packed in another way.
    """

    path: Path = field(repr=False)
    tags: FileDataset = field(repr=False)
    series: str
    description: str = field(repr=False)
    modality: str
    syntax: UID
    pixel_bytes: int | None
    pixels_at: int | None


def read_header(path: Path) -> Header | None:
    """Read the tags of one file; None where it is not DICOM, or only an index (DICOMDIR).

    Raises
    ------
    VolumeError
        The file is DICOM, but cannot be read or belongs to no series.
    """
    try:
        with quietly(), path.open("rb", buffering=_HEADER_BYTES) as stream:
            start = stream.read(_META_BYTES)
            if not starts_like_dicom(start[:START_BYTES]):
                return None
            _check_inflated(stream, start)
            stream.seek(0)
            tags = dcmread(stream, stop_before_pixels=True, force=True, specific_tags=_TAGS)
            at = stream.tell()
            start = stream.read(_PIXEL_TAG_BYTES)
            following = os.fstat(stream.fileno()).st_size - at
            if tags.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
                return None
            return _header(path, tags, at, start, following)
    except PermissionError:
        raise VolumeError("You may not read this file.") from None
    except UNREADABLE as error:
        raise VolumeError(_DAMAGED, type(error).__name__) from None


def _check_inflated(stream: BinaryIO, start: bytes) -> None:
    """Refuse a deflated file that would grow beyond all bounds, before it is inflated."""
    if DeflatedExplicitVRLittleEndian.encode() not in start:
        return
    # The group length (0002,0000) says where the deflated part begins.
    stream.seek(144 + int.from_bytes(start[140:144], "little"))
    inflate, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while piece := inflate.unconsumed_tail or stream.read(1 << 16):
        size += len(inflate.decompress(piece, 1 << 20))
        if size > _MOST_INFLATED:
            raise VolumeError("The file would grow beyond all bounds; it was not unpacked.")
        if inflate.eof:
            break


def _header(path: Path, tags: FileDataset, at: int, start: bytes, following: int) -> Header:
    """Return the header of a file whose pixel tag is at `at` and begins with `start`."""
    uid = str(tags.get("SeriesInstanceUID") or "")
    if not uid:
        raise VolumeError("The file does not say which series it belongs to.")
    syntax = _syntax(tags)
    measured = not (syntax.is_compressed or syntax == DeflatedExplicitVRLittleEndian)
    length = 8 if syntax.is_implicit_VR else _PIXEL_TAG_BYTES
    plain = measured and syntax.is_little_endian and start[:4] == _PIXEL_TAG
    if plain and not syntax.is_implicit_VR:
        plain = start[4:6] in (b"OW", b"OB")
    return Header(
        path,
        tags,
        series=hashlib.sha256(uid.encode()).hexdigest()[:8],
        description=str(tags.get("SeriesDescription") or ""),
        modality=_modality(tags),
        syntax=syntax,
        pixel_bytes=following - length if measured else None,
        pixels_at=at + length if plain else None,
    )


def _modality(tags: FileDataset) -> str:
    """Return the Modality where it is a code; other text might be anything."""
    code = str(tags.get("Modality") or "")
    return code if code in _MODALITIES else "unknown"


def _syntax(tags: FileDataset) -> UID:
    """Return the transfer syntax, told from the tags where a file has no preamble."""
    stated = tags.file_meta.get("TransferSyntaxUID")
    if stated is not None:
        return UID(stated)
    implicit, _ = tags.original_encoding
    return ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
