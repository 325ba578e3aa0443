"""Which look at a lesson is kept, and when the lesson has ended by itself.

A handful of exam slices cannot tell two good models apart, so neither decision trusts a
single small difference between them.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["Judge", "Look", "has_levelled_off"]

LEAST_GAIN = 1e-3
"""Rise of the exam Dice, or relative fall of the loss, that counts as going on."""
ONE_SLICE = 0.02
"""What the Dice of a single exam slice varies by, where no spread can be measured."""


@dataclass(frozen=True)
class Look:
    """Dice at one look at the exam slices.

    Attributes
    ----------
    dice
        Per structure, over all exam slices.
    slices
        Mean over the structures, for each exam slice.
    """

    dice: Mapping[str, float] = field(default_factory=dict)
    slices: tuple[float, ...] = ()

    @property
    def mean(self) -> float:
        """Mean over the structures; not a number when there is no exam."""
        return sum(self.dice.values()) / len(self.dice) if self.dice else math.nan


@dataclass
class Judge:
    """What was seen so far; plain numbers that a checkpoint holds.

    Attributes
    ----------
    best
        Highest mean Dice of any look.
    slices
        Dice by slice at that look.
    misses
        Looks since the mean last rose.
    """

    best: float = -math.inf
    slices: tuple[float, ...] = ()
    misses: int = 0

    def keeps(self, look: Look) -> bool:
        """Take in a look; tell whether its weights replace those kept so far.

        Later weights have seen more and a smaller learning rate. They are kept unless they
        are worse than the best look by more than the standard error of the slice-by-slice
        difference: the highest of many noisy scores is mostly luck.
        """
        if not look.dice:
            return True
        rise = look.mean - self.best
        self.misses = 0 if rise > LEAST_GAIN else self.misses + 1
        kept = -rise <= _noise(look.slices, self.slices)
        if rise > 0:
            self.best, self.slices = look.mean, look.slices
        return kept

    def opened(self) -> None:
        """More of the network learns from now on: earlier misses say nothing."""
        self.misses = 0


def _noise(now: Sequence[float], then: Sequence[float]) -> float:
    """Return the standard error of the mean difference between two looks."""
    pairs = list(zip(now, then, strict=False))
    if len(pairs) < 2:
        return ONE_SLICE
    return statistics.stdev(a - b for a, b in pairs) / math.sqrt(len(pairs))


def has_levelled_off(losses: Sequence[float], window: int) -> bool:
    """Tell whether training has stopped to improve on its own data.

    FSEFT stops without validation data when the smoothed training loss has fallen by less
    than a fixed amount (Silva-Rodríguez et al., Med. Image Anal. 2025). Here the mean of
    the last `window` steps is held against the mean of the `window` before: the lesson
    goes on while the fall is visible above the noise of single steps, whatever the scale
    of the loss.

    Parameters
    ----------
    losses
        Of all steps so far.
    window
        Steps in a mean; with fewer than two windows there is no answer yet.
    """
    if len(losses) < 2 * window or window < 2:
        return False
    before, after = losses[-2 * window : -window], losses[-window:]
    fall = statistics.fmean(before) - statistics.fmean(after)
    error = math.sqrt((statistics.variance(before) + statistics.variance(after)) / window)
    return fall <= max(LEAST_GAIN * abs(statistics.fmean(before)), error)
