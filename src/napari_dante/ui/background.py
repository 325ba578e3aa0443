"""Running a generator of events beside the viewer and hearing of it in the Qt thread."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from typing import Any

from napari.qt.threading import create_worker
from qtpy.QtCore import QObject, Signal

from napari_dante.errors import DanteError
from napari_dante.jobs.events import Event

__all__ = ["Background"]

_log = logging.getLogger("napari_dante")


class Background(QObject):
    """At most one task at a time; its events and its end arrive as signals.

    ``failed`` carries a :class:`DanteError`; any other exception is a defect, which is
    logged with its traceback and arrives as a general sentence.
    """

    told = Signal(object)
    failed = Signal(object)
    _done = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._running: Any = None
        self._then: Callable[[Any], None] | None = None
        self._done.connect(self._returned)

    @property
    def busy(self) -> bool:
        """Whether a task runs."""
        return self._running is not None

    def run(self, task: Generator[Event, None, Any], then: Callable[[Any], None]) -> None:
        """Start a task; `then` gets what its generator returns.

        Raises
        ------
        RuntimeError
            If a task runs.
        """
        if self.busy:
            raise RuntimeError("one task at a time")

        def events() -> Generator[Event, None, Any]:
            try:
                return (yield from task)
            except RuntimeError as error:
                # napari takes a RuntimeError for its own and would drop it silently.
                raise _Defect(repr(error)) from error

        self._then = then
        self._running = create_worker(events, _start_thread=False, _ignore_errors=True)
        self._running.yielded.connect(self.told)
        self._running.returned.connect(self._done)
        self._running.errored.connect(self._failed)
        self._running.start()

    def _returned(self, result: object) -> None:
        then, self._then, self._running = self._then, None, None
        if then is not None:
            then(result)

    def _failed(self, error: BaseException) -> None:
        self._then, self._running = None, None
        if isinstance(error, DanteError):
            _log.warning("%s: %s", type(error).__name__, error.detail)
            self.failed.emit(error)
            return
        _log.error("A task ended unexpectedly.", exc_info=error)
        self.failed.emit(
            DanteError("Something went wrong that should not have; nothing you corrected is lost.")
        )


class _Defect(Exception):
    """A RuntimeError under another name."""
