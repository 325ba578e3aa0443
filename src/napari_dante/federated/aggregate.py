"""How several sets of weights become one: every rule that the server and its simulation use.

Dafne's own average is :func:`napari_dante.model.merging.average`.

State dicts in, state dicts out: nothing here knows of files, users or a network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from napari_dante.model.merging import average

__all__ = ["Share", "best_share", "federated_average", "median"]

Weights = Mapping[str, torch.Tensor]
SHARES = (0.25, 0.5, 0.75, 1.0)
"""Shares of an update that ``examined`` tries."""


@dataclass(frozen=True)
class Share:
    """How much of an update goes in, and what an exam says of the result."""

    share: float
    dice: float


def federated_average(
    updates: Sequence[Weights], cases: Sequence[float]
) -> dict[str, torch.Tensor]:
    """Return the mean of `updates` weighted by their `cases` (FedAvg, McMahan et al. 2017).

    Sums are made in float64; whole numbers are rounded to the nearest.
    """
    total = float(sum(cases))
    result = {}
    for key, value in updates[0].items():
        mean = sum(
            (
                one[key].double() * (count / total)
                for one, count in zip(updates, cases, strict=True)
            ),
            torch.zeros(value.shape, dtype=torch.float64),
        )
        result[key] = (mean if value.is_floating_point() else mean.round()).to(value.dtype)
    return result


def median(updates: Sequence[Weights]) -> dict[str, torch.Tensor]:
    """Return the median of `updates`, number by number (Yin et al. 2018).

    Fewer than half of the updates can be anything at all without leading it away. Of an
    even number the two in the middle are averaged.
    """
    result = {}
    for key, value in updates[0].items():
        ordered = torch.stack([one[key].double() for one in updates]).sort(dim=0).values
        middle = (ordered[(len(updates) - 1) // 2] + ordered[len(updates) // 2]) / 2
        result[key] = (middle if value.is_floating_point() else middle.round()).to(value.dtype)
    return result


def best_share(
    old: Weights,
    new: Weights,
    examine: Callable[[Weights], float],
    shares: Sequence[float] = SHARES,
) -> Share:
    """Return the share of `new` whose average with `old` does best in an exam.

    Of equals the smallest is taken.
    """
    found = [Share(share, examine(average(old, new, 1 - share))) for share in shares]
    return max(found, key=lambda one: (one.dice, -one.share))
