"""Bootstrap intervals of a mean. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["mean_interval", "two_stage_interval"]

MINIMUM = 2
RESAMPLES = 2000
_LEVELS = (2.5, 97.5)


def two_stage_interval(groups: Sequence[Sequence[float]]) -> tuple[float, float] | None:
    """Return the 95 % interval of the mean of values that come in groups.

    Groups are drawn with replacement, then values within each group (two-stage bootstrap,
    Davison & Hinkley 1997, §3.8).

    Parameters
    ----------
    groups
        Values that are not independent of those in the same group; none is empty.

    Returns
    -------
    tuple of float or None
        None below two groups.
    """
    if len(groups) < MINIMUM:
        return None
    arrays, random = [np.array(values) for values in groups], np.random.default_rng(0)
    return _percentiles([_resampled_mean(arrays, random) for _ in range(RESAMPLES)])


def mean_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % interval of the mean of independent values, None below two of them."""
    if len(values) < MINIMUM:
        return None
    array, random = np.array(values), np.random.default_rng(0)
    drawn = random.integers(len(array), size=(RESAMPLES, len(array)))
    return _percentiles(array[drawn].mean(axis=1))


def _resampled_mean(groups: Sequence[NDArray[Any]], random: np.random.Generator) -> float:
    drawn = [groups[index] for index in random.integers(len(groups), size=len(groups))]
    return float(
        np.mean([values[random.integers(len(values), size=len(values))].mean() for values in drawn])
    )


def _percentiles(means: Sequence[float] | NDArray[Any]) -> tuple[float, float]:
    low, high = np.percentile(means, _LEVELS)
    return float(low), float(high)
