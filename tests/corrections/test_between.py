"""What is filled between two outlines lies between them, and nothing else is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_dante.corrections.between import between


def disk(radius: float, centre: tuple[float, float] = (20, 20)) -> np.ndarray:
    y, x = np.mgrid[:41, :41]
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2


def test_a_cone_is_filled_with_disks_of_the_radii_between() -> None:
    filled = between({0: disk(4), 8: disk(16)}, (1, 1))
    assert sorted(filled) == list(range(1, 8))
    for index, plane in filled.items():
        radius = np.sqrt(plane.sum() / np.pi)
        assert radius == pytest.approx(4 + 12 * index / 8, abs=0.6)


def test_a_tube_is_filled_exactly() -> None:
    filled = between({1: disk(7), 5: disk(7)}, (1, 1))
    assert all((plane == disk(7)).all() for plane in filled.values())


def test_a_moving_tube_is_in_the_middle_half_way() -> None:
    """Two overlapping disks: half way the structure is centred between them."""
    filled = between({0: disk(8, (16, 20)), 4: disk(8, (22, 20))}, (1, 1))
    y, x = np.nonzero(filled[2])
    assert (y.mean(), x.mean()) == pytest.approx((19, 20), abs=0.2)


def test_a_structure_at_the_rim_of_the_image_stays_there() -> None:
    plane = np.zeros((41, 41), bool)
    plane[:, 30:] = True
    filled = between({0: plane, 4: plane}, (1, 1))
    assert all((one == plane).all() for one in filled.values())


def test_nothing_is_filled_towards_a_slice_without_the_structure() -> None:
    assert between({0: disk(4), 4: disk(0) & False, 8: disk(4)}, (1, 1)) == {}
    assert between({0: disk(4), 1: disk(4)}, (1, 1)) == {}
    assert between({}, (1, 1)) == {}


masks = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).random((12, 14)) < 0.4
)


@given(masks, masks, st.integers(2, 5), st.sampled_from([(1.0, 1.0), (0.5, 2.0)]))
@settings(max_examples=60, deadline=None)
def test_it_lies_between_intersection_and_union_and_does_not_care_for_direction(
    first: np.ndarray, last: np.ndarray, gap: int, spacing: tuple[float, float]
) -> None:
    forward = between({0: first, gap: last}, spacing)
    backward = between({0: last, gap: first}, spacing)
    for index, plane in forward.items():
        assert (plane >= (first & last)).all()
        assert (plane <= (first | last)).all()
        middle = 2 * index == gap
        assert middle or (plane == backward[gap - index]).all()
