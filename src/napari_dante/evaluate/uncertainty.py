"""In which slices a model is unsure, and which to correct next. Torch-free."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["slice_doubt", "suggest"]

_FULL_GAIN = 0.15


def slice_doubt(entropy: NDArray[np.float32]) -> tuple[NDArray[np.float64], ...]:
    """Sum up how unsure a model is of each slice, for the slices across each axis.

    The sum goes with the number of wrong voxels, so with what a correction of the slice
    can bring.

    Parameters
    ----------
    entropy
        (z, y, x), 0 where the model is sure, 1 where it is undecided.

    Returns
    -------
    tuple
        Three arrays (slice,), in voxels: across z, across y, across x.
    """
    return tuple(
        entropy.sum(axis=tuple(other for other in range(3) if other != axis), dtype=np.float64)
        for axis in range(3)
    )


def suggest(doubt: NDArray[np.float64], trusted: NDArray[np.bool_]) -> list[int]:
    """Return the slices worth correcting, the best next one first.

    A slice is worth its doubt times its distance to the nearest slice that is right
    already, up to 15 % of the stack: neighbours of a corrected slice teach little that is
    new. Each suggestion counts as corrected for the next one, so the list spreads out.

    Parameters
    ----------
    doubt
        (slice,) not negative, see :func:`slice_doubt`.
    trusted
        (slice,) which slices are right already; they are never suggested.
    """
    places = np.arange(len(doubt))
    reach = max(1.0, _FULL_GAIN * len(doubt))
    gain = np.ones(len(doubt))
    for index in np.flatnonzero(trusted):
        gain = np.minimum(gain, np.abs(places - index) / reach)
    order: list[int] = []
    while (worth := doubt * gain).any():
        best = int(worth.argmax())
        order.append(best)
        gain = np.minimum(gain, np.abs(places - best) / reach)
    return order
