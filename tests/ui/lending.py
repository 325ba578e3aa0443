"""The real worker process, lent from one window of the tests to the next."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

from napari_dante.jobs.client import Worker
from napari_dante.jobs.events import Failed, Ready

__all__ = ["LentWorker", "end_of_lending"]


@dataclass
class _Spare:
    """A warm process that no window has, and what it was started with and said first."""

    process: subprocess.Popen[bytes]
    threads: int
    ready: Ready


_spare: list[_Spare] = []


class LentWorker(Worker):
    """A worker whose process, when it is idle and well, goes on in the next test.

    Loading torch takes seconds, and it is the same process whether it was loaded for this
    window or for the one before: a worker answers one request after another. One that still
    works when it is closed ends as ever.
    """

    _ready: Ready | None = None

    def warm_up(self) -> Ready | Failed:
        if _spare and not self.alive and _spare[0].threads == self._threads:
            spare = _spare.pop()
            self._process, self._ready = spare.process, spare.ready
            if self.alive:
                return spare.ready
        event = super().warm_up()
        self._ready = event if isinstance(event, Ready) else None
        return event

    def close(self) -> None:
        process, ready = self._process, self._ready
        if process is None or ready is None or not self.alive or self.busy or _spare:
            super().close()
            return
        self._process = self._ready = None
        _spare.append(_Spare(process, self._threads, ready))


def end_of_lending() -> None:
    """End the spare process."""
    while _spare:
        worker = Worker()
        worker._process = _spare.pop().process
        worker.close()
