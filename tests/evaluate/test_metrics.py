"""Distances are in mm, a miss is a failure, and nothing is ever nan."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, distance_transform_edt

from napari_dante.evaluate.metrics import measure
from napari_dante.evaluate.overlap import dice


def random_blob(seed: int, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    random = np.random.default_rng(seed)
    mask = np.zeros(shape, bool)
    for _ in range(3):
        corner = [random.integers(2, size - 5) for size in shape]
        mask[tuple(slice(low, low + int(random.integers(2, 4))) for low in corner)] = True
    return mask


def surface_distances(
    mask: NDArray[np.bool_], other: NDArray[np.bool_], spacing: tuple[float, ...]
) -> NDArray[np.float64]:
    """Distances in mm from the surface voxels of `mask` to those of `other`."""
    edges = [part & ~binary_erosion(part) for part in (mask, other)]
    return distance_transform_edt(~edges[1], sampling=spacing)[edges[0]]


@settings(max_examples=40, deadline=None)
@given(
    seeds=st.tuples(st.integers(0, 999), st.integers(0, 999)),
    spacing=st.tuples(*[st.sampled_from([0.5, 1.0, 3.0])] * 2),
)
def test_agrees_with_distance_transforms(
    seeds: tuple[int, int], spacing: tuple[float, float]
) -> None:
    mask, truth = (random_blob(seed, (20, 24)) for seed in seeds)
    found = measure(mask, truth, spacing, 1.0)
    there, back = surface_distances(mask, truth, spacing), surface_distances(truth, mask, spacing)
    expected = max(np.percentile(there, 95), np.percentile(back, 95))
    assert found.hd95 == pytest.approx(expected, abs=1e-4)
    assert found.dice == pytest.approx(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))
    within = (there <= 1.0).sum() + (back <= 1.0).sum()
    assert found.nsd == pytest.approx(within / (there.size + back.size), abs=1e-6)


@given(st.integers(0, 999))
@settings(max_examples=10, deadline=None)
def test_a_mask_against_itself_is_perfect(seed: int) -> None:
    mask = random_blob(seed, (10, 12, 11))
    found = measure(mask, mask, (1.0, 2.0, 3.0), 1.0)
    assert (found.dice, found.hd95, found.nsd) == (1.0, 0.0, 1.0)


def test_a_missed_structure_is_a_failure_not_a_gap() -> None:
    truth = random_blob(0, (10, 12))
    for mask, other in ((truth & False, truth), (truth, truth & False)):
        found = measure(mask, other, (3.0, 4.0), 2.0)
        assert found.dice == 0
        assert found.nsd == 0
        assert found.hd95 == pytest.approx(math.hypot(30, 48))


def test_absent_from_both_does_not_count() -> None:
    nothing = np.zeros((5, 5), bool)
    assert measure(nothing, nothing, (1, 1), 1.0).dice is None
    assert dice(nothing, nothing) is None
