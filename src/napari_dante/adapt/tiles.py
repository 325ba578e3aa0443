"""Windows as prediction cuts them, where a person vouches for something in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from monai.data.utils import dense_patch_slices
from numpy.typing import NDArray

from napari_dante.adapt.patches import Grid, Patch
from napari_dante.model.inference import OVERLAP, window_box, window_steps

__all__ = ["TileSampler", "tiles"]


class TileSampler:
    """Tiles by number, each as often as every other; the same number gives the same tile.

    Parameters
    ----------
    sample
        Returns what is to be learned from a tile, by its index.
    count
        How many tiles there are.
    seed
        Another seed gives another order.
    """

    def __init__(self, sample: Callable[[int], Patch], count: int, seed: int) -> None:
        self._sample = sample
        self._count = count
        self._seed = seed

    def draw(self, number: int) -> Patch:
        """Return sample `number`."""
        epoch, index = divmod(number, self._count)
        order = np.random.default_rng((self._seed, epoch)).permutation(self._count)
        return self._sample(int(order[index]))


def tiles(grid: Grid, patch: tuple[int, int, int]) -> list[Grid]:
    """Return the windows of the sliding-window prediction that hold trusted voxels.

    They have the size `patch`; a smaller case is padded as prediction pads it, dark and
    untrusted.
    """
    padded = _padded(_body(grid, patch), patch)
    shape = padded.image.shape
    steps = window_steps(shape, patch, OVERLAP)
    return [
        Grid(
            np.ascontiguousarray(padded.image[window]),
            np.ascontiguousarray(padded.labels[window]),
            np.ascontiguousarray(padded.trusted[window]),
            grid.annotated,
        )
        for window in dense_patch_slices(shape, patch, steps)
        if padded.trusted[window].any()
    ]


def _body(grid: Grid, patch: tuple[int, int, int]) -> Grid:
    """Return what prediction looks at, unless all that somebody vouches for is air."""
    box = window_box(grid.image, patch)
    if not grid.trusted[box].any():
        return grid
    return replace(grid, image=grid.image[box], labels=grid.labels[box], trusted=grid.trusted[box])


def _padded(grid: Grid, patch: tuple[int, int, int]) -> Grid:
    short = [max(0, edge - size) for edge, size in zip(patch, grid.image.shape, strict=True)]
    width = [(missing // 2, missing - missing // 2) for missing in short]

    def pad(array: NDArray[np.generic], value: float) -> NDArray[np.generic]:
        return np.pad(array, width, constant_values=value)

    return Grid(
        image=np.asarray(pad(grid.image, float(grid.image.min())), np.float32),
        labels=np.asarray(pad(grid.labels, 0), np.uint8),
        trusted=np.asarray(pad(grid.trusted, 0), bool),
        annotated=grid.annotated,
    )
