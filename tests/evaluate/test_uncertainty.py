"""Slices in the order in which a person should look at them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_dante.evaluate.uncertainty import slice_doubt, suggest


@given(shape=st.tuples(*[st.integers(1, 7)] * 3), seed=st.integers(0, 999))
def test_doubt_is_the_sum_over_each_slice(shape: tuple[int, int, int], seed: int) -> None:
    entropy = np.random.default_rng(seed).random(shape).astype(np.float32)
    doubt = slice_doubt(entropy)
    for axis, found in enumerate(doubt):
        expected = [np.take(entropy, index, axis).sum() for index in range(shape[axis])]
        assert found.tolist() == pytest.approx(expected, abs=1e-4)


counts = st.integers(1, 40)


@given(counts, st.integers(0, 999), st.data())
def test_each_doubtful_slice_comes_once_and_no_other(
    count: int, seed: int, data: st.DataObject
) -> None:
    random = np.random.default_rng(seed)
    doubt = random.random(count) * (random.random(count) < 0.7)
    trusted = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    order = suggest(doubt, trusted)
    assert sorted(order) == np.flatnonzero((doubt > 0) & ~trusted).tolist()


def test_the_most_doubtful_slice_comes_first() -> None:
    doubt = np.ones(30)
    doubt[11] = 2
    assert suggest(doubt, np.zeros(30, bool))[0] == 11


def test_neighbours_of_a_corrected_slice_wait() -> None:
    """Slice 10 is right; 11 is nearly as doubtful as 25, which teaches more."""
    doubt = np.full(40, 0.1)
    doubt[[11, 25]] = 1.0, 0.9
    trusted = np.zeros(40, bool)
    assert suggest(doubt, trusted)[0] == 11
    trusted[10] = True
    assert suggest(doubt, trusted)[0] == 25


def test_equal_doubt_is_spread_over_the_stack() -> None:
    first = suggest(np.ones(100), np.zeros(100, bool))[:6]
    assert np.diff(sorted(first)).min() >= 10


def test_nothing_is_suggested_where_all_is_right_or_sure() -> None:
    assert suggest(np.ones(5), np.ones(5, bool)) == []
    assert suggest(np.zeros(5), np.zeros(5, bool)) == []
