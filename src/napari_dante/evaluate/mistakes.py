"""Where a mask differs from the reference, and how much of each slice it gets right. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dante.evaluate.overlap import dice

__all__ = ["GRADES", "Mistake", "SliceScore", "distances", "mean_dice", "mistakes"]

GRADES = (1.0, 2.0, 4.0)
"""Distances in mm that part mistakes into four grades, from a matter of taste to gross."""


class Mistake(IntEnum):
    """What is wrong with a voxel; the value stands in the array of :func:`mistakes`."""

    MISSED = 1
    EXTRA = 2
    CONFUSED = 3


@dataclass(frozen=True)
class SliceScore:
    """Mean Dice over the structures of one slice, before and after.

    None where neither the reference nor the mask shows a structure. ``exam`` says whether
    the slice was examined; otherwise it was learned from, or lay too near to the exam.
    """

    slice: int
    exam: bool
    before: float | None
    after: float | None


def mistakes(mask: NDArray[Any], truth: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the :class:`Mistake` of each voxel, 0 where there is none.

    Parameters
    ----------
    mask, truth
        Class numbers, the same shape, 0 for the background.
    """
    wrong = mask != truth
    out = np.zeros(mask.shape, np.uint8)
    out[wrong & (mask == 0)] = Mistake.MISSED
    out[wrong & (truth == 0)] = Mistake.EXTRA
    out[wrong & (mask != 0) & (truth != 0)] = Mistake.CONFUSED
    return out


def distances(
    mask: NDArray[Any], truth: NDArray[Any], spacing: tuple[float, float]
) -> NDArray[np.float32]:
    """Return how far in mm each wrong pixel of a slice lies from where it would be right.

    That is from the structure that the mask shows there in the reference, or from the one
    that the reference shows in the mask, whichever is farther; infinite where there is none
    on this slice, 0 where nothing is wrong.

    Parameters
    ----------
    mask, truth
        Class numbers (rows, columns), 0 for the background.
    spacing
        mm per pixel (row, column).
    """
    from scipy.ndimage import distance_transform_edt  # a quarter of a second, so not before

    wrong = mask != truth
    out = np.zeros(mask.shape, np.float32)
    for value in np.setdiff1d(np.union1d(mask[wrong], truth[wrong]), 0):
        said, right = mask == value, truth == value
        for here, there in ((said & wrong, right), (right & wrong, said)):
            away = distance_transform_edt(~there, sampling=spacing)[here] if there.any() else np.inf
            out[here] = np.maximum(out[here], away)
    return out


def mean_dice(
    mask: NDArray[Any], truth: NDArray[Any], names: Mapping[int, str] | Sequence[int]
) -> float | None:
    """Return the mean Dice over the class numbers in `names`, None where there is none."""
    scores = [dice(mask == value, truth == value) for value in names]
    found = [score for score in scores if score is not None]
    return float(np.mean(found)) if found else None
