"""What the figures rest on: equal turns, paired ratios, memory of one process alone."""

from __future__ import annotations

import sys
from functools import partial

import numpy as np
import pytest
from benchmarks.pairs import fresh, in_turn, memory, ratio


def test_every_variant_takes_its_turn_in_every_round() -> None:
    calls: list[str] = []
    names = "abc"
    found = in_turn({name: partial(calls.append, name) for name in names}, 20)
    assert {name: len(times) for name, times in found.items()} == dict.fromkeys(names, 20)
    turns = [tuple(calls[start : start + 3]) for start in range(0, len(calls), 3)]
    assert len(turns) == 21
    assert all(sorted(turn) == list(names) for turn in turns)
    assert len(set(turns)) > 1, "the order never changes"


def test_ratio_is_taken_within_the_round() -> None:
    assert ratio([1.0, 10.0, 3.0], [2.0, 10.0, 12.0]) == 0.5


def growth(megabytes: int) -> int:
    """Hold so much for a moment, and return by how much the peak is above the start."""
    before, _ = memory()
    held = np.ones(megabytes * 2**20, np.uint8)
    del held
    return memory()[1] - before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells both")
def test_peak_is_that_of_the_fresh_process() -> None:
    ballast = np.ones(400 * 2**20, np.uint8)
    small, large = fresh(growth, 10), fresh(growth, 110)
    assert ballast.all()
    assert small < 60 * 2**20, "memory of the parent is counted"
    assert 90 * 2**20 < large - small < 130 * 2**20
