"""The images on the desk: opening, predicting, and what a person does to each mask."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image
from qtpy.QtCore import QCoreApplication, QObject, QTimer, Signal

from napari_dante.corrections.journal import Saved
from napari_dante.errors import DanteError, ModelError, SeriesChoice, VolumeError
from napari_dante.jobs.casebook import key_of
from napari_dante.jobs.events import Event
from napari_dante.model.file import Lineage, read_header
from napari_dante.model.library import Library, Version
from napari_dante.model.shelf import Shelf
from napari_dante.model.spec import ArchitectureSpec
from napari_dante.ui import work
from napari_dante.ui.activity import Activity
from napari_dante.ui.engine import Engine
from napari_dante.ui.fit import misfit
from napari_dante.ui.keeper import find_saved
from napari_dante.ui.layers import LayerData, grid_of
from napari_dante.ui.readers import read_path
from napari_dante.ui.session import Session, is_ours
from napari_dante.ui.settings import read_settings
from napari_dante.ui.states import Task
from napari_dante.ui.words import counted
from napari_dante.volume.open import VolumeInfo, describe
from napari_dante.volume.progress import Tell

if TYPE_CHECKING:
    from napari.viewer import Viewer

__all__ = ["Desk", "Series"]

SAVE_MS = 300
Opened = tuple[LayerData, tuple[str, ...]]


@dataclass(frozen=True)
class Series:
    """A folder with several volumes, one of which is to be chosen."""

    path: Path
    volumes: tuple[VolumeInfo, ...]


class Desk(QObject):
    """Open images, the chosen model and the engine that predicts.

    Every method returns at once and the signals say when something is done. ``changed``
    says that something to show differs; ``failed`` carries one sentence for the person,
    ``notice`` one that is no failure.
    """

    changed = Signal()
    told = Signal(object)
    opened = Signal()
    predicted = Signal()
    failed = Signal(str)
    notice = Signal(str)
    _found = Signal(object, object)
    _reading = Signal(float)

    def __init__(
        self, viewer: Viewer, library: Library | None = None, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self.viewer = viewer
        self.library = library or Library()
        self.shelf = Shelf()
        self.settings = read_settings()
        self.engine = Engine(self.settings.threads, self)
        self.series: Series | None = None
        self.session: Session | None = None
        self.model = next(iter(self.library.names()), None)
        self._finds: dict[Path, tuple[str, ...]] = {}
        self._sessions: dict[Image, Session] = {}
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.timeout.connect(self.changed)
        self._saving = QTimer(self)
        self._saving.setSingleShot(True)
        self._saving.timeout.connect(self._save)
        self._found.connect(self._offer)
        self._activity = Activity("")
        self._reading.connect(self._show_reading)
        sessions = self._sessions
        self.destroyed.connect(lambda: _close(sessions))
        application = QCoreApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(lambda: _close(sessions))
        self.engine.changed.connect(self._later)
        self.engine.told.connect(self.told)
        self.engine.failed.connect(self._ended)
        viewer.layers.events.inserted.connect(self._inserted)
        viewer.layers.events.removed.connect(self._removed)
        for layer in viewer.layers:
            self._adopt(layer)

    @property
    def sessions(self) -> list[Session]:
        """One for each image of ours in the viewer."""
        return list(self._sessions.values())

    @property
    def models(self) -> tuple[str, ...]:
        """The names of all models that can predict."""
        return (*self.library.names(), *self.shelf.names())

    @property
    def runs_own_code(self) -> bool:
        """Whether the chosen model is a file that only its own code can run."""
        return self.shelf.find(self.model) is not None

    @property
    def known(self) -> tuple[str, ...] | None:
        """The structures that the chosen model knows; None where that is not known.

        A model that runs by its own code says so only when it predicts.
        """
        if self.runs_own_code:
            file = self._model_file()
            return self._finds.get(file) if file is not None else None
        header = self.header
        return None if header is None else tuple(label.name for label in header[0].labels)

    @property
    def versions(self) -> tuple[Version, ...]:
        """The versions of the chosen model, oldest first."""
        if self.model is None:
            return ()
        return self.shelf.history(self.model) or self.library.history(self.model)

    @property
    def header(self) -> tuple[ArchitectureSpec, Lineage] | None:
        """Spec and lineage of the chosen model, None where there is none that can be read."""
        try:
            return self.library.header(self.model) if self.model is not None else None
        except ModelError:
            return None

    def open_volume(self, path: Path, series: str | None = None, name: str | None = None) -> None:
        """Open a NIfTI file, a DICOM file or a DICOM folder."""
        self.series = None
        reading = _opening(path, series, name, self._reading.emit)
        if self._run(Task.OPEN, reading, self._opened):
            self._activity = Activity("Reading an image")

    def choose_image(self, session: Session) -> None:
        """Work on another of the open images."""
        self.session = session
        self._later()

    def _show_reading(self, part: float) -> None:
        self._activity.tell(part)

    def _opened(self, found: Opened | Series) -> None:
        self._activity.close()
        if isinstance(found, Series):
            self.series = found
            self.notice.emit(f"There are {len(found.volumes)} volumes here: choose one.")
            return
        layer, problems = found
        data, kwargs, kind = layer
        add = self.viewer.add_image if kind == "image" else self.viewer.add_labels
        add(data, **kwargs)
        if problems:
            self.notice.emit(" ".join(problems))
        self.opened.emit()

    def predict(self) -> None:
        """Let the chosen model propose a mask for the chosen image."""
        session, model = self.session, self._model_file()
        if session is None or model is None:
            self._refuse(VolumeError("Open an image first."))
            return
        image, spacing = np.asarray(session.image.data), session.geometry.spacing
        own_code = self.runs_own_code
        events = work.predict(self.engine.worker, image, spacing, model, self.settings.device)

        def done(proposal: work.Proposal) -> None:
            kept = session.propose(proposal.mask, proposal, proposal.doubt)
            self._finds[model] = tuple(label.name for label in proposal.labels)
            odd = misfit(None if own_code else read_header(model)[0], spacing, proposal.mask)
            if kept:
                self.notice.emit(
                    f"{kept} corrected or approved slices were left as they are; Ctrl+Z takes "
                    "the new proposal back."
                )
            elif odd:
                self.notice.emit(odd)
            self.predicted.emit()

        self._run(Task.PREDICT, events, done)

    def adopt(self) -> None:
        """Correct the topmost open mask of the chosen image instead of predicting one."""
        session = self.session
        masks = session.masks() if session is not None else []
        if session is None or not masks:
            self._refuse(VolumeError("There is no mask on the grid of this image."))
            return
        session.adopt(masks[-1])
        self.predicted.emit()

    def choose_model(self, name: str) -> None:
        """Predict, teach and share with the current version of model `name`."""
        self.model = name
        self._later()

    def _run(
        self, task: Task, events: Generator[Event, None, Any], then: Callable[[Any], None]
    ) -> bool:
        """Start a task, or refuse and return False while another one runs."""
        try:
            self.engine.run(task, events, then)
        except DanteError as error:
            self._refuse(error)
            return False
        return True

    def _ended(self, task: Task | None, error: DanteError) -> None:
        """Take in that a task ended without a result."""
        self._activity.close()
        if isinstance(error, work.Cancelled):
            self.notice.emit("Cancelled; nothing changed.")
        else:
            self.failed.emit(error.sentence)
        self._later()

    def _refuse(self, error: DanteError) -> None:
        """Say why what was asked cannot be done now."""
        self.failed.emit(error.sentence)

    def _model_file(self) -> Path | None:
        if self.model is None:
            return None
        return self.shelf.find(self.model) or self.library.resolve(self.model)

    def _later(self) -> None:
        """Tell what changed once the array is written: napari announces strokes before."""
        self._soon.start(0)

    def _inserted(self, event: Any) -> None:  # noqa: ANN401
        self._adopt(event.value)

    def _adopt(self, layer: Any) -> None:  # noqa: ANN401
        if isinstance(layer, Image) and grid_of(layer.metadata) is None:
            self.notice.emit(
                "This image came through another reader, so its place in the patient is not "
                "known; open its file here to work on it."
            )
        self._later()
        if is_ours(layer):
            session = Session(
                self.viewer,
                layer,
                self._corrected,
                self._later,
                self.failed.emit,
                self.notice.emit,
            )
            self.session = self._sessions[layer] = session
            threading.Thread(target=self._look_for, args=(session,), daemon=True).start()
            self._later()

    def _corrected(self) -> None:
        """Save soon; strokes in quick succession are saved together."""
        if not self._saving.isActive():
            self._saving.start(SAVE_MS)
        self._later()

    def _save(self) -> None:
        for session in self.sessions:
            session.save()

    def _look_for(self, session: Session) -> None:
        """Look, beside the viewer, for corrections of this image that were saved before."""
        image = np.asarray(session.image.data)
        session.volume = key_of(image)
        found = find_saved(session.volume, image.shape) if session.volume is not None else None
        if found is not None:
            with suppress(RuntimeError):  # the panel was closed meanwhile
                self._found.emit(session, found)

    def _offer(self, session: Session, found: tuple[Path, Saved]) -> None:
        if session.tracker is None:
            session.saved = found
            slices = counted(len(found[1].slices), "slice")
            self.notice.emit(f"{slices} of this image corrected before: press Restore.")
            self._later()

    def restore(self) -> None:
        """Go on with the corrections of the chosen image that were saved before."""
        if self.session is not None and self.session.saved is not None:
            self.session.restore()
            self.predicted.emit()

    def _removed(self, event: Any) -> None:  # noqa: ANN401
        for session in self.sessions:
            if session.labels is event.value:
                session.release()
        gone = self._sessions.pop(event.value, None)
        if gone is not None:
            gone.release()
            self.session = next(iter(self._sessions.values()), None)
        self._later()


def _close(sessions: dict[Image, Session]) -> None:
    for session in sessions.values():
        session.release()


def _opening(
    path: Path, series: str | None, name: str | None, tell: Tell
) -> Generator[Event, None, Opened | Series]:
    yield from ()
    try:
        (data, kwargs, kind), problems = read_path(path, series, tell)
    except SeriesChoice:
        return Series(path, tuple(describe(path).volumes))
    return (data, kwargs | ({"name": name} if name else {}), kind), problems
