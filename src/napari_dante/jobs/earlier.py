"""Cases that a model has learned before: rehearsed, and examined for what it forgot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from napari_dante.adapt.monitor import Monitor
from napari_dante.adapt.patches import Grid
from napari_dante.evaluate.report import Retained
from napari_dante.evaluate.split import split_slices
from napari_dante.jobs.case import CaseData
from napari_dante.jobs.grids import case_grid
from napari_dante.model.spec import ArchitectureSpec

__all__ = ["EarlierCase", "dice", "retained"]

EXAM_FRACTION = 0.3


@dataclass(frozen=True)
class EarlierCase:
    """One earlier case on the grid of a model.

    Attributes
    ----------
    rehearsed
        The case, trusted on the slices that are learned again.
    monitor
        Looks at the other slices.
    """

    rehearsed: Grid
    monitor: Monitor

    @classmethod
    def of(cls, case: CaseData, spec: ArchitectureSpec) -> EarlierCase:
        """Prepare a case."""
        split = split_slices(case.trusted, EXAM_FRACTION)
        looked_at = case_grid(case, split.exam, spec)
        return cls(case_grid(case, split.learn, spec), Monitor(looked_at, spec, case.axis))


def dice(cases: Sequence[EarlierCase], network: nn.Module) -> list[Mapping[str, float]]:
    """Return the Dice of each structure on the slices that are not rehearsed, by case."""
    return [case.monitor.look(network).dice for case in cases]


def retained(
    before: Sequence[Mapping[str, float]], after: Sequence[Mapping[str, float]]
) -> tuple[Retained, ...]:
    """Return the mean over the cases, for each structure that both looks found."""
    pairs: dict[str, list[tuple[float, float]]] = {}
    for old, new in zip(before, after, strict=True):
        for label in old:
            if label in new:
                pairs.setdefault(label, []).append((old[label], new[label]))
    return tuple(
        Retained(label, *(float(value) for value in np.mean(found, axis=0)))
        for label, found in pairs.items()
    )
