"""Large volumes stay on disk where they can, and it is said where they cannot."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from napari_dante.volume import machine, open_labels, open_volume, write_nifti
from napari_dante.volume.progress import in_threads
from tests.volume.dicom_series import write_series
from tests.volume.grids import rotation, straight_affine

OBLIQUE = rotation(12, -7, 20) @ straight_affine("LIP")
SHAPE = (64, 60, 50)
BYTES = 64 * 60 * 50 * 2


def content(dtype: str = "i2") -> NDArray[np.generic]:
    return np.random.default_rng(2).integers(0, 100, SHAPE).astype(dtype)


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let a volume of the shape be that many quarters of the memory."""

    def set_quarters(quarters: float) -> None:
        monkeypatch.setattr(machine, "memory", lambda: int(BYTES * 4 / quarters))

    return set_quarters


def lies_in_a_file(array: NDArray[np.generic]) -> bool:
    base: object = array
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap):
            return True
        base = base.base
    return False


def written(path: Path, dtype: str = "i2") -> Path:
    kind = nib.Nifti1Pair if path.suffix == ".img" else nib.Nifti1Image
    kind(content(dtype), OBLIQUE).to_filename(path)
    return path


@pytest.mark.parametrize("quarters", [0.99, 1.01])
@pytest.mark.parametrize("name", ["a.nii", "a.img"])
def test_more_than_a_quarter_of_the_memory_stays_in_the_file(
    tmp_path: Path, little_memory: Callable[[float], None], quarters: float, name: str
) -> None:
    path = written(tmp_path / name)
    small = open_volume(path)
    little_memory(quarters)
    tracemalloc.start()
    large = open_volume(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert lies_in_a_file(large.array) == (quarters > 1)
    assert (peak < BYTES / 2) == (quarters > 1)
    np.testing.assert_array_equal(large.array, small.array)
    assert large.geometry == small.geometry
    assert large.problems == small.problems


def test_what_is_painted_on_a_mapped_volume_is_not_in_its_file(
    tmp_path: Path, little_memory: Callable[[float], None]
) -> None:
    path, image = tmp_path / "a.nii", open_volume(written(tmp_path / "b.nii"))
    write_nifti(path, image.array.astype(np.int16) * 300, image.geometry, {})
    before = path.read_bytes()
    little_memory(9)
    labels = open_labels(path)
    assert lies_in_a_file(labels.array)
    labels.array[:] = 0
    assert path.read_bytes() == before


def test_no_numbers_in_a_mapped_volume_become_zero(
    tmp_path: Path, little_memory: Callable[[float], None]
) -> None:
    array = content("f4")
    array[3, 4, 5] = np.nan
    nib.Nifti1Image(array, OBLIQUE).to_filename(tmp_path / "a.nii")
    little_memory(9)
    volume = open_volume(tmp_path / "a.nii")
    assert lies_in_a_file(volume.array)
    assert np.isfinite(volume.array).all()
    assert "1 voxels held no number" in volume.problems[0]


def scaled(folder: Path) -> Path:
    image = nib.Nifti1Image(content(), OBLIQUE)
    image.header.set_slope_inter(2, 1)
    image.to_filename(folder / "a.nii")
    return folder / "a.nii"


def swapped(folder: Path) -> Path:
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    nib.Nifti1Image(content(), OBLIQUE, header).to_filename(folder / "a.nii")
    return folder / "a.nii"


def series(folder: Path) -> Path:
    write_series(folder / "d", content(), OBLIQUE)
    return folder / "d"


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda folder: written(folder / "a.nii.gz"), "is packed"),
        (scaled, "is rescaled"),
        (swapped, "byte order"),
        (series, "is DICOM"),
    ],
)
def test_what_has_to_be_read_whole_is_said_with_the_reason(
    tmp_path: Path, little_memory: Callable[[float], None], make: Callable[..., Path], why: str
) -> None:
    path = make(tmp_path)
    small = open_volume(path)
    assert small.problems == ()
    little_memory(3)
    (problem,) = open_volume(path).problems
    assert why in problem
    assert "plain .nii" in problem


def test_a_series_is_read_without_a_second_copy(tmp_path: Path) -> None:
    array = np.zeros((256, 256, 40), np.uint16)
    write_series(tmp_path, array, OBLIQUE)
    open_volume(tmp_path)
    tracemalloc.start()
    open_volume(tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.6 * array.nbytes


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "d"])
def test_progress_runs_from_nothing_to_all(tmp_path: Path, name: str) -> None:
    path = series(tmp_path) if name == "d" else written(tmp_path / name)
    told: list[float] = []
    open_volume(path, tell=told.append)
    assert told == sorted(told)
    assert told[0] > 0
    assert told[-1] == 1.0
    if name == "d":
        assert len(told) == 2 * SHAPE[2]


def test_threads_keep_the_order_and_stop_at_an_error() -> None:
    assert list(in_threads(lambda number: number * 2, range(50))) == list(range(0, 100, 2))
    begun = []

    def fail(number: int) -> None:
        begun.append(number)
        if number == 3:
            raise KeyError

    with pytest.raises(KeyError):
        list(in_threads(fail, range(2_000)))
    assert len(begun) < 2_000
