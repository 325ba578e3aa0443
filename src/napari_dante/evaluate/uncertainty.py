"""In which slices a model is unsure. Torch-free."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["SliceEntropy", "slice_entropy"]


class SliceEntropy(NamedTuple):
    """How unsure a model is of each slice of a volume.

    Attributes
    ----------
    mean
        (slice,) float64: mean entropy of the structures and their border, 0 (sure) to 1
        (undecided); 0 where the slice holds none. It goes with the error relative to the
        structures (1 - Dice), so that the small slices at the ends come first.
    total
        (slice,) float64: entropy summed over the slice, in voxels. It goes with the number
        of wrong voxels, so with what a correction of the slice can bring.
    """

    mean: NDArray[np.float64]
    total: NDArray[np.float64]


def slice_entropy(
    entropy: NDArray[np.float32], classes: NDArray[np.uint8], axis: int
) -> SliceEntropy:
    """Sum up the entropy of a prediction slice by slice.

    Parameters
    ----------
    entropy
        (z, y, x), between 0 and 1.
    classes
        (z, y, x) class numbers, 0 for the background.
    axis
        Slice axis.
    """
    within = tuple(index for index in range(3) if index != axis)
    counted = (classes > 0) | _border(classes)
    size = counted.sum(axis=within)
    mean = entropy.sum(axis=within, where=counted, dtype=np.float64) / np.maximum(size, 1)
    return SliceEntropy(mean, entropy.sum(axis=within, dtype=np.float64))


def _border(classes: NDArray[Any]) -> NDArray[np.bool_]:
    """Return the voxels that have a neighbour of another class."""
    border = np.zeros(classes.shape, bool)
    for axis in range(3):
        along, border_along = np.moveaxis(classes, axis, 0), np.moveaxis(border, axis, 0)
        differs = along[1:] != along[:-1]
        border_along[1:] |= differs
        border_along[:-1] |= differs
    return border
