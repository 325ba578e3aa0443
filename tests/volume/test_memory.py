"""Large volumes stay on disk where they can, and it is said where they cannot."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from platformdirs import user_cache_path

from napari_dante.errors import VolumeError
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


MAKERS = [lambda folder: written(folder / "a.nii.gz"), scaled, swapped, series]


@pytest.mark.parametrize("make", MAKERS, ids=["packed", "rescaled", "swapped", "series"])
def test_what_cannot_stay_in_its_file_gets_one_without_a_name(
    tmp_path: Path, little_memory: Callable[[float], None], make: Callable[..., Path]
) -> None:
    path = make(tmp_path)
    small = open_volume(path)
    assert not lies_in_a_file(small.array)
    little_memory(3)
    large = open_volume(path)
    assert lies_in_a_file(large.array)
    assert large.problems == small.problems == ()
    np.testing.assert_array_equal(large.array, small.array)
    large.array[:] = 7
    assert (large.array == 7).all()
    assert not [file for file in cache().rglob("*") if file.is_file()]


def cache() -> Path:
    return user_cache_path("napari-dante")


@pytest.mark.parametrize("make", MAKERS, ids=["packed", "rescaled", "swapped", "series"])
def test_without_a_place_on_the_disk_it_is_in_memory_and_that_is_said(
    tmp_path: Path, little_memory: Callable[[float], None], make: Callable[..., Path]
) -> None:
    path = make(tmp_path)
    little_memory(3)
    cache().parent.mkdir(parents=True, exist_ok=True)
    cache().write_text("not a folder")
    volume = open_volume(path)
    assert not lies_in_a_file(volume.array)
    (problem,) = volume.problems
    assert "no place for it on the disk" in problem


def test_a_full_disk_is_seen_before_the_array_is_filled(
    little_memory: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    little_memory(3)
    assert lies_in_a_file(machine.room(SHAPE, "i2"))
    monkeypatch.setattr(machine, "_LEFT_FREE", 1 << 62)
    assert not lies_in_a_file(machine.room(SHAPE, "i2"))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_header_that_cannot_be_true_takes_no_place_on_the_disk(
    tmp_path: Path,
    little_memory: Callable[[float], None],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    path = tmp_path / name
    image = nib.Nifti1Image(np.zeros((4, 4, 4), ">i2"), OBLIQUE, nib.Nifti1Header(endianness=">"))
    image.header.set_data_shape((1024, 1024, 1024))
    content = image.header.binaryblock + b"\0" * 132
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    little_memory(9)
    monkeypatch.setattr(machine, "_reserve", lambda *_: pytest.fail("took a place"))
    with pytest.raises(VolumeError):
        open_volume(path)


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
