"""A lesson is not fooled by the luck of a few exam slices."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_dante.adapt.stopping import Judge, Look, has_levelled_off


def look(*slices: float) -> Look:
    return Look({"core": float(np.mean(slices))}, slices)


def test_the_first_look_and_every_look_without_an_exam_are_kept() -> None:
    assert Judge().keeps(look(0.0, 0.1))
    judge = Judge()
    assert judge.keeps(Look())
    assert judge.keeps(Look())


def test_luck_is_not_held_against_later_weights() -> None:
    judge = Judge()
    judge.keeps(look(0.90, 0.60, 0.75))
    assert judge.keeps(look(0.80, 0.68, 0.74))


def test_weights_that_are_worse_in_every_slice_are_not_kept() -> None:
    judge = Judge()
    judge.keeps(look(0.90, 0.60, 0.75))
    assert not judge.keeps(look(0.80, 0.50, 0.64))
    assert judge.best == look(0.90, 0.60, 0.75).mean


def test_slowly_getting_worse_does_not_slip_through() -> None:
    """Every look is held against the best of all, not against the one kept last."""
    judge = Judge()
    kept = [
        judge.keeps(look(*(0.8 - 0.01 * index + jitter for jitter in (0, 0.02, -0.03))))
        for index in range(10)
    ]
    assert kept[0]
    assert not kept[-1]


def test_misses_count_looks_without_a_rise_and_begin_anew_when_more_learns() -> None:
    judge = Judge()
    for _ in range(4):
        judge.keeps(look(0.5, 0.6))
    assert judge.misses == 3
    judge.opened()
    assert judge.misses == 0
    judge.keeps(look(0.7, 0.8))
    assert judge.misses == 0


@settings(max_examples=50, deadline=None)
@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 2**31), window=st.integers(5, 40))
def test_noise_without_a_fall_has_levelled_off_and_a_fall_has_not(
    scale: float, seed: int, window: int
) -> None:
    """The answer does not depend on the scale of the loss."""
    noise = np.random.default_rng(seed).uniform(0.9, 1.0, 2 * window)
    falling = np.linspace(3.0, 1.0, 2 * window) * noise
    flat = np.concatenate([noise[:window], noise[:window]])
    assert has_levelled_off((flat * scale).tolist(), window)
    assert not has_levelled_off((falling * scale).tolist(), window)
    assert not has_levelled_off((flat * scale).tolist()[:-1], window)
