"""The files a DICOM path stands for: a folder, a file, a DICOMDIR or a zip archive."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydicom import dcmread
from pydicom.filereader import read_file_meta_info
from pydicom.uid import MediaStorageDirectoryStorage

from napari_dante.errors import VolumeError
from napari_dante.volume.dicom_file import UNREADABLE
from napari_dante.volume.quiet import quietly
from napari_dante.volume.sniff import BROKEN_ZIP, is_archive, packed_dicom

__all__ = ["Files", "dicom_files"]

_MOST_BYTES = 8 << 30
_MOST_ENTRIES = 100_000
# Images shrink two or three times; a bomb shrinks hundreds of times.
_DENSEST = 100
_ALWAYS_ALLOWED = 256 << 20
_PIECE = 1 << 20
_DAMAGED_ZIP = "The zip archive is damaged or cut short; copy or export it again."

Files = tuple[list[Path], int]
"""What there is, and how many files are announced but absent."""


@contextmanager
def dicom_files(path: Path) -> Iterator[Files]:
    """Give the files to look at; an archive is unpacked for as long as the block lasts.

    Raises
    ------
    VolumeError
        There is nothing at `path`, or the archive or DICOMDIR cannot be used.
    """
    if path.is_dir():
        found = (Path(top) / name for top, _, names in os.walk(path) for name in names)
        yield sorted(one for one in found if one.is_file()), 0
    elif not path.is_file():
        raise VolumeError("The file or folder does not exist.")
    elif is_archive(path):
        with tempfile.TemporaryDirectory(prefix="napari-dante-") as folder:
            yield _unpack(path, Path(folder)), 0
    elif _is_dicomdir(path):
        yield _listed(path)
    else:
        yield [path], 0


def _unpack(path: Path, folder: Path) -> list[Path]:
    """Write the DICOM files of an archive into `folder`, under numbers for names."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [one for one in archive.infolist() if not one.is_dir()]
            _check_bounds(entries, path.stat().st_size, shutil.disk_usage(folder).free)
            left = _MOST_BYTES
            found = []
            for number, entry in enumerate(sorted(entries, key=lambda one: one.filename)):
                if packed_dicom(archive, entry):
                    found.append(folder / f"{number:06d}")
                    left -= _write(archive, entry, found[-1], left)
            return found
    except BROKEN_ZIP as error:
        raise VolumeError(_DAMAGED_ZIP, type(error).__name__) from None
    except OSError as error:
        raise VolumeError("The zip archive cannot be unpacked.", type(error).__name__) from None


def _check_bounds(entries: list[zipfile.ZipInfo], packed: int, free: int) -> None:
    if any(one.flag_bits & 1 for one in entries):
        raise VolumeError("The zip archive is locked with a password; unpack it first.")
    total = sum(one.file_size for one in entries)
    if total > _MOST_BYTES or len(entries) > _MOST_ENTRIES:
        raise VolumeError("The zip archive holds more than 8 GB or 100000 files; unpack it first.")
    if total > max(_ALWAYS_ALLOWED, _DENSEST * packed):
        raise VolumeError(
            "The zip archive would grow more than a hundredfold; it was not unpacked."
        )
    if total > free:
        raise VolumeError("There is not enough room on the disk to unpack the zip archive.")


def _write(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, left: int) -> int:
    """Unpack one file and return its size; sizes in an archive's index may be untrue."""
    written = 0
    with archive.open(entry) as packed, target.open("wb") as stream:
        while piece := packed.read(_PIECE):
            written += len(piece)
            if written > left:
                raise VolumeError("The zip archive holds more than it says; it was not opened.")
            stream.write(piece)
    return written


def _is_dicomdir(path: Path) -> bool:
    try:
        with quietly():
            kind = read_file_meta_info(path).get("MediaStorageSOPClassUID")
    except UNREADABLE:
        return False
    return bool(kind == MediaStorageDirectoryStorage)


def _listed(path: Path) -> Files:
    """Return the files that a DICOMDIR names, which all lie beside or below it."""
    try:
        with quietly():
            tags = dcmread(path, specific_tags=["DirectoryRecordSequence"])
            records = tags.get("DirectoryRecordSequence") or []
            names = [record.get("ReferencedFileID") for record in records]
    except UNREADABLE as error:
        raise VolumeError(
            "The DICOMDIR is damaged; open its folder instead.", type(error).__name__
        ) from None
    parts = [[name] if isinstance(name, str) else list(name) for name in names if name]
    folders: dict[Path, dict[str, Path]] = {}
    found = [_below(path.parent, one, folders) for one in parts]
    here = sorted({one for one in found if one is not None})
    if parts and not here:
        raise VolumeError(
            f"The DICOMDIR lists {len(parts)} files, and none of them is here; copy the whole disc."
        )
    return here, found.count(None)


def _below(folder: Path, parts: list[str], folders: dict[Path, dict[str, Path]]) -> Path | None:
    """Return the file that `parts` lead to, whatever the case of letters; None if absent."""
    place = folder
    for part in parts:
        if place not in folders:
            inside = place.iterdir() if place.is_dir() else ()
            folders[place] = {one.name.lower(): one for one in inside}
        # Only names that were listed are followed: none of them leads upwards.
        found = folders[place].get(str(part).lower())
        if found is None:
            return None
        place = found
    return place if place.is_file() else None
