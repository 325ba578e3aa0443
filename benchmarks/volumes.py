"""A DICOM series from disk to an array: our reader against SimpleITK's, which is GDCM's.

Both find the files of a folder, sort them by position and return one volume. The slices have
the header of a real scanner, a hundred tags and more, and uncompressed pixels. Time is given
twice: processor time, which says what the work costs, and the clock on the wall, since our
reader uses more than one thread. Memory is the peak of a process that reads once, above what
it held before, in sizes of the array.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import UID

from benchmarks.pairs import Result, Row, fresh, in_turn, memory, ratio, rounds
from napari_dante.volume import read_dicom

__all__ = ["run"]

SIDE = 512
GAP = 0.7
ABSENT = "SimpleITK is not installed, so there is nothing to measure against: pip install SimpleITK"


def write_series(folder: Path, slices: int) -> None:
    """Write a series whose file names are not in the order of its slices."""
    source = dcmread(str(get_testdata_file("MR_small.dcm", download=False)))
    dice = np.random.default_rng(0)
    names = dice.permutation(slices)
    source.Rows = source.Columns = SIDE
    for number in range(slices):
        source.SOPInstanceUID = source.file_meta.MediaStorageSOPInstanceUID = UID(f"1.2.3.{number}")
        source.InstanceNumber = int(names[number]) + 1
        source.ImagePositionPatient = [-100.0, -120.0, number * GAP]
        source.PixelData = dice.integers(0, 4000, (SIDE, SIDE)).astype("<i2").tobytes()
        source.save_as(folder / f"IM{names[number]:04d}")


def ours(folder: str) -> NDArray[Any]:
    """Read the series of a folder with our reader, (z, y, x)."""
    return read_dicom(folder).array


def theirs(folder: str) -> Any:  # noqa: ANN401 (SimpleITK has no types)
    """Read the series of a folder as an image of SimpleITK."""
    import SimpleITK

    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(folder))
    return reader.Execute()


def check(folder: str) -> None:
    """Stop unless both read the same values in the same order."""
    import SimpleITK

    image = theirs(folder)
    np.testing.assert_array_equal(ours(folder), SimpleITK.GetArrayViewFromImage(image))


def peak(variant: str, folder: str, size: int) -> float:
    """Return the most memory that a reading takes, in units of `size`; in a new process."""
    read = {"ours": ours, "SimpleITK": theirs}[variant]
    with tempfile.TemporaryDirectory() as small:
        write_series(Path(small), 2)
        read(small)  # whatever is loaded once is no part of it
    before, _ = memory()
    volume = read(folder)
    highest = memory()[1]
    del volume
    return (highest - before) / size


def run(quick: bool) -> Result:
    """Read 300 slices of 512 by 512, or 60 of them."""
    slices = 60 if quick else 300
    with tempfile.TemporaryDirectory() as folder:
        write_series(Path(folder), slices)
        size = slices * SIDE * SIDE * 2
        figures: dict[str, Any] = {"ours": {"peak": fresh(peak, "ours", folder, size)}}
        if find_spec("SimpleITK") is None:
            row = Row(f"{slices} slices", "ours", _memory(figures["ours"]))
            return Result({**figures, "skipped": ABSENT}, [row, Row("", "SimpleITK", ABSENT)])
        check(folder)
        figures["SimpleITK"] = {"peak": fresh(peak, "SimpleITK", folder, size)}
        variants = {"ours": lambda: ours(folder), "SimpleITK": lambda: theirs(folder)}
        for name, clock in (("processor", time.process_time), ("wall", time.perf_counter)):
            seconds = in_turn(variants, rounds(quick), clock)
            for variant, found in figures.items():
                found[f"{name} seconds"] = statistics.median(seconds[variant])
                found[f"{name} / SimpleITK"] = ratio(seconds[variant], seconds["SimpleITK"])
    return Result(figures, [_row(slices, *one) for one in figures.items()])


def _row(slices: int, variant: str, found: dict[str, float]) -> Row:
    times = ", ".join(
        f"{name} {found[f'{name} seconds']:.2f} s ({found[f'{name} / SimpleITK']:.2f}x)"
        for name in ("processor", "wall")
    )
    return Row(f"{slices} slices", variant, f"{times}; {_memory(found)}")


def _memory(found: dict[str, float]) -> str:
    return f"peak {found['peak']:.2f} of the array"
