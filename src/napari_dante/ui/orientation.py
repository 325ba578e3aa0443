"""Which way the patient lies: head up in every view, and letters that say so. Qt-free."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.components.overlays import TextOverlay

from napari_dante.ui.layers import VIEWS
from napari_dante.ui.session import is_ours

if TYPE_CHECKING:
    from napari.components import ViewerModel

__all__ = ["Orientation"]

_TOWARDS = ("S", "P", "L")
_OPPOSITE = {"S": "I", "I": "S", "P": "A", "A": "P", "L": "R", "R": "L"}
_HEAD = 0
_NAME = "dante_{}"
_PLACES = {
    "view": "top_left",
    "top": "top_center",
    "bottom": "bottom_center",
    "left": "middle_left",
    "right": "middle_right",
}
_POINTS = 16


class Orientation:
    """Turns the camera so that the head is up, and writes the view and its sides.

    Display axes run towards superior, posterior and left, and napari draws the first shown
    axis downwards: right for axial slices, upside down for coronal and sagittal ones. The
    letters stand at the edges of the canvas: where the patient's right, left, front, back,
    head and feet are.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._before = viewer.scene.camera.orientation2d
        self._taken = False
        self.take()

    def take(self) -> None:
        """Follow the view from now on, unless another panel does."""
        if self._taken or _NAME.format("view") in self._viewer.canvas.overlays:
            return
        self._taken = True
        viewer = self._viewer
        self._before = viewer.scene.camera.orientation2d
        for place, position in _PLACES.items():
            # Its box keeps a letter readable on bright tissue.
            overlay = TextOverlay(position=position, font_size=_POINTS, box=True)
            viewer.canvas.overlays[_NAME.format(place)] = overlay
        for event in self._events():
            event.connect(self.update)
        self.update()

    def release(self) -> None:
        """Leave the viewer as it was: letters that nobody updates would soon be wrong."""
        if not self._taken:
            return
        self._taken = False
        for event in self._events():
            event.disconnect(self.update)
        for place in _PLACES:
            self._viewer.canvas.overlays.pop(_NAME.format(place), None)
        self._viewer.scene.camera.orientation2d = self._before

    def _events(self) -> tuple[Any, ...]:
        dims, layers = self._viewer.dims.events, self._viewer.layers.events
        return dims.order, dims.ndisplay, layers.inserted, layers.removed

    def update(self) -> None:
        """Follow the view, as long as there is an image of ours in it."""
        viewer, dims = self._viewer, self._viewer.dims
        flat = dims.ndim == 3 and dims.ndisplay == 2
        words = self._words() if flat and any(map(is_ours, viewer.layers)) else {}
        if words:
            upright = dims.order[1] == _HEAD
            viewer.scene.camera.orientation2d = ("up" if upright else "down", "right")
        for place in _PLACES:
            overlay = viewer.canvas.overlays[_NAME.format(place)]
            overlay.text = words.get(place, "")
            overlay.visible = bool(words)

    def _words(self) -> dict[str, str]:
        hidden, down, across = self._viewer.dims.order
        top = _TOWARDS[down] if down == _HEAD else _OPPOSITE[_TOWARDS[down]]
        right = _TOWARDS[across]
        return {
            "view": VIEWS[hidden],
            "top": top,
            "bottom": _OPPOSITE[top],
            "left": _OPPOSITE[right],
            "right": right,
        }
