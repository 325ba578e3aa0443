"""Which rows of each tile have to be computed to learn from its trusted voxels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from napari_dante.adapt.patches import Grid, Patch
from napari_dante.adapt.slabs import Unsupported, halo

__all__ = ["Cover"]

Features = NDArray[np.float16]


@dataclass(frozen=True)
class Cover:
    """Blocks of equal size that hold every trusted voxel of every tile.

    Attributes
    ----------
    axis
        Which of z, y, x the blocks are slices of.
    cells, scale
        Rows of features in a tile, and rows of logits for each of them.
    halo, block
        Rows of features on either side of a block that it needs, and those in a block.
    starts
        For each tile the rows of features at which its blocks begin; they do not overlap.
    """

    axis: int
    cells: int
    scale: int
    halo: int
    block: int
    starts: tuple[tuple[int, ...], ...]

    @property
    def whole(self) -> bool:
        """Whether a block is a tile."""
        return self.block == self.cells

    @property
    def cost(self) -> int:
        """Rows of features to be computed for all tiles; a halo is shed on the way."""
        margin = 0 if self.whole else self.halo
        return sum(len(starts) for starts in self.starts) * (self.block + margin)

    @classmethod
    def best(cls, head: nn.Module, shape: Sequence[int], tiles: Sequence[Grid]) -> Cover:
        """Return the cheapest cover of `tiles` for a head that reads features of `shape`.

        `head` must be in evaluation mode; a tile is one block where blocks would not be
        cheaper, or would not do.
        """
        channels, *cells = shape
        found = [cls(0, cells[0], 1, 0, cells[0], ((0,),) * len(tiles))]
        for axis, count in enumerate(cells):
            scale = tiles[0].trusted.shape[axis] // count
            try:
                margin = halo(head, channels, axis, scale)
            except Unsupported:
                continue
            others = tuple(other for other in range(3) if other != axis)
            rows = [np.flatnonzero(tile.trusted.any(axis=others)) // scale for tile in tiles]
            for block in (2**power for power in range(count.bit_length()) if 2**power < count):
                starts = tuple(tuple(_starts(row, block)) for row in rows)
                found.append(cls(axis, count, scale, margin, block, starts))
        return min(found, key=lambda cover: cover.cost)

    def share(self, tile: int) -> NDArray[np.float32]:
        """Return the part of `tile` that lies nearest to each of its blocks."""
        middle = np.array(self.starts[tile]) + (self.block - 1) / 2
        nearest = np.abs(np.arange(self.cells)[:, None] - middle).argmin(axis=1)
        return np.asarray(np.bincount(nearest, minlength=len(middle)) / self.cells, np.float32)

    def sample(self, number: int, tile: Grid) -> Patch:
        """Return what is to be learned from tile `number`: the blocks' rows, end to end.

        Every sample has as many blocks as the tile with the most; what is beyond its own
        is untrusted. The image is the number of the tile, shape (1, 1, 1, 1).
        """
        size = tile.trusted.shape[self.axis]
        most = max(map(len, self.starts))
        own = [self.scale * start for start in self.starts[number]]
        length = size if self.whole else self.scale * self.block
        begin = np.array(own + [size] * (most - len(own)))
        row = (begin[:, None] + np.arange(length)).ravel()
        inside = np.expand_dims(row < size, [axis for axis in range(3) if axis != self.axis])
        row = np.minimum(row, size - 1)
        trusted = tile.trusted.take(row, self.axis) & inside
        return Patch(
            image=torch.full((1, 1, 1, 1), number),
            labels=torch.from_numpy(tile.labels.take(row, self.axis)).long(),
            trusted=torch.from_numpy(trusted),
            annotated=None if tile.annotated is None else torch.tensor(tile.annotated),
        )

    def padded(self, features: Features, more: int = 0) -> Features:
        """Return the features of a tile (channel, z', y', x') in a halo of zeros.

        `more` is how many rows of zeros there are beyond the halo at the end.
        """
        width = [(0, 0)] * 4
        width[1 + self.axis] = self.halo, self.halo + more
        return np.pad(features, width)

    def cut(self, features: Features, tile: int) -> Features:
        """Return the features of the blocks of `tile`, with their halos.

        From those of the tile (channel, z', y', x') to (block, channel, z', y', x'); rows
        outside the tile are zero.
        """
        wide = self.padded(features, self.block)
        reach = np.arange(self.block + 2 * self.halo)
        return np.stack([wide.take(start + reach, 1 + self.axis) for start in self.starts[tile]])

    def end_to_end(self, blocks: torch.Tensor, tile: torch.Tensor) -> torch.Tensor:
        """Lay the logits of blocks out as :meth:`sample` lays out the labels.

        Parameters
        ----------
        blocks
            (block, class, z, y, x).
        tile
            int (block,): to which place in the batch each belongs, ascending.

        Returns
        -------
        torch.Tensor
            (batch, class, z, y, x), zero where a tile has no block.
        """
        most = max(map(len, self.starts))
        place = torch.cat([torch.arange(int(count)) for count in tile.bincount()])
        logits = blocks.new_zeros(int(tile.max()) + 1, most, *blocks.shape[1:])
        logits[tile, place] = blocks
        axis = 2 + self.axis
        return logits.movedim(1, axis).flatten(axis, axis + 1)


def _starts(wanted: NDArray[np.intp], block: int) -> Iterator[int]:
    """Yield where blocks begin that hold all `wanted` rows, which ascend."""
    end = 0
    for row in wanted.tolist():
        if row >= end:
            yield row
            end = row + block
