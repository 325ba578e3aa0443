"""Tiles are the windows of the prediction, where somebody vouches for something."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from napari_dante.adapt.patches import Grid, Patch
from napari_dante.adapt.tiles import TileSampler, tiles
from napari_dante.model.inference import slide

PATCH = (8, 8, 8)


def grid(shape: tuple[int, int, int], slices: tuple[int, ...]) -> Grid:
    random = np.random.default_rng(0)
    trusted = np.zeros(shape, bool)
    trusted[list(slices)] = True
    labels = random.integers(0, 3, shape).astype(np.uint8)
    return Grid(random.normal(size=shape).astype(np.float32), labels, trusted)


class Watched(nn.Module):
    """Notes the windows that a prediction sends through."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv3d(1, 2, 1)
        self.seen: set[bytes] = set()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.seen |= {window.numpy().tobytes() for window in image}
        logits: torch.Tensor = self.layer(image)
        return logits


@pytest.mark.parametrize("shape", [(20, 13, 8), (5, 19, 7), (8, 8, 8)])
def test_they_are_the_windows_of_the_prediction(shape: tuple[int, int, int]) -> None:
    case = grid(shape, tuple(range(shape[0])))
    network = Watched()
    slide(network, case.image, PATCH)
    assert {tile.image.tobytes() for tile in tiles(case, PATCH)} == network.seen


def test_only_where_somebody_vouches_and_there_completely() -> None:
    case = grid((30, 13, 8), (2, 27))
    found = tiles(case, PATCH)
    assert 0 < len(found) < len(tiles(grid((30, 13, 8), tuple(range(30))), PATCH))
    assert all(tile.trusted.any() for tile in found)
    seen = {float(value) for tile in found for value in tile.image[tile.trusted]}
    assert seen == {float(value) for value in case.image[case.trusted]}


def test_padding_is_dark_and_untrusted() -> None:
    case = grid((5, 8, 8), (0, 1, 2, 3, 4))
    (tile,) = tiles(case, PATCH)
    assert tile.trusted.sum() == case.trusted.sum()
    assert np.all(tile.image[~tile.trusted] == case.image.min())
    assert np.array_equal(tile.labels[tile.trusted].reshape(5, 8, 8), case.labels)


@given(count=st.integers(1, 9), seed=st.integers(0, 5), epoch=st.integers(0, 3))
def test_every_tile_is_drawn_once_in_an_epoch_and_by_number(
    count: int, seed: int, epoch: int
) -> None:
    def sample(number: int) -> Patch:
        return Patch(torch.tensor(number), torch.zeros(()), torch.zeros(()))

    def order(start: int) -> list[int]:
        sampler = TileSampler(sample, count, seed)
        return [int(sampler.draw(start + number).image) for number in range(count)]

    first = epoch * count
    assert sorted(order(first)) == list(range(count))
    assert order(first) == order(first)


def test_another_epoch_and_another_seed_have_another_order() -> None:
    def order(start: int, seed: int) -> list[int]:
        sampler = TileSampler(
            lambda number: Patch(torch.tensor(number), torch.zeros(()), torch.zeros(())), 9, seed
        )
        return [int(sampler.draw(start + number).image) for number in range(9)]

    assert order(0, 3) != order(9, 3)
    assert order(0, 3) != order(0, 4)
