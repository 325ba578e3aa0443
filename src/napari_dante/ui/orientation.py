"""Which way the patient lies: head up in every view, and letters that say so. Qt-free."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_dante.ui.layers import VIEWS
from napari_dante.ui.session import is_ours

if TYPE_CHECKING:
    from napari.components import ViewerModel

__all__ = ["Orientation"]

_TOWARDS = ("S", "P", "L")
_OPPOSITE = {"S": "I", "I": "S", "P": "A", "A": "P", "L": "R", "R": "L"}
_HEAD = 0


class Orientation:
    """Turns the camera so that the head is up, and writes the view and its sides.

    Display axes run towards superior, posterior and left, and napari draws the first shown
    axis downwards: right for axial slices, upside down for coronal and sagittal ones.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        viewer.dims.events.order.connect(self.update)
        viewer.dims.events.ndisplay.connect(self.update)
        viewer.layers.events.inserted.connect(self.update)
        viewer.layers.events.removed.connect(self.update)
        self.update()

    def update(self) -> None:
        """Follow the view, as long as there is an image of ours in it."""
        viewer, dims = self._viewer, self._viewer.dims
        flat = dims.ndim == 3 and dims.ndisplay == 2
        shown = flat and any(is_ours(layer) for layer in viewer.layers)
        overlay = viewer.canvas.overlays.text
        overlay.visible = shown
        if not shown:
            return
        hidden, down, across = dims.order
        upright = down == _HEAD
        viewer.scene.camera.orientation2d = ("up" if upright else "down", "right")
        top = _TOWARDS[down] if upright else _OPPOSITE[_TOWARDS[down]]
        right = _TOWARDS[across]
        left = _OPPOSITE[right]
        overlay.text = f"{VIEWS[hidden]}   top {top}   left {left}   right {right}"
