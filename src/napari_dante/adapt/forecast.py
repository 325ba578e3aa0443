"""How long a lesson will take. Torch-free."""

from __future__ import annotations

import math
import statistics
from collections import deque

__all__ = ["Forecast"]

_RECENT = 20
_OUTLIER = 3.0


class Forecast:
    """Time left, from what steps and looks at the exam took so far.

    Pauses do not count, nor does the first step, in which libraries warm up. A lesson that
    ends early because nothing gets better ends before its time.

    Parameters
    ----------
    total, every
        Steps at most, and steps between two looks.
    look
        Seconds of a look at the exam slices before the first step.
    rest
        Seconds from the last step to the result.
    """

    def __init__(self, total: int, every: int, look: float = 0.0, rest: float = 0.0) -> None:
        self._total, self._every = total, every
        self._look, self._rest = look, rest
        self._first: float | None = None
        self._steps: deque[float] = deque(maxlen=_RECENT)

    def stepped(self, seconds: float) -> None:
        """Take in what a step took."""
        if self._first is None:
            self._first = seconds
        else:
            self._steps.append(seconds)

    def looked(self, seconds: float) -> None:
        """Take in what a look at the exam took, with what follows from it."""
        self._look = seconds

    def left(self, step: int) -> float:
        """Return the seconds left after `step`, before its look, with the end of the lesson."""
        looks = math.ceil(self._total / self._every) - max(0, step - 1) // self._every
        return (self._total - step) * self._step + looks * self._look + self._rest

    @property
    def _step(self) -> float:
        """Mean of the last steps; what stands out, as when the computer slept, is cut."""
        if not self._steps:
            return self._first or 0.0
        most = _OUTLIER * statistics.median(self._steps)
        return statistics.fmean(min(seconds, most) for seconds in self._steps)
