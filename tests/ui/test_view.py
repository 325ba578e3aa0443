"""The view is the radiologist's: letters, wheel, right button; and napari's again afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from napari.components import ViewerModel
from napari.viewer import Viewer
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent, QWheelEvent
from qtpy.QtWidgets import QApplication, QWidget

from napari_dante.ui.dock import DanteDock
from napari_dante.ui.mouse import Mouse, windowed
from napari_dante.ui.orientation import Orientation
from napari_dante.ui.samples import itk_head, sample_path
from napari_dante.volume import Geometry, open_volume
from tests.volume.grids import AXIS_ORDERS, straight_affine

pytestmark = [pytest.mark.gui, pytest.mark.filterwarnings("ignore:System theme detection")]

NONE = Qt.KeyboardModifier.NoModifier
CONTROL = Qt.KeyboardModifier.ControlModifier
SHIFT = Qt.KeyboardModifier.ShiftModifier
PLANES = {"axial": (0, 1, 2), "coronal": (1, 0, 2), "sagittal": (2, 0, 1)}


def letters(viewer: ViewerModel) -> dict[str, str]:
    overlays = viewer.canvas.overlays
    shown = {name: one for name, one in overlays.items() if name.startswith("dante_")}
    return {name[6:]: one.text for name, one in shown.items() if one.visible}


@pytest.mark.parametrize(
    ("plane", "camera", "expected"),
    [
        ("axial", ("down", "right"), "A P R L"),
        ("coronal", ("up", "right"), "S I R L"),
        ("sagittal", ("up", "right"), "S I A P"),
    ],
)
def test_the_head_is_up_and_the_sides_are_named(
    plane: str, camera: tuple[str, str], expected: str
) -> None:
    viewer = ViewerModel()
    orientation = Orientation(viewer)
    assert letters(viewer) == {}
    [(data, kwargs, _)] = itk_head()
    layer = viewer.add_image(data, **kwargs)
    viewer.dims.order = PLANES[plane]
    assert tuple(viewer.scene.camera.orientation2d) == camera
    sides = dict(zip(("top", "bottom", "left", "right"), expected.split(), strict=True))
    assert letters(viewer) == {"view": plane, **sides}
    viewer.layers.remove(layer)
    orientation.update()
    assert letters(viewer) == {}


def sides_from_the_affine(geometry: Geometry, viewer: ViewerModel) -> dict[str, str]:
    """Work the letters out anew, from the RAS+ affine and what the camera draws where."""
    _, down, across = viewer.dims.order
    camera = viewer.scene.camera.orientation2d
    found = {}
    for axis, places in ((down, ("top", "bottom")), (across, ("left", "right"))):
        stored, flipped = geometry.display_axis_to_stored(axis)
        step = geometry.affine[:3, stored] * (-1 if flipped else 1)
        world = int(np.argmax(np.abs(step)))
        ends = ("LR", "PA", "IS")[world]
        from_, to = ends if step[world] > 0 else ends[::-1]
        runs_on_screen = camera[0] == "down" if axis == down else camera[1] == "right"
        start, end = places if runs_on_screen else places[::-1]
        found[start], found[end] = from_, to
    return found


@pytest.mark.parametrize("plane", PLANES)
def test_letters_are_true_for_every_way_of_storing(plane: str) -> None:
    viewer = ViewerModel()
    _orientation = Orientation(viewer)
    [(data, kwargs, _)] = itk_head()
    viewer.add_image(data, **kwargs)
    viewer.dims.order = PLANES[plane]
    told = letters(viewer)
    assert told.pop("view") == plane
    for stored in AXIS_ORDERS:
        geometry = Geometry.from_affine((3, 4, 5), straight_affine(stored))
        assert told == sides_from_the_affine(geometry, viewer), stored


def test_letters_go_when_the_view_is_given_back() -> None:
    viewer = ViewerModel()
    before = set(viewer.canvas.overlays)
    orientation = Orientation(viewer)
    [(data, kwargs, _)] = itk_head()
    viewer.add_image(data, **kwargs)
    viewer.dims.order = (1, 0, 2)
    orientation.release()
    assert set(viewer.canvas.overlays) == before
    assert tuple(viewer.scene.camera.orientation2d) == ("down", "right")
    viewer.dims.order = (0, 1, 2)
    viewer.dims.order = (1, 0, 2)
    assert tuple(viewer.scene.camera.orientation2d) == ("down", "right")
    orientation.take()
    assert tuple(viewer.scene.camera.orientation2d) == ("up", "right")
    assert letters(viewer)["top"] == "S"


@given(
    st.tuples(st.floats(-1e4, 1e4), st.floats(0.01, 1e4)),
    st.floats(-600, 600),
    st.floats(-600, 600),
)
def test_right_widens_and_down_darkens(
    start: tuple[float, float], right: float, down: float
) -> None:
    limits = (start[0], start[0] + start[1])
    low, high = windowed(limits, right, down)
    assert low < high
    if abs(right) > 1:
        assert (high - low > start[1]) == (right > 0)
    level = (low + high) / 2 - sum(limits) / 2
    if abs(down) > 1:
        assert (level > 0) == (down > 0)
    assert windowed(limits, 0, 0) == pytest.approx(limits)


class Hand:
    """A mouse on the real canvas."""

    def __init__(self, viewer: Viewer) -> None:
        self.canvas: QWidget = viewer.window._qt_viewer.canvas.native

    def _send(self, event: Any) -> None:
        QApplication.sendEvent(self.canvas, event)

    def wheel(self, notches: float, keys: Any = NONE) -> None:
        where = QPointF(self.canvas.width() / 3, self.canvas.height() / 3)
        self._send(
            QWheelEvent(
                where,
                QPointF(self.canvas.mapToGlobal(where.toPoint())),
                QPoint(),
                QPoint(0, round(120 * notches)),
                Qt.MouseButton.NoButton,
                keys,
                Qt.ScrollPhase.NoScrollPhase,
                False,
            )
        )

    def drag(self, button: Any, right: int, down: int, keys: Any = NONE) -> None:
        start = QPointF(self.canvas.width() // 2, self.canvas.height() // 2)
        end = start + QPointF(right, down)
        none = Qt.MouseButton.NoButton
        for kind, point, changed, held in (
            (QEvent.Type.MouseButtonPress, start, button, button),
            (QEvent.Type.MouseMove, (start + end) / 2, none, button),
            (QEvent.Type.MouseMove, end, none, button),
            (QEvent.Type.MouseButtonRelease, end, button, none),
        ):
            self._send(QMouseEvent(kind, point, changed, held, keys))


RIGHT = Qt.MouseButton.RightButton


@pytest.fixture
def viewer(plugin: None, make_napari_viewer: Callable[..., Viewer], qtbot: QtBot) -> Viewer:
    """A head in a real window."""
    viewer = make_napari_viewer(show=True)
    [(data, kwargs, _)] = itk_head()
    viewer.add_image(data, **kwargs)
    canvas = viewer.window._qt_viewer.canvas.native
    qtbot.waitUntil(lambda: canvas.width() > 50, timeout=5000)
    return viewer


@pytest.fixture
def hand(viewer: Viewer) -> Iterator[Hand]:
    """A mouse that the panel has taken over."""
    mouse = Mouse(viewer)
    mouse.take()
    yield Hand(viewer)
    mouse.release()


def view(viewer: Viewer) -> tuple[object, ...]:
    """Return the slice, and what part of the plane the canvas shows."""
    shown = viewer.window._qt_viewer.canvas.view.camera.rect
    return viewer.dims.current_step, tuple(np.round((*shown.pos, *shown.size), 6))


def test_with_every_tool_the_wheel_scrolls_and_ctrl_zooms(viewer: Viewer, hand: Hand) -> None:
    viewer._new_labels()
    for mode in ("pan_zoom", "paint", "erase", "fill", "pick", "polygon"):
        viewer.layers[-1].mode = mode
        ((step, *others), shown), zoom = view(viewer), viewer.scene.camera.zoom
        hand.wheel(-1)
        hand.wheel(-1)
        assert view(viewer) == ((step + 2, *others), shown), mode
        hand.wheel(0.5)
        assert viewer.dims.current_step[0] == step + 2
        hand.wheel(0.5)
        assert viewer.dims.current_step[0] == step + 1
        pointer = np.array(viewer.cursor.position)
        hand.wheel(1, CONTROL)
        assert viewer.dims.current_step[0] == step + 1
        assert viewer.scene.camera.zoom == pytest.approx(zoom * 1.2)
        hand.wheel(0)
        np.testing.assert_allclose(viewer.cursor.position, pointer, atol=1e-3)
        hand.wheel(-1, CONTROL)
        assert viewer.scene.camera.zoom == pytest.approx(zoom)


def test_the_right_button_windows_the_image_and_does_nothing_else(
    viewer: Viewer, hand: Hand
) -> None:
    image = viewer.layers[0]
    for mode in (None, "pan_zoom", "paint", "erase", "fill"):
        if mode == "pan_zoom":
            viewer._new_labels()
            viewer.layers[-1].data[:] = 1
        if mode is not None:
            viewer.layers[-1].mode = mode
        before, (low, high) = view(viewer), image.contrast_limits
        hand.drag(RIGHT, 60, 0)
        wider = image.contrast_limits
        assert wider[1] - wider[0] == pytest.approx((high - low) * 2 ** (60 / 150)), mode
        assert sum(wider) == pytest.approx(low + high)
        hand.drag(RIGHT, 0, 30)
        darker = image.contrast_limits
        assert darker[1] - darker[0] == pytest.approx(wider[1] - wider[0])
        assert sum(darker) > sum(wider)
        assert view(viewer) == before
        if mode is not None:
            assert viewer.layers[-1].mode == mode
            assert (viewer.layers[-1].data == 1).all()
    # The tools work as before.
    viewer.layers[-1].mode = "erase"
    hand.drag(Qt.MouseButton.LeftButton, 5, 0)
    assert (viewer.layers[-1].data == 0).any()


def test_shift_and_the_right_button_encircle(viewer: Viewer, hand: Hand) -> None:
    viewer._new_labels()
    viewer.layers[-1].mode = "paint"
    limits = viewer.layers[0].contrast_limits
    hand.drag(RIGHT, 10, 0, SHIFT)
    assert viewer.layers[-1]._overlays["brush_stroke"].active
    assert viewer.layers[0].contrast_limits == limits


class Press:
    """A right press at a corner."""

    type, button, modifiers, pos, handled = "mouse_press", 2, (), (0, 0), False


def test_a_key_in_the_middle_of_a_drag_changes_the_tool(viewer: Viewer) -> None:
    viewer._new_labels()
    labels = viewer.layers[-1]
    labels.mode = "erase"
    erasing = set(labels.mouse_drag_callbacks)
    labels.mode = "paint"
    press = Mouse(viewer)._dragged(viewer, Press())
    next(press)
    assert labels.mouse_drag_callbacks == []
    labels.mode = "erase"
    press.close()
    assert labels.mode == "erase"
    assert set(labels.mouse_drag_callbacks) == erasing


def test_other_layers_and_three_dimensions_keep_the_mouse_of_napari(
    viewer: Viewer, hand: Hand
) -> None:
    image = viewer.layers[0]
    limits = image.contrast_limits
    viewer.add_shapes(ndim=3)
    hand.drag(RIGHT, 60, 20)
    viewer.layers.selection.active = image
    viewer._new_labels()
    viewer.layers[-1].mode = "polygon"
    hand.drag(RIGHT, 60, 20)
    assert image.contrast_limits == limits


def names(callbacks: list[Any]) -> list[str]:
    return [getattr(one, "__name__", "") for one in callbacks]


def test_closing_the_panel_gives_the_mouse_back(
    make_dock: Callable[..., DanteDock], qtbot: QtBot
) -> None:
    dock = make_dock(show=True)
    viewer = dock.controller.viewer
    [(data, kwargs, _)] = itk_head()
    image, hand = viewer.add_image(data, **kwargs), Hand(viewer)
    qtbot.waitUntil(lambda: hand.canvas.width() > 50 and dock.isVisible(), timeout=5000)
    step = viewer.dims.current_step[0]
    hand.wheel(-1)
    assert viewer.dims.current_step[0] == step + 1
    assert letters(viewer)["top"] == "A"
    viewer.window.remove_dock_widget(dock)
    assert names(viewer.mouse_wheel_callbacks) == ["dims_scroll", "layers_scroll"]
    assert names(viewer.mouse_drag_callbacks) == ["drag_to_zoom"]
    assert letters(viewer) == {}
    step, limits = viewer.dims.current_step[0], image.contrast_limits
    hand.wheel(-1, CONTROL)
    assert viewer.dims.current_step[0] == step + 1
    _, shown = view(viewer)
    hand.wheel(-1)
    _, zoomed = view(viewer)
    assert zoomed != shown
    hand.drag(RIGHT, 0, 60)
    assert view(viewer)[1] != zoomed
    assert viewer.dims.current_step[0] == step + 1
    assert image.contrast_limits == limits


def test_two_panels_on_one_viewer_do_not_add_up(viewer: Viewer, hand: Hand) -> None:
    first, second = Orientation(viewer), Orientation(viewer)
    mouse = Mouse(viewer)
    mouse.take()
    step = viewer.dims.current_step[0]
    hand.wheel(-1)
    assert viewer.dims.current_step[0] == step + 1
    mouse.release()
    hand.wheel(-1)
    assert viewer.dims.current_step[0] == step + 2
    second.release()
    viewer.dims.order = (1, 0, 2)
    assert letters(viewer)["top"] == "S"
    first.release()
    assert letters(viewer) == {}


def test_a_viewer_without_the_panel_is_as_napari_made_it(viewer: Viewer) -> None:
    assert names(viewer.mouse_wheel_callbacks) == ["dims_scroll", "layers_scroll"]
    assert names(viewer.mouse_drag_callbacks) == ["drag_to_zoom"]
    assert letters(viewer) == {}


def test_voxels_have_their_true_size_on_the_screen(viewer: Viewer) -> None:
    """A millimetre is as many pixels across as down, whatever the voxels are."""
    geometry = open_volume(sample_path("itk_head_t1")).geometry
    assert viewer.layers[0].scale.tolist() == pytest.approx(geometry.spacing)
    canvas = viewer.window._qt_viewer.canvas
    for order in PLANES.values():
        viewer.dims.order = order
        shown = list(viewer.dims.displayed)
        one, right, down = (
            np.array(canvas._map_canvas2world(point, canvas.view))[shown]
            for point in ((100, 100), (200, 100), (100, 200))
        )
        across, along = abs(right - one)[1], abs(down - one)[0]
        assert across == pytest.approx(along)
        assert across == pytest.approx(100 / viewer.scene.camera.zoom)


def test_the_first_window_shows_tissue() -> None:
    [(data, kwargs, _)] = itk_head()
    low, high = kwargs["contrast_limits"]
    assert data.min() <= low < high < data.max()
    assert 0.001 < (data > high).mean() < 0.02
