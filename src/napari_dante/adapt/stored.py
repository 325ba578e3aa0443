"""The head of a frozen network, taught on stored features of the trusted slices only."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from napari_dante.adapt.cover import Cover
from napari_dante.adapt.features import FeatureBank
from napari_dante.adapt.patches import Grid, Patch
from napari_dante.adapt.slabs import Moments, Pool, Rows, through
from napari_dante.model.precision import autocast

__all__ = ["MEMORY", "StoredHead"]

MEMORY = 1024**3
"""Bytes of features that stay in memory; what goes beyond is read again each time."""

LEAST = 1e-5
"""Variance below which a layer's input counts as constant, as in the layers themselves."""

Correction = tuple[torch.Tensor, torch.Tensor]
"""What to add to the mean, in deviations, and to multiply the variance with (tile, group).

Like the moments themselves, they stay the same when a layer's input is scaled or shifted.
"""


class StoredHead:
    """From numbers of tiles to the logits of their samples, with the weights of a head.

    A sample is what a person vouches for in one tile: the blocks of its :class:`Cover`. Its
    logits are those that `head` gives for the whole tile, but for normalisation: the mean
    and variance of a tile are estimated from its blocks, and corrected by the error that
    this estimate has with the weights that `head` has when this is made. So they are exact
    at the start of a lesson, and follow the weights.

    Parameters
    ----------
    head
        See :func:`napari_dante.model.head.split_head`.
    bank
        Gives the features that `head` reads.
    tiles
        The tiles, at least one.
    memory
        Bytes.
    """

    def __init__(
        self, head: nn.Module, bank: FeatureBank, tiles: Sequence[Grid], memory: int = MEMORY
    ) -> None:
        self._head, self._bank, self._tiles = head, bank, tiles
        self._start = copy.deepcopy(head).eval()
        self._cover = Cover.best(self._start, bank.stored(_window(tiles[0])).shape, tiles)
        self._left = memory
        self._kept: dict[int, torch.Tensor] = {}
        self._errors: dict[int, list[Correction]] = {}

    def __len__(self) -> int:
        return len(self._tiles)

    def sample(self, number: int) -> Patch:
        """Return the sample of tile `number`; its image is the number, (1, 1, 1, 1)."""
        return self._cover.sample(number, self._tiles[number])

    def __call__(self, numbers: torch.Tensor) -> torch.Tensor:
        """Return the logits (batch, class, z, y, x) of samples (batch, 1, 1, 1, 1)."""
        chosen, device = numbers.flatten().tolist(), numbers.device
        features = torch.cat([_ready(self._features(number), device) for number in chosen])
        if self._cover.whole:
            logits: torch.Tensor = self._head(features)
            return logits
        errors = [self._error(number) for number in chosen]
        moments = _corrected([_joined(layer) for layer in zip(*errors, strict=True)])
        pool = self._pool(chosen)
        out = through(self._head, self._rows(features, chosen), pool, moments)
        blocks = out.cut(0, self._cover.scale * self._cover.block).values
        return self._cover.end_to_end(blocks, pool.tile)

    def _rows(self, features: torch.Tensor, chosen: Sequence[int]) -> Rows:
        block = torch.tensor([start for number in chosen for start in self._cover.starts[number]])
        return Rows(features, self._cover.axis, -self._cover.halo, block, self._cover.cells)

    def _pool(self, chosen: Sequence[int]) -> Pool:
        tile = [index for index, number in enumerate(chosen) for _ in self._cover.starts[number]]
        share = np.concatenate([self._cover.share(number) for number in chosen])
        return Pool(torch.tensor(tile), torch.from_numpy(share))

    def _whole(self, number: int) -> NDArray[np.float16]:
        """Return the features of a tile (channel, z', y', x')."""
        return self._bank.stored(_window(self._tiles[number]))

    def _features(self, number: int) -> torch.Tensor:
        """Return the features of the blocks of a tile (block, channel, z', y', x')."""
        if number in self._kept:
            return self._kept[number]
        blocks = torch.from_numpy(self._cover.cut(self._whole(number), number))
        if blocks.nbytes <= self._left:
            self._left -= blocks.nbytes
            self._kept[number] = blocks
        return blocks

    def _error(self, number: int) -> list[Correction]:
        """Compare a tile with its blocks in each layer, at the weights of the start."""
        if number not in self._errors:
            device = next(self._start.parameters()).device
            tile, blocks = _Noted(), _Noted()
            every = Pool(torch.zeros(1, dtype=torch.int64), torch.ones(1))
            zero = torch.zeros(1, dtype=torch.int64)
            with torch.no_grad(), autocast(device):
                padded = torch.from_numpy(self._cover.padded(self._whole(number)))
                whole = _ready(padded[None], device)
                rows = self._rows(_ready(self._features(number), device), [number])
                through(self._start, replace(rows, values=whole, block=zero), every, tile)
                through(self._start, rows, self._pool([number]), blocks)
            self._errors[number] = [
                (
                    (mean - estimate) * (spread + LEAST).rsqrt(),
                    (variance + LEAST) / (spread + LEAST),
                )
                for (mean, variance), (estimate, spread) in zip(
                    tile.found, blocks.found, strict=True
                )
            ]
        return self._errors[number]


class _Noted:
    """Note the moments of each layer, and leave them as they are."""

    def __init__(self) -> None:
        self.found: list[tuple[torch.Tensor, torch.Tensor]] = []

    def __call__(
        self, mean: torch.Tensor, variance: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.found.append((mean, variance))
        return mean, variance


def _corrected(corrections: Iterable[Correction]) -> Moments:
    """Return what corrects the moments of one layer after the other."""
    left = iter(corrections)

    def correct(mean: torch.Tensor, variance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        shift, ratio = next(left)
        wide = variance + LEAST
        return mean + shift * wide.sqrt(), wide * ratio - LEAST

    return correct


def _joined(layer: Sequence[Correction]) -> Correction:
    return torch.cat([shift for shift, _ in layer]), torch.cat([ratio for _, ratio in layer])


def _ready(features: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return stored features in the precision that the network computes them in."""
    low = torch.is_autocast_enabled(device.type)
    return features.to(device, torch.get_autocast_dtype(device.type) if low else torch.float32)


def _window(tile: Grid) -> torch.Tensor:
    return torch.from_numpy(tile.image)[None]
