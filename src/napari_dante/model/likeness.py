"""Whether an image shows what a model was made for."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

from napari_dante.errors import ModelError
from napari_dante.model.card import Card
from napari_dante.model.inference import Prediction

__all__ = ["check_likeness", "largest_share"]

LARGEST_LITRES = 3.0
"""No brain with its fluid is larger."""

LEAST_SHARE = 0.5
"""Of a mask in its largest connected piece: what is in pieces is no brain."""

COARSE = 2.0
"""mm between the voxels that are looked at."""


def check_likeness(
    card: Card | None, found: Prediction, spacing: tuple[float, float, float]
) -> None:
    """Refuse a mask of something else than the model knows.

    A model whose card gives no limit is not checked, and neither is an empty mask: that is
    an answer.

    Parameters
    ----------
    card
        Of the model.
    found
        What it said.
    spacing
        mm per voxel (z, y, x).

    Raises
    ------
    ModelError
        If the model is more in doubt than about any head, the mask is larger than a brain
        or in pieces.
    """
    if card is None or card.doubt is None or not found.classes.any():
        return
    litres = float((found.classes > 0).sum()) * math.prod(spacing) / 1e6
    share = largest_share(found.classes, spacing)
    if found.doubt > card.doubt or litres > LARGEST_LITRES or share < LEAST_SHARE:
        raise ModelError(
            f"This does not look like a {card.body}, so the model was not used: choose another "
            "model, or another image.",
            detail=f"doubt {found.doubt:.3f}, {litres:.2f} litres, largest piece {share:.2f}",
        )


def largest_share(classes: NDArray[np.uint8], spacing: tuple[float, float, float]) -> float:
    """Return which part of a mask is in its largest connected piece; 1 for an empty one."""
    steps = [max(1, round(COARSE / size)) for size in spacing]
    pieces, _ = label(classes[tuple(slice(None, None, step) for step in steps)] > 0)
    sizes = np.bincount(pieces.ravel())[1:]
    return float(sizes.max() / sizes.sum()) if sizes.size else 1.0
