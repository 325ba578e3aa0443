from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from napari_dante.errors import SeriesChoice, VolumeError
from napari_dante.volume import describe, open_labels, open_volume
from tests.volume.dicom_series import write_series
from tests.volume.grids import straight_affine

AFFINE = straight_affine("LSA", (2, 2, 3))
ARRAY = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)


@pytest.fixture
def nifti(tmp_path: Path) -> Path:
    nib.Nifti1Image(ARRAY, AFFINE).to_filename(tmp_path / "a.nii.gz")
    return tmp_path / "a.nii.gz"


def test_a_nifti_is_described_as_stored(nifti: Path) -> None:
    description = describe(nifti)
    (info,) = description.volumes
    assert description.refused == []
    assert (info.shape, info.spacing, info.orientation) == ((4, 5, 6), (2, 2, 3), "LSA")
    assert json.loads(json.dumps(dataclasses.asdict(info)))["id"] == info.id
    volume = open_volume(nifti, info.id)
    np.testing.assert_array_equal(volume.geometry.to_stored(volume.array), ARRAY)
    with pytest.raises(VolumeError, match="no such series"):
        open_volume(nifti, "2")


def test_spacings_are_told_without_float_dust(tmp_path: Path) -> None:
    nib.Nifti1Image(ARRAY, straight_affine("RAS", (0.8, 1.1, 3.3))).to_filename(tmp_path / "a.nii")
    assert describe(tmp_path / "a.nii").volumes[0].spacing == (0.8, 1.1, 3.3)


def test_a_dicom_folder_is_described_and_every_id_opens(tmp_path: Path) -> None:
    write_series(tmp_path / "a", ARRAY, straight_affine("LPS"), description="t1 tse")
    write_series(tmp_path / "b", ARRAY[:3, :, :4], straight_affine("PIL"))
    write_series(tmp_path / "c", ARRAY, straight_affine("LPS"), skip=[2])
    description = describe(tmp_path)
    assert len(description.volumes) == 2
    assert "missing" in description.refused[0].why
    for info in description.volumes:
        assert open_volume(tmp_path, info.id).geometry.stored_shape == info.shape
    with pytest.raises(SeriesChoice):
        open_volume(tmp_path)


def test_a_dicom_file_is_told_by_content(tmp_path: Path) -> None:
    path = write_series(tmp_path, ARRAY, straight_affine("LPS"))[0]
    path = path.rename(tmp_path / "misnamed.nii")
    (info,) = describe(path).volumes
    assert info.shape == (4, 5, 1)
    assert open_volume(path, info.id).modality == "MR"
    with pytest.raises(VolumeError, match="not from DICOM"):
        open_labels(path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(VolumeError, match="cut short"):
        describe(path)


def test_labels_open_on_the_grid_of_their_image(nifti: Path) -> None:
    labels = open_labels(nifti)
    assert labels.geometry.same_grid(open_volume(nifti).geometry)
    assert labels.array.max() == 119


@pytest.mark.parametrize("function", [describe, open_volume, open_labels])
def test_what_is_not_there_is_refused(tmp_path: Path, function: object) -> None:
    assert callable(function)
    with pytest.raises(VolumeError, match="does not exist") as refusal:
        function(tmp_path / "CANARY")
    assert "CANARY" not in repr(refusal.value)
    with pytest.raises(VolumeError):
        function(tmp_path)


def test_the_room_imports_neither_torch_nor_napari() -> None:
    code = (
        "import sys, napari_dante.volume;"
        "bad = {'torch', 'monai', 'napari', 'qtpy', 'magicgui', 'superqt'} & set(sys.modules);"
        "sys.exit(str(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
