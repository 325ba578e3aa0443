"""The real napari opens and saves through the manifest, and every voxel stays in its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from napari.utils import progress
from napari.utils.notifications import Notification, notification_manager
from napari.viewer import Viewer

from napari_dante.errors import VolumeError
from napari_dante.ui import activity
from napari_dante.ui.layers import grid_of
from napari_dante.volume import (
    Geometry,
    Label,
    read_dicom,
    read_label_file,
    read_nifti_labels,
    write_label_file,
    write_nifti,
)
from tests.ui.conftest import SECONDS, Ball
from tests.volume.dicom_series import write_series
from tests.volume.grids import rotation, straight_affine
from tests.volume.segmentations import places, told_by_pydicom

pytestmark = [pytest.mark.gui, pytest.mark.filterwarnings("ignore:System theme detection")]

PLUGIN = "napari-dante"
OBLIQUE = rotation(12, -7, 20) @ straight_affine("LIP")
TABLE = {1: Label("core", (1.0, 0.0, 0.0)), 2: Label("shell", (0.0, 0.0, 1.0))}
NAMED = {2: Label("edge", (0.2, 0.4, 0.6)), 3: Label("new", (0.0, 1.0, 0.0))}


@pytest.fixture
def viewer(plugin: None, make_napari_viewer: Callable[..., Viewer]) -> Viewer:
    return make_napari_viewer()


@pytest.fixture
def told() -> list[str]:
    """Everything that napari tells the person from here on."""
    messages: list[str] = []

    def take(notification: Notification) -> None:
        messages.append(str(notification.message))

    notification_manager.notification_ready.connect(take)
    yield messages
    notification_manager.notification_ready.disconnect(take)


@pytest.mark.parametrize("way", ["button", "bare array"])
def test_labels_that_napari_made_lie_on_the_grid_of_their_image(
    viewer: Viewer, tmp_path: Path, ball_file: Path, ball: Ball, geometry: Geometry, way: str
) -> None:
    viewer.open(ball_file, plugin=PLUGIN)
    if way == "button":
        viewer._new_labels()
        viewer.layers[-1].data = ball[1]
    else:
        viewer.add_labels(ball[1])
    assert grid_of(viewer.layers[-1].metadata) is None
    viewer.layers[-1].save(str(tmp_path / "out.nii.gz"), plugin=PLUGIN)
    back = read_nifti_labels(tmp_path / "out.nii.gz")
    assert back.geometry == geometry
    np.testing.assert_array_equal(back.array, ball[1])


@pytest.mark.parametrize("which", [0, 1])
def test_of_two_images_of_one_size_the_labels_take_the_one_they_were_made_on(
    viewer: Viewer, tmp_path: Path, ball: Ball, geometry: Geometry, which: int
) -> None:
    moved = geometry.affine.copy()
    moved[0, 3] += 5
    places = [geometry, Geometry.from_affine(geometry.stored_shape, moved)]
    for number, one in enumerate(places):
        write_nifti(tmp_path / f"{number}.nii", ball[0], one)
        viewer.open(tmp_path / f"{number}.nii", plugin=PLUGIN)
    viewer.layers.selection.active = viewer.layers[which]
    viewer._new_labels()
    viewer.layers[-1].save(str(tmp_path / "out.nii"), plugin=PLUGIN)
    assert read_nifti_labels(tmp_path / "out.nii").geometry == places[which]


def test_labels_over_an_image_of_unknown_place_are_not_saved(
    viewer: Viewer, tmp_path: Path, ball: Ball
) -> None:
    viewer.add_image(ball[0])
    viewer._new_labels()
    with pytest.raises(VolumeError, match="not known where"):
        viewer.layers[-1].save(str(tmp_path / "out.nii"), plugin=PLUGIN)
    assert not list(tmp_path.glob("out*"))


@pytest.fixture
def study(tmp_path: Path) -> Path:
    array = np.arange(7 * 6 * 5, dtype=np.int16).reshape(7, 6, 5)
    write_series(tmp_path / "study", array, OBLIQUE, shuffle_seed=3)
    return tmp_path / "study"


class TestSegmentation:
    """Labels on an image from DICOM, saved as DICOM."""

    def test_it_lies_where_it_was_painted(
        self, viewer: Viewer, study: Path, tmp_path: Path, told: list[str]
    ) -> None:
        pytest.importorskip("highdicom")
        viewer.open(study, plugin=PLUGIN)
        viewer._new_labels()
        layer = viewer.layers[-1]
        layer.data[1:3, 2:4, 3:5] = 5
        layer.data[4, 0, 0] = 2
        layer.save(str(tmp_path / "seg.dcm"), plugin=PLUGIN)
        geometry = read_dicom(study).geometry
        expected = places(geometry.to_stored(layer.data), geometry.affine)
        assert told_by_pydicom(tmp_path / "seg.dcm", {1: 2, 2: 5}) == expected
        assert any("names the patient" in message for message in told)

    def test_it_needs_an_image_from_dicom(
        self, viewer: Viewer, ball_file: Path, tmp_path: Path
    ) -> None:
        viewer.open(ball_file, plugin=PLUGIN)
        viewer._new_labels()
        viewer.layers[-1].data[0, 0, 0] = 1
        with pytest.raises(VolumeError, match="No open image from DICOM"):
            viewer.layers[-1].save(str(tmp_path / "seg.dcm"), plugin=PLUGIN)
        assert not (tmp_path / "seg.dcm").exists()

    def test_saving_as_nifti_names_nobody(
        self, viewer: Viewer, study: Path, tmp_path: Path
    ) -> None:
        viewer.open(study, plugin=PLUGIN)
        viewer._new_labels()
        viewer.layers[-1].data[0, 0, 0] = 1
        viewer.layers[-1].save(str(tmp_path / "out.nii"), plugin=PLUGIN)
        assert b"CANARY" not in (tmp_path / "out.nii").read_bytes()


def test_label_names_go_out_and_come_in(
    viewer: Viewer, tmp_path: Path, ball: Ball, geometry: Geometry
) -> None:
    write_nifti(tmp_path / "a.nii.gz", ball[1], geometry, TABLE)
    viewer.open(tmp_path / "a.nii.gz", plugin=PLUGIN)
    layer = viewer.layers[0]
    layer.save(str(tmp_path / "names.ctbl"), plugin=PLUGIN)
    assert {value: one.name for value, one in read_label_file(tmp_path / "names.ctbl").items()} == {
        1: "core",
        2: "shell",
    }
    write_label_file(tmp_path / "names.label", NAMED)
    viewer.open(tmp_path / "names.label", plugin=PLUGIN)
    assert len(viewer.layers) == 1
    grid = grid_of(layer.metadata)
    assert grid is not None
    assert grid.labels == TABLE | NAMED
    assert list(layer.features["name"]) == ["background", "core", "edge", "new"]
    np.testing.assert_allclose(layer.colormap.map(3)[:3], (0, 1, 0), atol=0.01)
    layer.save(str(tmp_path / "again.nii.gz"), plugin=PLUGIN)
    assert read_nifti_labels(tmp_path / "again.nii.gz").labels == TABLE | NAMED


def test_label_names_need_a_selected_labels_layer(
    viewer: Viewer, tmp_path: Path, ball_file: Path
) -> None:
    write_label_file(tmp_path / "names.label", NAMED)
    viewer.open(ball_file, plugin=PLUGIN)
    with pytest.raises(VolumeError, match="Select the labels layer"):
        viewer.open(tmp_path / "names.label", plugin=PLUGIN)


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What our bar in the activity dock shows, from 0 to 1."""
    monkeypatch.setattr(activity, "A_MOMENT", 0.0)
    seen: list[float] = []

    def update(bar: progress, steps: int = 1) -> None:
        if bar.desc.startswith("Reading"):
            seen.append((bar.n + steps) / bar.total)
        original(bar, steps)

    original = progress.update
    monkeypatch.setattr(progress, "update", update)
    return seen


def test_reading_shows_a_bar_that_goes_away(
    viewer: Viewer, study: Path, parts: list[float]
) -> None:
    viewer.open(study, plugin=PLUGIN)
    assert parts == sorted(parts)
    assert len(parts) >= 8
    assert parts[-1] == 1.0
    assert not progress._all_instances


def test_the_panel_shows_the_same_bar(
    make_dock: Callable, qtbot: object, study: Path, parts: list[float]
) -> None:
    dock = make_dock()
    controller = dock.controller
    with qtbot.waitSignal(controller.opened, timeout=SECONDS):  # type: ignore[attr-defined]
        controller.open_volume(study)
    assert parts[-1] == 1.0
    assert not progress._all_instances
    with qtbot.waitSignal(controller.failed, timeout=SECONDS):  # type: ignore[attr-defined]
        controller.open_volume(study.parent / "absent")
    assert not progress._all_instances
