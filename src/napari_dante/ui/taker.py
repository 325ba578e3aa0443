"""Model files from elsewhere, and the word of a person where they hold code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

from napari_dante.errors import DanteError
from napari_dante.model.library import Library
from napari_dante.ui import taking
from napari_dante.ui.desk import Desk
from napari_dante.ui.states import Task

if TYPE_CHECKING:
    from napari.viewer import Viewer

__all__ = ["Taker"]


class Taker(Desk):
    """The desk, and model files that somebody was given.

    ``taken`` says that a file was brought in, or waits for a person's word.
    """

    taken = Signal()

    def __init__(
        self, viewer: Viewer, library: Library | None = None, parent: QObject | None = None
    ) -> None:
        self.foreign: taking.Foreign | None = None
        super().__init__(viewer, library, parent)

    def open_model(self, path: Path) -> None:
        """Bring a model file in; where it holds code that is needed, ask first."""
        self.foreign = None

        def done(found: str | taking.Foreign) -> None:
            if isinstance(found, taking.Foreign):
                self.foreign = found
                self._later()
            else:
                self._take(found)
            self.taken.emit()

        self._run(Task.TAKE, taking.take(self.engine.worker, self.library, self.shelf, path), done)

    def trust_model(self) -> None:
        """Allow the code of the very file that waits for it."""
        foreign, self.foreign = self.foreign, None
        if foreign is None:
            return
        try:
            self._take(taking.allow(self.shelf, foreign))
        except DanteError as error:
            self._refuse(error)
            self._later()

    def leave_model(self) -> None:
        """Forget the file that waits; nothing of it was run or kept."""
        self.foreign = None
        self._later()

    def _take(self, name: str) -> None:
        self.choose_model(name)
        self.notice.emit(f"'{name}' is ready to predict.")
