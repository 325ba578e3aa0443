"""``convert``: labels keep their names, and become DICOM only where a person asks for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from napari_dante.cli import run
from napari_dante.volume import (
    Label,
    open_labels,
    open_volume,
    read_dicom,
    read_label_file,
    write_nifti,
)
from tests.volume.dicom_series import write_series
from tests.volume.grids import rotation, straight_affine

OBLIQUE = rotation(12, -7, 20) @ straight_affine("LIP")
TABLE = {1: Label("grey matter", (1.0, 0.0, 0.0)), 4: Label("CSF", (0.0, 0.2, 1.0))}
Dante = Callable[..., tuple[int, str, str]]


@pytest.fixture
def dante(capsys: pytest.CaptureFixture[str]) -> Dante:
    def command(*arguments: object) -> tuple[int, str, str]:
        status = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return command


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A series, and labels on it as a NIfTI file."""
    labels = np.random.default_rng(0).choice(np.array([0, 1, 4], np.int16), (7, 6, 5))
    write_series(tmp_path / "dicom", labels * 100, OBLIQUE, shuffle_seed=1)
    geometry = read_dicom(tmp_path / "dicom").geometry
    array = read_dicom(tmp_path / "dicom").array // 100
    write_nifti(tmp_path / "labels.nii.gz", array, geometry, TABLE)
    return tmp_path


def test_labels_stay_labels(dante: Dante, study: Path) -> None:
    assert dante("convert", study / "labels.nii.gz", study / "copy.nii")[0] == 0
    first, second = open_labels(study / "labels.nii.gz"), open_labels(study / "copy.nii")
    assert second.labels == TABLE
    np.testing.assert_array_equal(first.array, second.array)
    np.testing.assert_array_equal(first.geometry.affine, second.geometry.affine)


@pytest.mark.parametrize("name", ["names.ctbl", "names.label", "names.txt"])
def test_names_go_out_and_come_in(dante: Dante, study: Path, name: str) -> None:
    assert dante("convert", study / "labels.nii.gz", study / name)[0] == 0
    assert {value: one.name for value, one in read_label_file(study / name).items()} == {
        1: "grey matter",
        4: "CSF",
    }
    bare = open_labels(study / "labels.nii.gz")
    write_nifti(study / "bare.nii.gz", bare.array, bare.geometry)
    status, _, _ = dante(
        *("convert", study / "bare.nii.gz", study / "named.nii", "--names", study / name)
    )
    assert status == 0
    named = open_labels(study / "named.nii")
    assert named.labels == TABLE
    np.testing.assert_array_equal(named.array, bare.array)


def test_a_segmentation_names_the_patient_and_says_so(dante: Dante, study: Path) -> None:
    highdicom = pytest.importorskip("highdicom")
    status, out, err = dante(
        *("convert", study / "labels.nii.gz", study / "seg.dcm", "--reference", study / "dicom")
    )
    assert (status, err) == (0, "")
    assert "names the patient" in out
    seg = highdicom.seg.segread(study / "seg.dcm")
    assert [one.SegmentLabel for one in seg.SegmentSequence] == ["grey matter", "CSF"]
    assert seg.PatientName == "CANARY^NAME"
    volume = seg.get_volume(combine_segments=True)
    assert (volume.array == 1).sum() == (open_volume(study / "labels.nii.gz").array == 1).sum()


def test_a_segmentation_is_never_made_without_its_series(dante: Dante, study: Path) -> None:
    status, out, err = dante("convert", study / "labels.nii.gz", study / "seg.dcm")
    assert (status, out) == (1, "")
    assert "--reference" in err
    status, _, err = dante(
        *("convert", study / "dicom", study / "seg.dcm", "--reference", study / "dicom")
    )
    assert status == 1
    assert "not from DICOM" in err
    assert not (study / "seg.dcm").exists()
