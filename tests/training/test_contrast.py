"""The signal equation orders the tissues as every radiologist knows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from training.anatomy import CLASSES
from training.contrast import SEQUENCES, appearance, relaxation, signal

NUMBER = {kind.name: number for number, kind in enumerate(CLASSES)}
WHITE, GREY, FLUID, BONE = (
    NUMBER[name] for name in ("white matter", "cortex", "lateral ventricle", "compact bone")
)
ORDER = {
    "T1": (WHITE, GREY, FLUID),
    "T1 spin echo": (WHITE, GREY, FLUID),
    "T1 gradient echo": (WHITE, GREY, FLUID),
    "T2": (FLUID, GREY, WHITE),
    "PD": (GREY, WHITE, BONE),
    "FLAIR-like": (GREY, WHITE, FLUID),
    "T2*": (FLUID, WHITE, BONE),
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_brightness_falls_in_this_order(name: str) -> None:
    found = signal(relaxation(), SEQUENCES[name])
    brightness = [found[number] for number in ORDER[name]]
    assert brightness == sorted(brightness, reverse=True)
    assert found.min() >= 0
    assert found.max() == 1
    assert found[0] == 0


@given(st.integers(0, 2**32))
def test_an_appearance_is_finite_and_its_own(seed: int) -> None:
    mean, spread = appearance(np.random.default_rng(seed))
    assert mean.shape == spread.shape == (len(CLASSES),)
    assert np.isfinite(mean).all()
    assert (spread >= 0).all()
    again, _ = appearance(np.random.default_rng(seed))
    other, _ = appearance(np.random.default_rng(seed + 1))
    assert np.array_equal(mean, again)
    assert not np.array_equal(mean, other)
