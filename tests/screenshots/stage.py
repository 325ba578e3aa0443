"""The window that the pictures are taken of, and how it is driven."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import napari
import numpy as np
from napari.layers import Labels
from PIL import Image

from napari_dante.errors import DanteError
from napari_dante.ui.demo import MODEL, SLICES
from napari_dante.ui.dock import DanteDock
from napari_dante.ui.pump import pump, wait_for
from napari_dante.ui.samples import SAMPLES, sample_path
from napari_dante.volume import open_labels

__all__ = ["LARGE", "SMALL", "STATES", "Stage", "State", "state"]

SMALL = (1366, 768)
LARGE = (1920, 1080)
"""With two pixels for each of these: a 4K screen as people have it."""


@dataclass(frozen=True)
class State:
    """How to get from the state before to this one, and which pictures to take of it."""

    name: str
    reach: Callable[[Stage], None]
    fresh: bool
    light: bool
    large: bool


STATES: dict[str, State] = {}


def state(
    *, fresh: bool = False, light: bool = False, large: bool = False
) -> Callable[..., Callable[[Stage], None]]:
    """Make a function a state; its name is that of the picture, states follow each other.

    Parameters
    ----------
    fresh
        Begin in a new window of a person who has done nothing yet.
    light, large
        Take it on the light theme and on a 4K screen, too.
    """

    def add(reach: Callable[[Stage], None]) -> Callable[[Stage], None]:
        name = reach.__name__.replace("_", "-")
        STATES[name] = State(name, reach, fresh, light, large)
        return reach

    return add


@dataclass
class Stage:
    """A real window with the panel.

    Attributes
    ----------
    out
        Folder of the pictures.
    steps
        Steps of the lesson, None for those of the method.
    large
        Whether the screen is a 4K one.
    ends
        What is to be ended with the window.
    """

    viewer: napari.Viewer
    dock: DanteDock
    out: Path
    steps: int | None = None
    large: bool = False
    ends: ExitStack = field(default_factory=ExitStack)

    @property
    def controller(self) -> Any:
        return self.dock.controller

    @property
    def mask(self) -> Labels:
        return self.controller.session.labels

    def wait(self, done: Any, start: Callable[[], object]) -> None:
        """Start something and wait until it is done."""
        wait_for(done, self.controller.failed, lambda: start())
        pump(300)

    def open(self, name: str) -> None:
        """Open a sample."""
        path, title = sample_path(name), SAMPLES[name]
        self.wait(self.controller.opened, lambda: self.controller.open_volume(path, name=title))
        self.controller.choose_model(MODEL)

    def predict(self) -> None:
        """Press Predict and wait for the mask."""
        self.wait(self.controller.predicted, self.dock.predict.predict.click)

    def try_to(self, done: Any, start: Callable[[], object]) -> None:
        """Start something that will fail, and wait until it has."""
        with suppress(DanteError):
            self.wait(done, start)
        pump(300)

    def show(self, index: int) -> None:
        """Show an axial slice."""
        self.viewer.dims.set_current_step(0, index)

    def correct(self, approved: int) -> None:
        """Bring five slices to the truth, and approve some of them."""
        truth = open_labels(sample_path("mni152_tissue")).array
        self.viewer.layers.selection.active = self.mask
        for number, index in enumerate(SLICES):
            where = np.nonzero(truth[index] != self.mask.data[index])
            full = (np.full(len(where[0]), index), *where)
            self.mask.data_setitem(full, truth[full])
            self.show(index)
            if number < approved:
                self.controller.session.tracker.toggle_approval()
        pump(300)

    def scroll_to(self, widget: Any) -> None:
        """Bring a part of the panel into view."""
        pump(200)
        self.dock._scroll.ensureWidgetVisible(widget, 0, 4)

    def take(self, one: State) -> None:
        """Take the pictures of a state."""
        if self.large:
            self._picture(f"{one.name}-4k")
            return
        self._picture(one.name)
        if one.light:
            self.viewer.theme = "light"
            self._picture(f"{one.name}-light")
            self.viewer.theme = "dark"

    def _picture(self, name: str) -> None:
        pump(900)
        shot = self.viewer.screenshot(canvas_only=False, flash=False)
        Image.fromarray(shot).convert("RGB").save(self.out / f"{name}.png", optimize=True)
