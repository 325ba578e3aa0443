"""Windows as prediction cuts them, where a person vouches for something in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from monai.data.utils import dense_patch_slices
from numpy.typing import NDArray

from napari_dante.adapt.patches import Grid, Patch
from napari_dante.model.inference import OVERLAP, window_box, window_steps

__all__ = ["TileSampler", "tiles"]


class TileSampler:
    """Tiles by number, each as often as every other; the same number gives the same tile.

    Parameters
    ----------
    grids
        The cases.
    patch
        Size in voxels (z, y, x).
    features
        Gives the features (batch, channel, z', y', x') of windows (batch, 1, z, y, x).
    seed
        Another seed gives another order.
    """

    def __init__(
        self,
        grids: Sequence[Grid],
        patch: tuple[int, int, int],
        features: Callable[[torch.Tensor], torch.Tensor],
        seed: int,
    ) -> None:
        self._tiles = [tile for grid in grids for tile in tiles(grid, patch)]
        self._features = features
        self._seed = seed

    def __len__(self) -> int:
        return len(self._tiles)

    def draw(self, number: int) -> Patch:
        """Return sample `number`: a tile's features, labels and trusted voxels."""
        epoch, index = divmod(number, len(self._tiles))
        order = np.random.default_rng((self._seed, epoch)).permutation(len(self._tiles))
        tile = self._tiles[order[index]]
        return Patch(
            image=self._features(torch.from_numpy(tile.image)[None, None])[0],
            labels=torch.from_numpy(tile.labels).long(),
            trusted=torch.from_numpy(tile.trusted),
        )


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
    )
