"""Only a model that every light lets through may be shared."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_dante.federated import Light, fit_to_share, judge
from napari_dante.model.file import Model
from tests.federated.tiny import tiny_model

GOOD = tiny_model(1)
KEY = next(iter(GOOD.weights))


def lights(
    candidate: Model = GOOD, base: Model | None = GOOD, verdict: str | None = "better"
) -> dict[str, Light]:
    return {light.name: light for light in judge(candidate, base, verdict)}


def test_a_better_version_is_fit() -> None:
    result = judge(GOOD, tiny_model(0), "better")
    assert [light.name for light in result] == ["weights", "layout", "exam"]
    assert fit_to_share(result)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite(number: float) -> None:
    bad = GOOD.weights[KEY].copy()
    bad.flat[0] = number
    found = lights(replace(GOOD, weights={**GOOD.weights, KEY: bad}))
    assert [light.ok for light in found.values()] == [False, True, True]
    assert not fit_to_share(found.values())


@pytest.mark.parametrize(
    "base",
    [
        None,
        replace(GOOD, lineage=replace(GOOD.lineage, model_id="other")),
        replace(GOOD, weights={**GOOD.weights, "more": np.zeros(1)}),
        replace(GOOD, weights={k: v for k, v in GOOD.weights.items() if k != KEY}),
        replace(GOOD, weights={**GOOD.weights, KEY: np.zeros(1)}),
    ],
)
def test_what_does_not_fit_the_server(base: Model | None) -> None:
    found = lights(base=base)
    assert [light.ok for light in found.values()] == [True, False, True]


@pytest.mark.parametrize("verdict", ["no difference", "worse", "not enough data", None])
def test_only_better_is_good_enough(verdict: str | None) -> None:
    found = lights(verdict=verdict)
    assert [light.ok for light in found.values()] == [True, True, False]
    assert found["exam"].sentence


def test_an_unknown_verdict_is_a_mistake_of_ours() -> None:
    with pytest.raises(KeyError):
        judge(GOOD, GOOD, "great")
