"""Where a mask differs from the reference, and how much of each slice it gets right. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dante.evaluate.overlap import dice

__all__ = ["Mistake", "SliceScore", "mean_dice", "mistakes"]


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


def mean_dice(
    mask: NDArray[Any], truth: NDArray[Any], names: Mapping[int, str] | Sequence[int]
) -> float | None:
    """Return the mean Dice over the class numbers in `names`, None where there is none."""
    scores = [dice(mask == value, truth == value) for value in names]
    found = [score for score in scores if score is not None]
    return float(np.mean(found)) if found else None
