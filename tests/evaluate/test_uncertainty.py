"""Slices in the order in which a person should look at them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_dante.evaluate.uncertainty import slice_entropy


@given(shape=st.tuples(*[st.integers(1, 7)] * 3), axis=st.integers(0, 2), seed=st.integers(0, 999))
def test_it_is_the_mean_over_structures_and_their_border(
    shape: tuple[int, int, int], axis: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    entropy = random.random(shape).astype(np.float32)
    classes = (random.integers(0, 3, shape) * (random.random(shape) < 0.2)).astype(np.uint8)
    found = slice_entropy(entropy, classes, axis)
    for index in range(shape[axis]):
        values = []
        for voxel in np.argwhere(np.ones(shape, bool)):
            if voxel[axis] != index:
                continue
            steps = [step * sign for step in np.eye(3, dtype=int) for sign in (-1, 1)]
            near = [voxel + step for step in steps]
            near = [
                place
                for place in near
                if all(0 <= p < s for p, s in zip(place, shape, strict=True))
            ]
            here = classes[tuple(voxel)]
            if here or any(classes[tuple(place)] != here for place in near):
                values.append(entropy[tuple(voxel)])
        assert found.mean[index] == pytest.approx(np.mean(values) if values else 0, abs=1e-6)
        assert found.total[index] == pytest.approx(np.take(entropy, index, axis).sum(), abs=1e-4)


def test_the_slice_in_doubt_comes_first() -> None:
    classes = np.zeros((9, 20, 20), np.uint8)
    classes[:, 5:15, 5:15] = 1
    entropy = np.where(classes, 0.1, 0).astype(np.float32)
    entropy[6, 8:12, 8:12] = 0.9
    found = slice_entropy(entropy, classes, 0)
    assert found.mean.argmax() == found.total.argmax() == 6
    assert len(slice_entropy(entropy, classes, 2).mean) == 20


def test_a_sure_or_empty_volume_has_no_doubt() -> None:
    for classes in (np.zeros((3, 4, 5), np.uint8), np.ones((3, 4, 5), np.uint8)):
        for axis in range(3):
            found = slice_entropy(np.zeros((3, 4, 5), np.float32), classes, axis)
            assert not found.mean.any()
            assert not found.total.any()
