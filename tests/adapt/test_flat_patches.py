"""Where slices are thick, or seen one by one, no augmentation mixes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_dante.adapt.patches import Grid, PatchSampler


def numbered(axis: int, trusted: list[int] | None = None) -> Grid:
    """Every slice holds its own number, from 1 on."""
    shape, along = (30, 30, 30), [1, 1, 1]
    along[axis] = 30
    labels = np.broadcast_to(np.arange(1, 31, dtype=np.uint8).reshape(along), shape).copy()
    where = np.zeros(30, bool)
    where[slice(None) if trusted is None else trusted] = True
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return Grid(image, labels, np.broadcast_to(where.reshape(along), shape).copy())


def slices_in_planes(patch: tuple[int, int, int], axis: int, augmentation: Any) -> set[int]:
    """Return how many different slices a plane of a patch came from, in ten patches."""
    sampler = PatchSampler([numbered(axis)], patch, augmentation, 0)
    found = set()
    for number in range(10):
        labels = sampler.draw(number).labels
        assert labels.shape == patch
        for plane in labels.unbind(axis):
            found.add(len(set(plane.unique().tolist()) - {0}))
    return found


@pytest.mark.parametrize("augmentation", ["none", "mild", "strong"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slice_stays_a_slice(axis: int, augmentation: Any) -> None:
    flat, thick = [16, 16, 16], [24, 24, 24]
    flat[axis], thick[axis] = 1, 4
    assert slices_in_planes((flat[0], flat[1], flat[2]), axis, augmentation) == {1}
    assert slices_in_planes((thick[0], thick[1], thick[2]), axis, augmentation) <= {0, 1}


def test_a_cube_is_turned_in_every_direction() -> None:
    assert max(slices_in_planes((16, 16, 16), 0, "strong")) > 2


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_trusted_slice_is_never_missed(axis: int) -> None:
    patch = [12, 12, 12]
    patch[axis] = 1
    sampler = PatchSampler([numbered(axis, [7, 9])], (patch[0], patch[1], patch[2]), "strong", 0)
    for number in range(30):
        sample = sampler.draw(number)
        assert sample.trusted.any()
        assert set(sample.labels[sample.trusted].unique().tolist()) <= {8, 10}
        assert sample.image.shape == (1, *patch)
        assert sample.image.std() > 0
