"""The mouse as radiologists expect it: the wheel scrolls, the right button windows. Qt-free.

napari zooms with the wheel, scrolls with Ctrl and the wheel, zooms with the right button
and, while painting, begins to encircle with it. As long as the panel is there,

* the wheel shows the next slice, with every tool, and Ctrl and the wheel zoom;
* dragging with the right button changes the grey values of the image: to the right for a
  wider window, down for a higher level (darker), even when a mask is selected;
* Shift and the right button encircle, as the right button alone does in napari.

In three dimensions, with the polygon tool (whose right click takes back a point), on layers of
other kinds and with other keys held, everything is as napari has it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Labels, Layer

if TYPE_CHECKING:
    from napari.components import ViewerModel

__all__ = ["Mouse", "windowed"]

_RIGHT = 2
_NOTCH = 1.2
# Pixels of the screen that double the window, and that move the level by one window.
_DOUBLES = 150.0
_MOVES = 300.0
Limits = tuple[float, float]


def windowed(limits: Limits, right: float, down: float) -> Limits:
    """Return contrast limits after a drag of so many pixels of the screen.

    The window is multiplied, so that it is never empty; the level moves with it.
    """
    low, high = limits
    width = high - low
    level = (low + high) / 2 + width * down / _MOVES
    width *= 2.0 ** (right / _DOUBLES)
    return level - width / 2, level + width / 2


class Mouse:
    """What the mouse does in one viewer while the panel is open."""

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._scroll_of_napari: list[tuple[int, Callable[..., Any]]] = []
        self._progress = 0.0
        self._taken = False

    def take(self) -> None:
        """Take over the wheel and the right button, unless another panel did."""
        wheel = self._viewer.mouse_wheel_callbacks
        if any(isinstance(getattr(one, "__self__", None), Mouse) for one in wheel):
            return
        self._taken = True
        # It scrolls with Ctrl, which zooms now.
        self._scroll_of_napari = [
            (number, one)
            for number, one in enumerate(wheel)
            if getattr(one, "__name__", "") == "dims_scroll"
        ]
        for _, one in self._scroll_of_napari:
            wheel.remove(one)
        wheel.append(self._turned)
        self._viewer.mouse_drag_callbacks.insert(0, self._dragged)

    def release(self) -> None:
        """Give back what napari has them for."""
        if not self._taken:
            return
        self._taken = False
        wheel = self._viewer.mouse_wheel_callbacks
        wheel.remove(self._turned)
        for number, one in self._scroll_of_napari:
            wheel.insert(number, one)
        self._viewer.mouse_drag_callbacks.remove(self._dragged)

    def _turned(self, viewer: ViewerModel, event: Any) -> None:  # noqa: ANN401
        keys, dims = set(event.modifiers), viewer.dims
        if dims.ndisplay != 2 or not dims.not_displayed:
            if keys == {"Control"}:
                for _, one in self._scroll_of_napari:
                    one(viewer, event)
        elif not keys:
            self._scroll(viewer, event)
            event.handled = True
        elif keys == {"Control"}:
            _zoom(viewer, event)

    def _scroll(self, viewer: ViewerModel, event: Any) -> None:  # noqa: ANN401
        """Show the next or previous slice; touchpads turn the wheel by parts of a notch."""
        dims = viewer.dims
        hidden = dims.not_displayed
        axis = dims.last_used if dims.last_used in hidden else hidden[-1]
        turn = float(np.clip(event.delta[1], -1.0, 1.0))
        self._progress += turn if event.native.inverted() else -turn
        steps = int(self._progress)
        self._progress -= steps
        if steps:
            dims.set_current_step(axis, dims.current_step[axis] + steps)

    def _dragged(self, viewer: ViewerModel, event: Any) -> Generator[None, None, None]:  # noqa: ANN401
        if event.button != _RIGHT or event.modifiers or viewer.dims.ndisplay != 2:
            return
        image, active = _image(viewer), viewer.layers.selection.active
        if image is None or not _may_window(active):
            return
        start, limits = np.array(event.pos, np.float64), tuple(image.contrast_limits)
        # With its callbacks out of the way, the selected layer does not take it for a stroke.
        with _deaf(active):
            event.handled = True
            yield
        moving = True
        while moving:
            moving = event.type == "mouse_move"
            right, down = np.array(event.pos, np.float64) - start
            image.contrast_limits = windowed(limits, right, down)
            event.handled = True
            yield


def _zoom(viewer: ViewerModel, event: Any) -> None:  # noqa: ANN401
    """Zoom around the pointer."""
    camera, shown = viewer.scene.camera, list(viewer.dims.displayed)
    factor = _NOTCH ** float(event.delta[1])
    point = np.array(event.position)[shown]
    centre = np.array(camera.center[-2:])
    camera.zoom *= factor
    camera.center = tuple(point + (centre - point) / factor)


def _image(viewer: ViewerModel) -> Image | None:
    """Return the image that is windowed: the selected one, or else the topmost."""
    active = viewer.layers.selection.active
    candidates = [active, *reversed(viewer.layers)]
    for layer in candidates:
        if isinstance(layer, Image) and layer.visible and not layer.rgb:
            return layer
    return None


def _may_window(layer: Layer | None) -> bool:
    """Whether the right button does nothing on this layer that could be missed."""
    if isinstance(layer, Labels):
        return str(layer.mode) != "polygon"
    return layer is None or isinstance(layer, Image)


@contextmanager
def _deaf(layer: Layer | None) -> Iterator[None]:
    """Hide the callbacks of a layer until the press is over."""
    if layer is None:
        yield
        return
    mode, hidden = layer.mode, list(layer.mouse_drag_callbacks)
    layer.mouse_drag_callbacks.clear()
    try:
        yield
    finally:
        # A key may have changed the tool meanwhile, and with it the callbacks.
        now, layer.mode = layer.mode, mode
        layer.mouse_drag_callbacks[:] = hidden
        layer.mode = now
