"""The exam is one run of trusted slices that never touches what is learned."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from napari_dante.errors import TeachError
from napari_dante.evaluate.split import split_slices


@given(
    trusted=st.lists(st.booleans(), min_size=1, max_size=60),
    fraction=st.floats(0, 0.95),
    gap=st.integers(0, 3),
)
def test_laws(trusted: list[bool], fraction: float, gap: int) -> None:
    slices = np.flatnonzero(trusted).tolist()
    assume(slices)
    try:
        split = split_slices(np.array(trusted), fraction, gap)
    except TeachError:
        assert slices[-1] - slices[0] <= len(slices) + 2 * gap, "refused without need"
        return
    assert split.learn, "nothing to learn from"
    assert sorted((*split.learn, *split.exam, *split.gap)) == slices
    if split.exam:
        first, last = slices.index(split.exam[0]), slices.index(split.exam[-1])
        assert slices[first : last + 1] == list(split.exam), "the exam is not one run"
        assert min(abs(a - b) for a in split.learn for b in split.exam) > gap
    assert split == split_slices(np.array(trusted), fraction, gap)


@given(
    trusted=st.lists(st.booleans(), min_size=1, max_size=60),
    fraction=st.floats(0, 0.95),
    frozen=st.sets(st.integers(0, 59), max_size=6),
)
def test_a_slice_of_an_earlier_exam_is_never_learned_from(
    trusted: list[bool], fraction: float, frozen: set[int]
) -> None:
    slices = np.flatnonzero(trusted).tolist()
    assume(slices)
    try:
        split = split_slices(np.array(trusted), fraction, frozen=frozen)
    except TeachError:
        return
    assert split.learn
    assert all(abs(a - b) > 1 for a in split.learn for b in frozen)
    still = frozen & set(slices)
    if still and fraction:
        assert set(split.exam) == still, "the exam is another one"
    assert not set(split.exam) & set(split.learn)


def test_a_second_lesson_keeps_the_exam_of_the_first() -> None:
    trusted = np.zeros(80, bool)
    trusted[[10, 20, 30, 40, 50]] = True
    first = split_slices(trusted, 0.3)
    trusted[[26, 33, 60, 70]] = True
    second = split_slices(trusted, 0.3, frozen=first.exam)
    assert second.exam == first.exam
    assert set(second.learn) == {10, 26, 33, 40, 50, 60, 70, 20} - set(first.exam)


def test_a_lesson_on_nothing_but_the_exam_is_refused() -> None:
    trusted = np.zeros(9, bool)
    trusted[[4, 5]] = True
    with pytest.raises(TeachError, match="never learned from"):
        split_slices(trusted, 0.3, frozen=(4,))


def test_five_spread_slices_give_two_for_the_exam_from_the_middle() -> None:
    trusted = np.zeros(80, bool)
    trusted[[10, 20, 30, 40, 50]] = True
    split = split_slices(trusted, 0.3)
    assert len(split.exam) == 2
    assert 30 in split.exam
    assert split.gap == ()


def test_one_slice_is_learned_without_an_exam() -> None:
    assert split_slices(np.array([False, True]), 0.3).exam == ()


@pytest.mark.parametrize("fraction", [-0.1, 1.0])
def test_impossible_share_is_refused(fraction: float) -> None:
    with pytest.raises(TeachError):
        split_slices(np.array([True, True]), fraction)


def test_nothing_trusted_is_refused() -> None:
    with pytest.raises(TeachError, match="at least one slice"):
        split_slices(np.zeros(5, bool), 0.3)
