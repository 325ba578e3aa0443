"""DICOM folders: which series are there, and one of them as a volume.

Files are told by content, grouped by SeriesInstanceUID, divided into volumes and sorted by
position. A series is known to people by eight hexadecimal digits derived from its UID; the
UID itself, file names and patient tags are never shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dante.volume.dicom_pixels import read_values
from napari_dante.volume.dicom_scan import DicomScan, Refusal, SeriesInfo, choose, scan_files
from napari_dante.volume.dicom_slice import Slice
from napari_dante.volume.dicom_source import dicom_files
from napari_dante.volume.dicom_stack import Stack
from napari_dante.volume.machine import crowded, room
from napari_dante.volume.progress import Tell, in_threads, untold
from napari_dante.volume.quiet import quietly
from napari_dante.volume.volume import Volume

__all__ = ["DicomScan", "Refusal", "SeriesInfo", "one_series", "read_dicom", "scan_dicom"]


def scan_dicom(path: str | Path) -> DicomScan:
    """Find the series in a folder and its subfolders; only headers are read.

    The path may also be a zip archive, a DICOMDIR, or a single file.

    Raises
    ------
    VolumeError
        There is nothing at `path`, or no DICOM at all.
    """
    with dicom_files(Path(path)) as (files, absent):
        return scan_files(files, absent, untold)


def read_dicom(path: str | Path, series: str | None = None, tell: Tell = untold) -> Volume:
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
    tell
        Hears how far it is, from 0 to 1.

    Raises
    ------
    SeriesChoice
        There are several series and none was chosen.
    VolumeError
        There is none that can be opened, and the sentence says why.
    """
    with one_series(Path(path), series, lambda part: tell(part / 2)) as info:
        values = _values(info.stack, lambda part: tell((1 + part) / 2))
    return Volume(
        info.geometry.to_display(values),
        info.geometry,
        modality=info.modality,
        name=f"{info.modality} {info.id}",
        source=Path(path),
        series=info.id,
        problems=info.problems + crowded(values),
    )


@contextmanager
def one_series(path: Path, series: str | None, tell: Tell = untold) -> Iterator[SeriesInfo]:
    """Give the wanted series of a path; its files are there as long as the block lasts.

    Raises
    ------
    SeriesChoice, VolumeError
        As for `read_dicom`.
    """
    with dicom_files(path) as (files, absent):
        yield choose(scan_files(files, absent, tell), series)


def _values(found: Stack, tell: Tell) -> NDArray[Any]:
    """Return the values of a stack, axes (columns, rows, slices), slices contiguous."""
    slices = found.slices
    kind = np.result_type(*(one.dtype for one in slices))
    if any(one.is_scaled for one in slices):
        kind = np.dtype(np.float32 if kind.itemsize <= 2 else np.float64)
    values = room((len(slices), slices[0].rows, slices[0].columns), kind)
    files = _by_file(slices)
    done = 0

    def read(numbers: list[int]) -> int:
        read_values([slices[number] for number in numbers], [values[number] for number in numbers])
        return len(numbers)

    with quietly():
        for count in in_threads(read, files):
            done += count
            tell(done / len(slices))
    return values.transpose(2, 1, 0)


def _by_file(slices: Sequence[Slice]) -> list[list[int]]:
    """Return the places in a stack of each file's slices."""
    files: dict[Path, list[int]] = {}
    for number, one in enumerate(slices):
        files.setdefault(one.header.path, []).append(number)
    return list(files.values())
