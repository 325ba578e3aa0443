"""What is wrong with a slice, and how far it lies from where it would be right."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from napari_dante.evaluate.mistakes import Mistake, distances, mistakes

PLANES = arrays(np.uint8, (5, 6), elements=st.integers(0, 3))
SPACING = (2.0, 0.7)


def nearest(here: tuple[int, ...], mask: NDArray[np.bool_]) -> float:
    steps = (np.argwhere(mask) - here) * SPACING
    return float(np.sqrt((steps**2).sum(axis=1)).min()) if len(steps) else np.inf


@given(PLANES, PLANES)
def test_a_mistake_is_as_far_off_as_the_nearest_place_that_would_do(
    mask: NDArray[np.uint8], truth: NDArray[np.uint8]
) -> None:
    found = distances(mask, truth, SPACING)
    for place in np.ndindex(mask.shape):
        said, right = mask[place], truth[place]
        away = [0.0]
        if said != right:
            away += [nearest(place, truth == said)] if said else []
            away += [nearest(place, mask == right)] if right else []
        np.testing.assert_allclose(found[place], max(away), rtol=1e-6)


@given(PLANES, PLANES)
def test_missed_and_too_much_change_places_with_the_masks(
    mask: NDArray[np.uint8], truth: NDArray[np.uint8]
) -> None:
    one, other = mistakes(mask, truth), mistakes(truth, mask)
    np.testing.assert_array_equal(one == Mistake.MISSED, other == Mistake.EXTRA)
    np.testing.assert_array_equal(one == Mistake.CONFUSED, other == Mistake.CONFUSED)
    np.testing.assert_array_equal(one > 0, mask != truth)
    np.testing.assert_array_equal(distances(mask, truth, SPACING), distances(truth, mask, SPACING))
