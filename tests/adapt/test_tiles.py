"""Tiles are the windows of the prediction, where somebody vouches for something."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from napari_dante.adapt.patches import Grid
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


def test_they_are_the_windows_of_the_prediction_of_a_body_in_air() -> None:
    case = grid((40, 36, 33), tuple(range(40)))
    case.image[:] = np.where(np.pad(np.ones((13, 17, 9), bool), ((9, 18), (12, 7), (4, 20))), 5, -5)
    network = Watched()
    slide(network, case.image, PATCH)
    found = tiles(case, PATCH)
    assert {tile.image.tobytes() for tile in found} == network.seen
    assert len(found) < len(tiles(grid((40, 36, 33), tuple(range(40))), PATCH))


def test_where_only_air_is_vouched_for_it_is_learned() -> None:
    case = grid((40, 36, 33), (38, 39))
    case.image[:] = np.where(np.pad(np.ones((13, 17, 9), bool), ((9, 18), (12, 7), (4, 20))), 5, -5)
    assert tiles(case, PATCH)


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


def test_every_tile_is_drawn_equally_often_and_by_number() -> None:
    cases = [grid((20, 13, 8), (3, 15)), grid((9, 8, 8), (0,))]
    sampler = TileSampler(cases, PATCH, lambda window: window, seed=3)
    count = len(sampler)
    rounds = [
        [sampler.draw(number).image.numpy().tobytes() for number in range(first, first + count)]
        for first in (0, count)
    ]
    assert set(rounds[0]) == set(rounds[1])
    assert len(set(rounds[0])) == count
    assert rounds[0] != rounds[1]
    twin = TileSampler(cases, PATCH, lambda window: window, seed=3)
    assert twin.draw(count + 1).image.numpy().tobytes() == rounds[1][1]
    sample = twin.draw(0)
    assert sample.labels.shape == sample.trusted.shape == PATCH
