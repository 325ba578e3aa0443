"""Only a model that every light lets through may be shared."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_dante.evaluate.report import ExamReport, Metrics, Score
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
    assert [light.name for light in result] == ["weights", "layout", "exam", "merged"]
    assert fit_to_share(result)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite(number: float) -> None:
    bad = GOOD.weights[KEY].copy()
    bad.flat[0] = number
    found = lights(replace(GOOD, weights={**GOOD.weights, KEY: bad}))
    assert [light.ok for light in found.values()] == [False, True, True, None]
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
    assert [light.ok for light in found.values()] == [True, False, True, None]


@pytest.mark.parametrize("verdict", ["no difference", "worse", "not enough data", None])
def test_only_better_is_good_enough(verdict: str | None) -> None:
    found = lights(verdict=verdict)
    assert [light.ok for light in found.values()] == [True, True, False, None]
    assert found["exam"].sentence


def test_an_unknown_verdict_is_a_mistake_of_ours() -> None:
    with pytest.raises(KeyError):
        judge(GOOD, GOOD, "great")


def report(pairs: list[tuple[float, float]]) -> ExamReport:
    """One structure on as many slices as there are pairs of Dice, before and after."""
    scores = tuple(
        Score("a", index, Metrics(old, 1.0, old), Metrics(new, 1.0, new))
        for index, (old, new) in enumerate(pairs)
    )
    return ExamReport(0, tuple(range(len(pairs))), (), scores, 2.0)


@pytest.mark.parametrize(
    ("pairs", "ok"),
    [
        ([(0.5, 0.6)] * 3, True),
        ([(0.5, 0.5)] * 3, True),
        ([(0.5, 0.495)], True),
        ([(0.5, 0.48)], False),
        ([(0.5, 0.497)] * 4, False),
        ([(0.5, 0.9), (0.9, 0.4)], False),
        ([], None),
    ],
)
def test_what_the_server_would_make_of_it_must_not_be_worse(
    pairs: list[tuple[float, float]], ok: bool | None
) -> None:
    found = judge(GOOD, tiny_model(0), "better", report(pairs))
    assert found[-1].name == "merged"
    assert found[-1].ok is ok
    assert fit_to_share(found) is (ok is not False)
    assert found[-1].sentence
