"""Running Qt's event loop from a script, and measuring how it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QElapsedTimer, QEventLoop, QTimer

from napari_dante.errors import DanteError, JobError

__all__ = ["event_loop_pauses", "pump", "wait_for"]

PATIENCE_MS = 900_000
TICK_MS = 10
ACTION_MS = 100


def pump(milliseconds: int) -> None:
    """Let the event loop run for a while."""
    loop = QEventLoop()
    QTimer.singleShot(milliseconds, loop.quit)
    loop.exec_()


def wait_for(done: Any, failed: Any, start: Callable[[], None]) -> None:  # noqa: ANN401
    """Start something and let the event loop run until a signal says that it ended.

    Parameters
    ----------
    done, failed
        Qt signals; `failed` carries a sentence.
    start
        Called from the running event loop.

    Raises
    ------
    DanteError
        With the sentence of `failed`, or when neither comes in a quarter of an hour.
    """
    loop = QEventLoop()
    ended: list[str | None] = []

    def finish(sentence: str | None = None) -> None:
        ended.append(sentence)
        loop.quit()

    def succeed() -> None:
        finish()

    done.connect(succeed)
    failed.connect(finish)
    patience = QTimer()
    patience.setSingleShot(True)
    patience.timeout.connect(loop.quit)
    patience.start(PATIENCE_MS)
    QTimer.singleShot(0, start)
    loop.exec_()
    done.disconnect(succeed)
    failed.disconnect(finish)
    if not ended:
        raise JobError("The task did not end in time.")
    if ended[0] is not None:
        raise DanteError(ended[0])


def event_loop_pauses(run: Callable[[], None], act: Callable[[], None]) -> list[int]:
    """Return the milliseconds between ticks of the event loop while `run` runs.

    Parameters
    ----------
    run
        Keeps the event loop running, such as :func:`pump`.
    act
        What the person does, ten times a second.
    """
    clock = QElapsedTimer()
    pauses: list[int] = []
    ticks, actions = QTimer(), QTimer()
    ticks.setInterval(TICK_MS)
    actions.setInterval(ACTION_MS)
    ticks.timeout.connect(lambda: pauses.append(clock.restart()))
    actions.timeout.connect(act)
    clock.start()
    ticks.start()
    actions.start()
    run()
    ticks.stop()
    actions.stop()
    return pauses
