"""In which slices a model is unsure, and which to correct next. Torch-free."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_dante.files import save_array

__all__ = ["Doubt", "read_doubt", "slice_doubt", "suggest", "write_doubt"]

Doubt = tuple[NDArray[np.float64], ...]
"""How unsure a model is of each slice across z, y and x."""

_FULL_GAIN = 0.15


def slice_doubt(entropy: NDArray[np.float32]) -> Doubt:
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


def write_doubt(path: Path, entropy: NDArray[np.float32]) -> None:
    """Write :func:`slice_doubt` as one ``.npy``: across z, then y, then x."""
    save_array(path, np.concatenate(slice_doubt(entropy)))


def read_doubt(path: Path, shape: tuple[int, ...]) -> Doubt:
    """Read what :func:`write_doubt` wrote of a volume of this shape (z, y, x)."""
    doubt: NDArray[np.float64] = np.load(path, allow_pickle=False)
    return tuple(np.split(doubt, np.cumsum(shape)[:-1]))


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
