"""What a file is, told by its first bytes; nothing is parsed."""

from __future__ import annotations

import zipfile
import zlib
from itertools import islice
from pathlib import Path

__all__ = [
    "BROKEN_ZIP",
    "START_BYTES",
    "is_archive",
    "is_dicom",
    "is_dicom_archive",
    "packed_dicom",
    "starts_like_dicom",
]

BROKEN_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
    RuntimeError,
    EOFError,
    ValueError,
)
"""What reading a damaged zip archive can raise."""

START_BYTES = 132
"""How much of a file it takes to tell."""

_LOOKED_AT = 50


def is_dicom(path: Path) -> bool:
    """Whether the content of a file is DICOM, with or without the Part 10 preamble."""
    with path.open("rb") as stream:
        start = stream.read(START_BYTES)
    return starts_like_dicom(start)


def starts_like_dicom(start: bytes) -> bool:
    """Whether the first 132 bytes of a file are those of DICOM."""
    return start[128:] == b"DICM" or _starts_with_a_tag(start)


def _starts_with_a_tag(start: bytes) -> bool:
    """Whether a file without preamble starts with a first tag of group 0008."""
    if start[:2] != b"\x08\x00" or len(start) < 132:
        return False
    element = int.from_bytes(start[2:4], "little")
    short = start[4:6] in (b"UL", b"CS", b"DA", b"UI") or start[6:8] == b"\0\0"
    return element in (0x0000, 0x0001, 0x0005, 0x0008, 0x0012, 0x0016, 0x0018) and short


def is_archive(path: Path) -> bool:
    """Whether the content of a file is a zip archive."""
    with path.open("rb") as stream:
        return stream.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def is_dicom_archive(path: Path) -> bool:
    """Whether one of the first files in a zip archive is DICOM."""
    if not is_archive(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            files = (one for one in archive.infolist() if not one.is_dir())
            return any(packed_dicom(archive, one) for one in islice(files, _LOOKED_AT))
    except (*BROKEN_ZIP, OSError):
        return False


def packed_dicom(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bool:
    """Whether an entry of an archive is DICOM."""
    with archive.open(entry) as packed:
        return starts_like_dicom(packed.read(START_BYTES))
