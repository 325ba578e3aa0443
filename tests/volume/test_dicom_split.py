"""What one SeriesInstanceUID mixes comes back as the volumes that were mixed."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.uid import generate_uid

from napari_dante.errors import SeriesChoice, VolumeError
from napari_dante.volume import SeriesInfo, describe, open_volume, read_dicom, scan_dicom
from tests.volume.dicom_series import write_series
from tests.volume.grids import rotation, straight_affine

AXIAL = straight_affine("LPS")
OBLIQUE = rotation(12, -7, 20) @ AXIAL
SHAPE = (5, 4, 6)
UID = generate_uid(entropy_srcs=["split"])


def content(seed: int, shape: tuple[int, int, int] = SHAPE) -> NDArray[np.uint16]:
    return np.random.default_rng(seed).integers(0, 4000, shape).astype(np.uint16)


def mix(folder: Path, parts: list[dict[str, Any]], affine: NDArray[np.float64] = AXIAL) -> None:
    """Write volumes as one series, each with its tags, under names that say nothing."""
    paths = []
    for seed, tags in enumerate(parts):
        paths += write_series(folder / "raw", content(seed), affine, uid=UID, tags=tags)
        for number, path in enumerate(paths[-SHAPE[2] :]):
            paths[len(paths) - SHAPE[2] + number] = path.rename(path.with_name(f"{seed}_{number}"))
    random.Random(5).shuffle(paths)
    for number, path in enumerate(paths):
        path.rename(path.with_name(f"x{number:04d}"))


def stored(folder: Path, one: SeriesInfo) -> NDArray[np.generic]:
    volume = read_dicom(folder, one.id)
    return volume.geometry.to_stored(volume.array)


def by_words(folder: Path) -> dict[str, SeriesInfo]:
    scan = scan_dicom(folder)
    assert scan.refused == []
    return {one.description.removeprefix("t1").removeprefix(", "): one for one in scan.series}


@pytest.mark.parametrize("affine", [AXIAL, OBLIQUE], ids=["straight", "oblique"])
def test_24_positions_and_8_echoes_are_8_volumes(
    tmp_path: Path, affine: NDArray[np.float64]
) -> None:
    arrays = {}
    for echo in range(8):
        words = f"TE {2.3 * (echo + 1):g} ms"
        arrays[words] = content(echo, (5, 4, 24))
        tags = {"EchoTime": 2.3 * (echo + 1), "EchoNumbers": echo + 1}
        folder = tmp_path / f"{echo % 3}"
        write_series(folder, arrays[words], affine, uid=UID, tags=tags, shuffle_seed=echo)
        for path in folder.glob("IM*"):
            path.rename(path.with_name(f"{echo}{path.name[2:6]}"))
    found = by_words(tmp_path)
    assert list(found) == list(arrays)
    for words in arrays:
        np.testing.assert_allclose(found[words].geometry.affine, affine, atol=1e-4)
        assert found[words].problems == ()
    for words in ("TE 2.3 ms", "TE 9.2 ms", "TE 18.4 ms"):
        np.testing.assert_array_equal(stored(tmp_path, found[words]), arrays[words])
    with pytest.raises(SeriesChoice) as choice:
        open_volume(tmp_path)
    assert len(choice.value.ids) == 8
    whole = choice.value.ids[0][:8]
    with pytest.raises(SeriesChoice, match="several volumes") as choice:
        open_volume(tmp_path, whole)
    assert choice.value.ids == tuple(one.id for one in describe(tmp_path).volumes)


KINDS = {
    "b-value": ([{"DiffusionBValue": b} for b in (0.0, 500.0, 1000.0)], ["b 0", "b 500", "b 1000"]),
    "component": (
        [{"ImageType": ["ORIGINAL", "PRIMARY", word, "ND"]} for word in "MPRI"],
        ["imaginary", "magnitude", "phase", "real"],
    ),
    "complex component": (
        [{"ComplexImageComponent": word} for word in ("MAGNITUDE", "PHASE")],
        ["magnitude", "phase"],
    ),
    "time point": (
        [{"TemporalPositionIdentifier": n, "AcquisitionNumber": n} for n in (1, 2, 3)],
        ["time point 1", "time point 2", "time point 3"],
    ),
    "acquisition": ([{"AcquisitionNumber": n} for n in (1, 2)], ["acquisition 1", "acquisition 2"]),
    "trigger": ([{"TriggerTime": t} for t in (0, 40.5, 81)], None),
    "dixon": (
        [{"ImageType": ["DERIVED", "PRIMARY", "DIXON", word]} for word in ("WATER", "FAT")],
        ["fat", "water"],
    ),
    "sequence": ([{"SequenceName": f"CANARY{n}"} for n in (1, 2)], ["sequence 1", "sequence 2"]),
    "two traits": (
        [
            {"AcquisitionNumber": a, "FlipAngle": f, "EchoTime": t}
            for t in (2, 4)
            for f in (5, 20)
            for a in (1, 2)
        ],
        None,
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_differs_divides_the_series(tmp_path: Path, kind: str) -> None:
    parts, words = KINDS[kind]
    mix(tmp_path, parts)
    found = by_words(tmp_path)
    assert len(found) == len(parts)
    if words is not None:
        assert list(found) == words
    assert len({one.id for one in found.values()}) == len(parts)
    arrays = [stored(tmp_path, one).tobytes(order="F") for one in found.values()]
    written = [content(seed).tobytes(order="F") for seed in range(len(parts))]
    assert sorted(arrays) == sorted(written)
    assert all(one.geometry.stored_shape == SHAPE for one in found.values())
    assert "CANARY" not in "".join(one.id for one in found.values())


def test_trigger_times_of_each_position_count_the_cardiac_phases(tmp_path: Path) -> None:
    """Slices of a cine are acquired in different heart beats: no two times are equal."""
    for phase in range(4):
        folder = tmp_path / str(phase)
        for k, path in enumerate(write_series(folder, content(phase), AXIAL, uid=UID)):
            dataset = pydicom.dcmread(path)
            dataset.TriggerTime = 40.0 * phase + 1.7 * k
            dataset.save_as(path)
    found = by_words(tmp_path)
    assert list(found) == [f"cardiac phase {n}" for n in (1, 2, 3, 4)]
    for phase, one in enumerate(found.values()):
        np.testing.assert_array_equal(stored(tmp_path, one), content(phase))


def test_what_changes_from_slice_to_slice_divides_nothing(tmp_path: Path) -> None:
    for k, path in enumerate(write_series(tmp_path, content(1), AXIAL)):
        dataset = pydicom.dcmread(path)
        dataset.AcquisitionNumber, dataset.TriggerTime = k % 2 + 1, 11.0 * k
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "NORM" if k else "ND"]
        dataset.save_as(path)
    (one,) = scan_dicom(tmp_path).series
    assert len(one.id) == 8
    np.testing.assert_array_equal(stored(tmp_path, one), content(1))


@pytest.mark.parametrize("values", [2, 4])
def test_copies_are_not_taken_apart_by_what_changes_between_slices(
    tmp_path: Path, values: int
) -> None:
    """No division may leave every second or fourth slice as a volume of its own."""
    for copy in (0, 1):
        paths = write_series(tmp_path / str(copy), content(1, (5, 4, 16)), AXIAL, uid=UID)
        for k, path in enumerate(paths):
            dataset = pydicom.dcmread(path)
            odd = k % 2
            dataset.AcquisitionNumber = (k + copy * (1 - odd)) % values
            dataset.FlipAngle = (k // 4 + copy * odd) % values
            dataset.save_as(path)
    scan = scan_dicom(tmp_path)
    assert scan.series == []
    assert "Every slice position is there 2 times" in scan.refused[0].why


def test_one_copied_slice_refuses_only_its_own_time_point(tmp_path: Path) -> None:
    for point in (1, 2, 3):
        tags = {"TemporalPositionIdentifier": point}
        paths = write_series(tmp_path / str(point), content(point), AXIAL, uid=UID, tags=tags)
    (tmp_path / "copy").write_bytes(paths[2].read_bytes())
    scan = scan_dicom(tmp_path)
    assert [one.description for one in scan.series] == ["t1, time point 1", "t1, time point 2"]
    (refusal,) = scan.refused
    assert refusal.what.endswith("time-point-3")
    assert "is there 2 times" in refusal.why


def test_an_echo_that_lacks_a_slice_is_refused_and_the_others_open(tmp_path: Path) -> None:
    for echo in (1, 2, 3):
        skip = [2] if echo == 2 else [5] if echo == 3 else []
        tags = {"EchoTime": 5.0 * echo}
        write_series(tmp_path / str(echo), content(echo), AXIAL, uid=UID, tags=tags, skip=skip)
    scan = scan_dicom(tmp_path)
    assert [one.description for one in scan.series] == ["t1, TE 5 ms", "t1, TE 15 ms"]
    assert "has 6 slices, this one 5" in scan.series[1].problems[0]
    (refusal,) = scan.refused
    assert refusal.what.endswith("te-10-ms")
    assert refusal.why.startswith("Slice 3 of 6 is missing")
    with pytest.raises(VolumeError, match="Slice 3 of 6 is missing"):
        read_dicom(tmp_path, refusal.what.removeprefix("series "))


def test_a_localiser_is_three_volumes(tmp_path: Path) -> None:
    for seed, axes in enumerate(("LPS", "LIP", "PIL")):
        affine = straight_affine(axes)
        write_series(tmp_path / axes, content(seed, (5, 4, 3)), affine, uid=UID)
    found = by_words(tmp_path)
    assert sorted(found) == ["axial", "coronal", "sagittal"]
    for one in found.values():
        assert one.geometry.stored_shape == (5, 4, 3)


@pytest.mark.parametrize(
    ("shape", "affine", "words"),
    [
        ((6, 4, 6), AXIAL, "6 x 4"),
        (SHAPE, straight_affine("LPS", (0.4, 1.1, 3.3)), "0.4 x 1.1 mm"),
        (SHAPE, OBLIQUE, "(2)"),
    ],
    ids=["matrix", "pixel spacing", "turned"],
)
def test_another_grid_is_another_volume(
    tmp_path: Path, shape: tuple[int, int, int], affine: NDArray[np.float64], words: str
) -> None:
    write_series(tmp_path / "a", content(1), AXIAL, uid=UID)
    write_series(tmp_path / "b", content(2, shape), affine, uid=UID)
    scan = scan_dicom(tmp_path)
    assert scan.refused == []
    assert sum(words in one.description for one in scan.series) == 1
    shapes = {read_dicom(tmp_path, one.id).geometry.stored_shape for one in scan.series}
    assert shapes == {SHAPE, shape}


@pytest.mark.parametrize(
    "tags",
    [
        {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]},
        {"PixelSpacing": [1.2, 0.8]},
        {"Columns": 4, "Rows": 5},
    ],
    ids=["turned", "spacing", "size"],
)
def test_one_odd_slice_leaves_a_hole_that_is_named(tmp_path: Path, tags: dict[str, Any]) -> None:
    path = write_series(tmp_path, content(1), AXIAL)[3]
    dataset = pydicom.dcmread(path)
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)
    scan = scan_dicom(tmp_path)
    assert [one.geometry.stored_shape[2] for one in scan.series] == [1]
    assert [one.why[:24] for one in scan.refused] == ["Slice 4 of 6 is missing "]


def test_a_stated_gap_that_is_not_that_of_the_positions_is_reported(tmp_path: Path) -> None:
    def problems(name: str, **tags: Any) -> tuple[str, ...]:
        write_series(tmp_path / name, content(1), AXIAL, tags=tags)
        volume = read_dicom(tmp_path / name)
        assert volume.geometry.stored_spacing[2] == pytest.approx(3.3)
        return volume.problems

    (note,) = problems("gap", SpacingBetweenSlices=5.61)
    assert "spacing between slices of 5.61 mm, but the slices lie 3.3 mm apart" in note
    (note,) = problems("thickness", SpacingBetweenSlices=None, SliceThickness=2.64)
    assert "slice thickness of 2.64 mm" in note
    slanted = AXIAL.copy()
    slanted[1, 2] = 0.6
    write_series(tmp_path / "slanted", content(1), slanted)
    (note,) = read_dicom(tmp_path / "slanted").problems
    assert "slanted" in note
    assert problems("a real gap between slices", SliceThickness=2.64) == ()


def test_another_modality_opens_with_a_warning(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", content(1), AXIAL, modality="CT")
    (note,) = read_dicom(tmp_path / "ct").problems
    assert "CT, not MR" in note
    for path in write_series(tmp_path / "odd", content(1), AXIAL, modality="QQQQQQQQ"):
        path.write_bytes(path.read_bytes().replace(b"QQQQQQQQ", b"CANARY^N"))
    volume = read_dicom(tmp_path / "odd")
    assert "CANARY" not in repr(volume) + str(volume.problems)
