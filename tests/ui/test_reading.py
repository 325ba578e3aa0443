"""What is opened lies where the patient lies, and what is saved lies there again."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from napari.components import ViewerModel

from napari_dante.errors import SeriesChoice, VolumeError
from napari_dante.ui.layers import image_layer, labels_kwargs
from napari_dante.ui.readers import get_dicom_reader, get_nifti_reader, read_path
from napari_dante.ui.samples import mni_t1, mni_tissue, sample_path
from napari_dante.ui.writers import write_image, write_labels
from napari_dante.volume import Geometry, Label, Volume, read_nifti_labels, write_nifti
from tests.ui.conftest import Ball
from tests.volume.dicom_series import write_series

TABLE = {1: Label("core", (1.0, 0.0, 0.0)), 2: Label("shell", (0.0, 0.0, 1.0))}


def test_an_image_gets_mm_names_and_a_window(ball_file: Path, geometry: Geometry) -> None:
    reader = get_nifti_reader(str(ball_file))
    assert reader is not None
    [(data, kwargs, kind)] = reader(str(ball_file))
    assert kind == "image"
    assert data.shape == geometry.shape
    viewer = ViewerModel()
    layer = viewer.add_image(data, **kwargs)
    assert [str(unit) for unit in layer.units] == ["millimeter"] * 3
    np.testing.assert_allclose(layer.scale, geometry.scale)
    np.testing.assert_allclose(layer.translate, geometry.translate)
    low, high = layer.contrast_limits
    assert data.min() <= low < high <= data.max()


def test_a_constant_image_can_be_shown(geometry: Geometry) -> None:
    flat = Volume(np.zeros(geometry.shape, np.int16), geometry)
    data, kwargs, _ = image_layer(flat)
    ViewerModel().add_image(data, **kwargs)


def test_a_file_with_our_label_table_opens_as_labels(
    tmp_path: Path, ball: Ball, geometry: Geometry
) -> None:
    path = tmp_path / "labels.nii.gz"
    write_nifti(path, ball[1], geometry, TABLE)
    (data, kwargs, kind), problems = read_path(path)
    assert (kind, problems) == ("labels", ())
    layer = ViewerModel().add_labels(data, **kwargs)
    assert (
        "core"
        in layer.get_status(position=layer.data_to_world((12, 10, 11)), world=True)["coordinates"]
    )


@pytest.mark.parametrize("name", ["scan.txt", "scan.nii.zip"])
def test_other_names_are_left_to_others(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"nothing")
    assert get_nifti_reader(str(path)) is None
    assert get_dicom_reader(str(path)) is None


def test_dicom_is_told_by_its_content(tmp_path: Path) -> None:
    array = np.arange(5 * 6 * 4, dtype=np.int16).reshape(5, 6, 4)
    files = write_series(tmp_path / "one" / "deep", array, np.diag([1.0, 1.0, 3.0, 1.0]))
    for path in (tmp_path / "one", files[0]):
        reader = get_dicom_reader(str(path))
        assert reader is not None
    [(data, _, kind)] = get_dicom_reader(str(tmp_path / "one"))(str(tmp_path / "one"))  # type: ignore[misc]
    assert (data.shape, kind) == ((4, 6, 5), "image")
    (tmp_path / "empty").mkdir()
    assert get_dicom_reader(str(tmp_path / "empty")) is None


def test_several_series_ask_for_a_choice(tmp_path: Path) -> None:
    for number in range(2):
        array = np.full((5, 6, 4), number, np.int16)
        write_series(tmp_path / str(number), array, np.diag([1.0, 1.0, 3.0, 1.0]))
    with pytest.raises(SeriesChoice) as caught:
        read_path(tmp_path)
    chosen, _ = read_path(tmp_path, caught.value.ids[1])
    assert chosen[0].shape == (4, 6, 5)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_labels_come_back_bit_for_bit(
    tmp_path: Path, ball: Ball, geometry: Geometry, suffix: str
) -> None:
    layer = ViewerModel().add_labels(ball[1].copy(), **labels_kwargs(geometry, TABLE, "mask"))
    layer.data[0, 0, 0] = 7
    path = tmp_path / f"out{suffix}"
    assert write_labels(str(path), *layer.as_layer_data_tuple()[:2]) == [str(path)]
    back = read_nifti_labels(path)
    np.testing.assert_array_equal(back.array, layer.data)
    assert back.geometry == geometry
    assert {value: label.name for value, label in back.labels.items()} == {
        1: "core",
        2: "shell",
        7: "label 7",
    }


def test_an_image_comes_back_bit_for_bit(tmp_path: Path, ball_file: Path) -> None:
    (data, kwargs, _), _ = read_path(ball_file)
    layer = ViewerModel().add_image(data, **kwargs)
    out = tmp_path / "copy.nii.gz"
    write_image(str(out), *layer.as_layer_data_tuple()[:2])
    mine, theirs = nibabel.load(out), nibabel.load(ball_file)
    np.testing.assert_array_equal(mine.affine, theirs.affine)
    np.testing.assert_array_equal(mine.get_fdata(), theirs.get_fdata())


def test_labels_of_unknown_place_are_refused(tmp_path: Path, ball: Ball) -> None:
    layer = ViewerModel().add_labels(ball[1])
    with pytest.raises(VolumeError, match="not known where"):
        write_labels(str(tmp_path / "out.nii.gz"), *layer.as_layer_data_tuple()[:2])
    assert not list(tmp_path.glob("out*"))


class TestBorrowedGrid:
    """A layer that napari made over an image of ours."""

    @pytest.fixture
    def viewer(self, monkeypatch: pytest.MonkeyPatch) -> ViewerModel:
        viewer = ViewerModel()
        monkeypatch.setattr("napari.current_viewer", lambda: viewer)
        return viewer

    def test_it_takes_the_grid_of_the_image(
        self, viewer: ViewerModel, tmp_path: Path, ball: Ball, geometry: Geometry
    ) -> None:
        data, kwargs, _ = image_layer(Volume(ball[0], geometry))
        viewer.add_image(data, **kwargs)
        layer = viewer.add_labels(ball[1])
        out = tmp_path / "out.nii"
        write_labels(str(out), *layer.as_layer_data_tuple()[:2])
        back = read_nifti_labels(out)
        assert back.geometry == geometry
        np.testing.assert_array_equal(back.array, ball[1])

    def test_two_images_of_one_size_at_two_places_are_refused(
        self, viewer: ViewerModel, tmp_path: Path, ball: Ball, geometry: Geometry
    ) -> None:
        moved = geometry.affine.copy()
        moved[0, 3] += 5
        for one in (geometry, Geometry.from_affine(geometry.stored_shape, moved)):
            data, kwargs, _ = image_layer(Volume(ball[0], one))
            viewer.add_image(data, **kwargs)
        layer = viewer.add_labels(ball[1])
        with pytest.raises(VolumeError, match="different places"):
            write_labels(str(tmp_path / "out.nii"), *layer.as_layer_data_tuple()[:2])


def test_the_sample_tissues_lie_on_the_sample_image() -> None:
    [(image, place, _)], [(labels, other, _)] = mni_t1(), mni_tissue()
    assert image.shape == labels.shape
    assert (place["scale"], place["translate"]) == (other["scale"], other["translate"])
    assert sample_path("mni152_t1").stat().st_size < 2_000_000
