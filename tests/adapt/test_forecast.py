"""The time left is right within 30 % from the first tenth of a lesson on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from napari_dante.adapt.forecast import Forecast

RECORDED = json.loads((Path(__file__).parent / "recorded_lesson.json").read_text())


def ratios(
    forecast: Forecast, every: int, steps: Sequence[float], looks: Sequence[float], tail: float
) -> dict[int, float]:
    """Return forecast divided by truth after each step."""
    left = sum(steps) + sum(looks) + tail
    found, ahead = {}, list(looks)
    for step, seconds in enumerate(steps, start=1):
        forecast.stepped(seconds)
        left -= seconds
        found[step] = forecast.left(step) / left
        if step % every == 0 or step == len(steps):
            look = ahead.pop(0)
            forecast.looked(look)
            left -= look
    return found


def test_a_recorded_lesson() -> None:
    total, every = RECORDED["total"], RECORDED["every"]
    forecast = Forecast(total, every, RECORDED["look"], RECORDED["rest"])
    found = ratios(forecast, every, RECORDED["steps"], RECORDED["looks"], RECORDED["tail"])
    assert len(found) == total
    for step in range(total // 10, total * 9 // 10 + 1):
        assert 0.7 <= found[step] <= 1.3, step


@pytest.mark.parametrize("total", [100, 95], ids=["a look at the end", "a look after the end"])
def test_looks_and_the_end_count_before_there_was_one(total: int) -> None:
    """A look as long as forty steps, the end as long as a hundred."""
    forecast = Forecast(total, 20, look=4.0, rest=10.0)
    found = ratios(forecast, 20, [0.1] * total, [4.0] * 5, 10.0)
    assert all(ratio == pytest.approx(1.0) for ratio in found.values())


def test_a_slow_start_and_a_nap_are_forgotten() -> None:
    steps = [8.0] + [0.1] * 99
    steps[40] = 600.0
    found = ratios(Forecast(100, 50), 50, steps, [0.0, 0.0], 1e-6)
    assert found[60] == pytest.approx(1.0, abs=0.15)
    assert found[90] == pytest.approx(1.0)


def test_nothing_is_known_before_the_first_step() -> None:
    assert Forecast(10, 5, look=1.0, rest=2.0).left(0) == 4.0
