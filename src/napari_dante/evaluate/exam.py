"""The exam: two masks against the person's slices, structure by structure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dante.evaluate.metrics import measure
from napari_dante.evaluate.report import ExamReport, Retained, Score
from napari_dante.evaluate.split import Split

__all__ = ["examine"]

TOLERANCE = 2.0
"""Default NSD tolerance in mm: about what two readers of brain MRI differ by."""


def examine(
    before: NDArray[np.uint8],
    after: NDArray[np.uint8],
    truth: NDArray[Any],
    *,
    names: Mapping[int, str],
    spacing: Sequence[float],
    axis: int,
    split: Split,
    tolerance: float = TOLERANCE,
    earlier: tuple[Retained, ...] = (),
) -> ExamReport:
    """Compare the old and the new model on the slices set aside.

    Parameters
    ----------
    before, after, truth
        Class numbers (z, y, x); `truth` is read on the exam slices only.
    names
        Structure of each class number.
    spacing
        mm per voxel (z, y, x).
    axis
        Slice axis; distances are measured within the slice.
    split
        Which slices were learned from and which are examined.
    tolerance
        NSD tolerance in mm.
    earlier
        What was kept of earlier cases.
    """
    in_plane = [size for index, size in enumerate(spacing) if index != axis]
    scores = []
    for index in split.exam:
        old, new, reference = (np.take(array, index, axis) for array in (before, after, truth))
        for value, name in names.items():
            target = reference == value
            scores.append(
                Score(
                    name,
                    index,
                    measure(old == value, target, in_plane, tolerance),
                    measure(new == value, target, in_plane, tolerance),
                )
            )
    return ExamReport(axis, split.exam, split.learn, tuple(scores), tolerance, earlier)
