"""What may be done to a mask after the prediction."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

__all__ = ["largest_component"]


def largest_component(classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the classes of the largest connected piece, and background elsewhere.

    All structures count as one piece where they touch, face to face: of a structure that
    is there twice, left and right, nothing is lost as long as something lies between.

    Parameters
    ----------
    classes
        (z, y, x) class numbers, 0 the background.
    """
    pieces, _ = label(classes > 0)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    largest = sizes.argmax()
    kept: NDArray[np.uint8] = np.where((pieces == largest) & (largest > 0), classes, np.uint8(0))
    return kept
