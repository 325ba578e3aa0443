"""DICOM folders: which series are there, and one of them as a volume.

Files are told by content, grouped by SeriesInstanceUID, divided into volumes and sorted by
position. A series is known to people by eight hexadecimal digits derived from its UID; the
UID itself, file names and patient tags are never shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dante.errors import SeriesChoice, VolumeError
from napari_dante.volume.dicom_file import Header, read_header
from napari_dante.volume.dicom_pixels import read_pixels
from napari_dante.volume.dicom_slice import Slice, as_slices
from napari_dante.volume.dicom_source import dicom_files
from napari_dante.volume.dicom_split import Part, split
from napari_dante.volume.dicom_stack import Stack, stack
from napari_dante.volume.geometry import Geometry
from napari_dante.volume.volume import Volume

__all__ = ["DicomScan", "Refusal", "SeriesInfo", "one_series", "read_dicom", "scan_dicom"]

_SERIES = "series "


@dataclass(frozen=True)
class Refusal:
    """Something in a folder that cannot be opened, and why.

    Parameters
    ----------
    what
        ``"series 1a2b3c4d"``, or ``"file 3 of 24"`` counting in order of file names.
    why
        One sentence.
    """

    what: str
    why: str


@dataclass(frozen=True)
class SeriesInfo:
    """A series that can be opened.

    Parameters
    ----------
    id
        Eight hexadecimal digits, the same wherever and whenever the series is read; where
        it holds several volumes, followed by what tells them apart, such as ``-te-4.6-ms``.
    description
        What the operator called it; for the screen only.
    modality
        Such as ``"MR"``.
    geometry
        Stored axes are (columns, rows, slices).
    problems
        What the person should know, one sentence each.
    """

    id: str
    description: str = field(repr=False)
    modality: str
    geometry: Geometry
    problems: tuple[str, ...]
    stack: Stack = field(repr=False)


@dataclass(frozen=True)
class DicomScan:
    """What a folder holds: series that can be opened, and what cannot."""

    series: list[SeriesInfo]
    refused: list[Refusal]


def scan_dicom(path: str | Path) -> DicomScan:
    """Find the series in a folder and its subfolders; only headers are read.

    The path may also be a zip archive, a DICOMDIR, or a single file.

    Raises
    ------
    VolumeError
        There is nothing at `path`, or no DICOM at all.
    """
    with dicom_files(Path(path)) as (files, absent):
        return _scan(files, absent)


def _scan(files: list[Path], absent: int) -> DicomScan:
    groups, refused = _group(files)
    if absent:
        why = f"{absent} files that the DICOMDIR lists are not here."
        refused.append(Refusal("DICOMDIR", why))
    series, lost = [], _lost_files(len(refused) - bool(absent) + absent)
    for key, headers in sorted(groups.items()):
        try:
            parts = split([one for header in headers for one in as_slices(header)])
        except VolumeError as error:
            refused.append(Refusal(_SERIES + key, error.sentence))
            continue
        for part in parts:
            try:
                series.append(_info(key, part, lost))
            except VolumeError as error:
                refused.append(Refusal(_SERIES + key + part.suffix, error.sentence))
    if not series and not refused:
        raise VolumeError("There are no DICOM images here.")
    return DicomScan(series, refused)


def read_dicom(path: str | Path, series: str | None = None) -> Volume:
    """Read one volume of a folder, a zip archive, a DICOMDIR or a single file.

    Stored pixels become values slice by slice (RescaleSlope, RescaleIntercept). Whole
    numbers stay whole numbers where no slice is scaled; otherwise values are float32
    (float64 where pixels have 32 bits).

    Parameters
    ----------
    path
        A folder, a file, a DICOMDIR or a zip archive.
    series
        The `SeriesInfo.id` to open; needed where there are several.

    Raises
    ------
    SeriesChoice
        There are several series and none was chosen.
    VolumeError
        There is none that can be opened, and the sentence says why.
    """
    with one_series(Path(path), series) as info:
        values = _values(info.stack)
    return Volume(
        info.geometry.to_display(values),
        info.geometry,
        modality=info.modality,
        name=f"{info.modality} {info.id}",
        source=Path(path),
        series=info.id,
        problems=info.problems,
    )


@contextmanager
def one_series(path: Path, series: str | None) -> Iterator[SeriesInfo]:
    """Give the wanted series of a path; its files are there as long as the block lasts.

    Raises
    ------
    SeriesChoice, VolumeError
        As for `read_dicom`.
    """
    with dicom_files(path) as (files, absent):
        yield _choose(_scan(files, absent), series)


def _group(files: list[Path]) -> tuple[dict[str, list[Header]], list[Refusal]]:
    groups: dict[str, list[Header]] = {}
    refused = []
    for number, path in enumerate(files, start=1):
        try:
            header = read_header(path)
        except VolumeError as error:
            refused.append(Refusal(f"file {number} of {len(files)}", error.sentence))
            continue
        if header is not None:
            groups.setdefault(header.series, []).append(header)
    return groups, refused


def _lost_files(count: int) -> tuple[str, ...]:
    if not count:
        return ()
    return (f"Files of the folder that cannot be read: {count}; this series may lack slices.",)


def _info(key: str, part: Part, lost: tuple[str, ...]) -> SeriesInfo:
    found = stack(part.slices)
    first = found.slices[0].header
    description = ", ".join(filter(None, (first.description, part.words)))
    problems = found.problems + _notes(part, first.modality) + lost
    return SeriesInfo(
        key + part.suffix, description, first.modality, found.geometry, problems, found
    )


def _notes(part: Part, modality: str) -> tuple[str, ...]:
    notes: tuple[str, ...] = ()
    if modality != "MR":
        notes += (f"Its modality is {modality}, not MR; models for MR may fail on it.",)
    if part.most > len(part.slices):
        notes += (
            f"Another volume of this series has {part.most} slices, this one "
            f"{len(part.slices)}; slices may be missing at its ends.",
        )
    return notes


def _choose(scan: DicomScan, wanted: str | None) -> SeriesInfo:
    ids = [one.id for one in scan.series]
    if wanted is not None:
        return _named(scan, wanted)
    if not ids:
        raise VolumeError(_nothing_opens(scan.refused))
    if len(ids) > 1:
        raise SeriesChoice(
            f"There are {len(ids)} volumes here ({', '.join(ids)}); choose one of them.", ids
        )
    return scan.series[0]


def _named(scan: DicomScan, wanted: str) -> SeriesInfo:
    for one in scan.series:
        if one.id == wanted:
            return one
    for refusal in scan.refused:
        if refusal.what == _SERIES + wanted:
            raise VolumeError(refusal.why)
    parts = [one.id for one in scan.series if one.id.startswith(f"{wanted}-")]
    if parts:
        raise SeriesChoice(
            f"This series holds several volumes ({', '.join(parts)}); choose one of them.", parts
        )
    known = ", ".join(one.id for one in scan.series) or "none that can be opened"
    raise VolumeError(f"There is no such series here; there is: {known}.")


def _nothing_opens(refused: list[Refusal]) -> str:
    if len(refused) == 1:
        return refused[0].why
    first = next((one for one in refused if one.what.startswith(_SERIES)), refused[0])
    return f"None of {len(refused)} can be opened; {first.what}: {first.why}"


def _values(found: Stack) -> NDArray[Any]:
    """Return the values of a stack, axes (columns, rows, slices), slices contiguous."""
    slices = found.slices
    kind = np.result_type(*(one.dtype for one in slices))
    scaled = any(one.is_scaled for one in slices)
    if scaled:
        kind = np.dtype(np.float32 if kind.itemsize <= 2 else np.float64)
    values = np.empty((len(slices), slices[0].rows, slices[0].columns), dtype=kind)
    for numbers in _by_file(slices):
        wanted = [slices[number] for number in numbers]
        for number, one, pixels in zip(numbers, wanted, read_pixels(wanted), strict=True):
            values[number] = (
                pixels.astype(np.float64) * one.slope + one.intercept if scaled else pixels
            )
    return values.transpose(2, 1, 0)


def _by_file(slices: Sequence[Slice]) -> list[list[int]]:
    """Return the places in a stack of each file's slices."""
    files: dict[Path, list[int]] = {}
    for number, one in enumerate(slices):
        files.setdefault(one.header.path, []).append(number)
    return list(files.values())
