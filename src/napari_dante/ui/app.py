"""napari with the Dante panel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_dante.model.library import Library
from napari_dante.ui.dock import DanteDock
from napari_dante.ui.samples import SAMPLES, sample_path

if TYPE_CHECKING:
    from napari import Viewer

__all__ = ["open_demo", "open_viewer", "window_with_panel"]

WELCOME = (
    "This T2 head is new to the model, which has only seen T1: press Predict and see it fail. "
    "Correct a few slices with the brush, or paint and press A to approve a slice. "
    "Then press Teach, look at the exam, and keep the new model or not."
)


def window_with_panel(library: Library | None = None) -> tuple[Viewer, DanteDock]:
    """Return a viewer with the panel docked on the right."""
    import napari

    viewer = napari.Viewer(title="napari-dante")
    dock = DanteDock(viewer, library)
    viewer.window.add_dock_widget(dock, name="Dante", area="right")
    return viewer, dock


def open_viewer() -> None:
    """Open napari with the panel and wait until it is closed."""
    import napari

    _viewer, _dock = window_with_panel()
    napari.run()


def open_demo() -> None:
    """Open the T2 head with the starter model, ready to be tried."""
    import napari

    _viewer, dock = window_with_panel()
    dock.controller.opened.connect(lambda: dock.message.tell(WELCOME))
    dock.controller.open_volume(sample_path("mni152_t2"), name=SAMPLES["mni152_t2"])
    napari.run()
