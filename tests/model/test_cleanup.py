"""Only pieces disappear from a mask; what stays is as it was."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import label

from napari_dante.model.cleanup import largest_component

masks = arrays(np.uint8, st.tuples(*[st.integers(1, 7)] * 3), elements=st.integers(0, 3))


@given(masks)
def test_what_stays_is_one_piece_and_the_largest(classes: np.ndarray) -> None:
    kept = largest_component(classes)
    assert kept.dtype == np.uint8
    assert np.array_equal(kept[kept > 0], classes[kept > 0])
    pieces, count = label(classes > 0)
    sizes = np.bincount(pieces.ravel())[1:]
    assert label(kept > 0)[1] == min(1, count)
    assert (kept > 0).sum() == max(sizes, default=0)
    assert np.array_equal(largest_component(kept), kept)


def test_two_halves_hold_together_through_what_lies_between() -> None:
    classes = np.zeros((3, 3, 9), np.uint8)
    classes[1, 1, :3], classes[1, 1, 3:5], classes[1, 1, 5:7], classes[0, 0, 8] = 1, 2, 1, 1
    assert np.array_equal(np.unique(largest_component(classes), return_counts=True)[1], [74, 5, 2])
