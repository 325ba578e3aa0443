"""How far a reading is, in napari's activity dock. Qt-free."""

from __future__ import annotations

import time

from napari.utils import progress

__all__ = ["Activity"]

A_MOMENT = 0.3
_STEPS = 100


class Activity:
    """A bar for what takes longer than a moment; to be used in the window's own thread.

    napari lets the window work while it draws a bar, so more may be told, or the end of it,
    while something is being shown.

    Parameters
    ----------
    what
        What the bar says.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._begin = time.monotonic()
        self._bar: progress | None = None
        self._steps = 0
        self._showing = False
        self._ended = False

    def tell(self, part: float) -> None:
        """Show that `part` of it is done, from 0 to 1."""
        self._steps = int(part * _STEPS)
        if self._showing or self._ended or time.monotonic() - self._begin < A_MOMENT:
            return
        self._showing = True
        if self._bar is None:
            self._bar = progress(total=_STEPS, desc=self._what)
        while self._bar.n < self._steps:
            self._bar.update(self._steps - self._bar.n)
        self._showing = False
        if self._ended:
            self.close()

    def close(self) -> None:
        """Take the bar away."""
        self._ended = True
        if self._bar is not None and not self._showing:
            bar, self._bar = self._bar, None
            bar.close()
