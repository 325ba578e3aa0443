"""The worker process as the panel sees it: warm or not, what it does, how it ends."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator
from typing import Any

from qtpy.QtCore import QCoreApplication, QObject, Signal

from napari_dante.adapt.events import Word
from napari_dante.errors import DanteError, JobError
from napari_dante.jobs.client import Worker
from napari_dante.jobs.events import Event, Failed, Paused, Ready, Resumed
from napari_dante.ui.background import Background
from napari_dante.ui.states import Task
from napari_dante.ui.work import WorkerDied

__all__ = ["Engine"]

_log = logging.getLogger("napari_dante")
_PATIENCE = 30.0


class Engine(QObject):
    """Owns the worker; runs one task at a time and tells how it goes.

    ``changed`` says that `task`, `paused` or `ready` differ; ``told`` carries each event
    of the running task; ``failed`` the task and the :class:`DanteError` that ended it.
    """

    changed = Signal()
    told = Signal(object)
    failed = Signal(object, object)
    _warmed = Signal(object)

    def __init__(self, threads: int | None, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.worker = Worker(threads)
        self.ready: Ready | None = None
        self.task: Task | None = None
        self.paused = False
        self._warm = threading.Event()
        self._background = Background(self)
        self._background.told.connect(self._took)
        self._background.failed.connect(self._failed)
        self._warmed.connect(self._set_ready)
        self._close_with_everything()
        self._start()

    def run(
        self, task: Task, events: Generator[Event, None, Any], then: Callable[[Any], None]
    ) -> None:
        """Start `task`; `then` gets what its generator returns.

        Raises
        ------
        JobError
            If another task runs.
        """
        if self.task is not None:
            raise JobError(f"{self.task.value} is still going on; wait for it or cancel it.")
        self.task, self.paused = task, False

        def done(result: Any) -> None:  # noqa: ANN401
            self.task = None
            then(result)
            self.changed.emit()

        self._background.run(self._when_warm(events), done)
        self.changed.emit()

    def control(self, word: Word) -> None:
        """Pause, resume, stop (keeping the best) or cancel the running task."""
        self.worker.control(word)

    def _start(self) -> None:
        """Start the process; until it is warm, tasks wait for it."""
        self.ready = None
        self._warm.clear()
        threading.Thread(target=self._warm_up, name="dante-warm-up", daemon=True).start()

    def _when_warm(self, events: Generator[Event, None, Any]) -> Generator[Event, None, Any]:
        self._warm.wait()
        return (yield from events)

    def _warm_up(self) -> None:
        try:
            self._tell(self.worker.warm_up())
        except JobError as error:
            self._tell(Failed("worker", error.sentence, error.detail))

    def _tell(self, event: Ready | Failed) -> None:
        self._warm.set()
        try:
            self._warmed.emit(event)
        except RuntimeError:
            _log.debug("The panel was closed before the worker was ready.")

    def _set_ready(self, event: Ready | Failed) -> None:
        if isinstance(event, Ready):
            self.ready = event
        else:
            self.failed.emit(None, DanteError(event.sentence, event.detail))
        self.changed.emit()

    def _took(self, event: Event) -> None:
        if isinstance(event, Ready):
            self.ready = event
        elif isinstance(event, Paused | Resumed):
            self.paused = isinstance(event, Paused)
            self.changed.emit()
        self.told.emit(event)

    def _failed(self, error: DanteError) -> None:
        task, self.task = self.task, None
        if isinstance(error, WorkerDied) and not self.worker.alive:
            self._start()
        self.failed.emit(task, error)
        self.changed.emit()

    def _close_with_everything(self) -> None:
        """End the process with this object or the program; neither waits for it."""
        worker, warm = self.worker, self._warm

        def end() -> None:
            # Until it is warm another thread reads from the process.
            warm.wait(_PATIENCE)
            worker.close()

        def close() -> None:
            threading.Thread(target=end, name="dante-close").start()

        self.destroyed.connect(close)
        application = QCoreApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(close)
