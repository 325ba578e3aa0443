"""Which volumes a pile of DICOM files holds, and why the rest cannot be opened."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from napari_dante.errors import SeriesChoice, VolumeError
from napari_dante.volume.dicom_file import Header, read_header
from napari_dante.volume.dicom_slice import Slice, as_slices
from napari_dante.volume.dicom_split import Part, split
from napari_dante.volume.dicom_stack import Stack, stack
from napari_dante.volume.geometry import Geometry
from napari_dante.volume.progress import Tell
from napari_dante.volume.quiet import quietly

__all__ = ["DicomScan", "Refusal", "SeriesInfo", "choose", "scan_files"]

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


def scan_files(files: list[Path], absent: int, tell: Tell) -> DicomScan:
    """Read the headers of `files` and group what they hold.

    Parameters
    ----------
    files
        Whatever there is; what is not DICOM is passed over.
    absent
        How many more files a DICOMDIR lists.
    tell
        Hears how far it is.

    Raises
    ------
    VolumeError
        There is no DICOM at all.
    """
    with quietly():
        return _scan(files, absent, tell)


def _scan(files: list[Path], absent: int, tell: Tell) -> DicomScan:
    groups, refused = _group(files, tell)
    if absent:
        why = f"{absent} files that the DICOMDIR lists are not here."
        refused.append(Refusal("DICOMDIR", why))
    series, lost = [], _lost_files(len(refused) - bool(absent) + absent)
    for key, headers in sorted(groups.items()):
        try:
            slices = [one for header in headers for one in as_slices(header)]
            parts = split(slices)
        except VolumeError as error:
            refused.append(Refusal(_SERIES + key, error.sentence))
            continue
        for part in parts:
            try:
                series.append(_info(key, part, _announced(slices) + lost))
            except VolumeError as error:
                refused.append(Refusal(_SERIES + key + part.suffix, error.sentence))
    if not series and not refused:
        raise VolumeError("There are no DICOM images here.")
    return DicomScan(series, refused)


def _group(files: list[Path], tell: Tell) -> tuple[dict[str, list[Header]], list[Refusal]]:
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
        tell(number / len(files))
    return groups, refused


def _announced(slices: list[Slice]) -> tuple[str, ...]:
    announced = max(one.announced for one in slices)
    if announced <= len(slices):
        return ()
    return (
        f"The scanner announces {announced} images in this acquisition, {len(slices)} are in "
        "this series.",
    )


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


def choose(scan: DicomScan, wanted: str | None) -> SeriesInfo:
    """Return the series with the id `wanted`, or the only one.

    Raises
    ------
    SeriesChoice
        There are several and none was chosen.
    VolumeError
        There is none such, and the sentence says why.
    """
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
