"""The recipe follows from the situation, with a sentence."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_dante.adapt.auto import LEAST, MOST, Choice, Situation, choose
from napari_dante.adapt.recipe import Adapter, Auto, EncoderLoRA, FullFineTuning, LoRA
from napari_dante.adapt.training import Training

USUAL = Situation(slices=4, new=(), known=0.4, seconds=0.3)

situations = st.builds(
    Situation,
    slices=st.integers(1, 300),
    new=st.sampled_from([(), ("lesion",)]),
    known=st.none() | st.floats(0, 1),
    seconds=st.floats(0.001, 30),
)


@settings(max_examples=100, deadline=None)
@given(situation=situations, minutes=st.floats(0, 60), device=st.sampled_from(["auto", "cpu"]))
def test_every_situation_has_a_recipe_and_one_sentence(
    situation: Situation, minutes: float, device: str
) -> None:
    auto = Auto(minutes=minutes, training=Training(device=device, seed=3, batch=4))  # type: ignore[arg-type]
    choice = choose(auto, situation)
    training = choice.recipe.training
    assert (training.device, training.seed, training.batch) == (device, 3, 4)
    assert choice.sentence.count(".") >= 1
    assert choice.sentence.endswith(".")
    assert str(training.steps) in choice.sentence
    assert Choice.from_json(choice.to_json()) == choice
    if minutes and not isinstance(choice.recipe, Adapter) and LEAST < training.steps < MOST:
        assert training.steps * situation.seconds <= minutes * 60 + situation.seconds


@pytest.mark.parametrize(
    ("change", "method"),
    [
        ({}, EncoderLoRA),
        ({"new": ("lesion",)}, EncoderLoRA),
        ({"new": ("lesion",), "known": 0.95}, EncoderLoRA),
        ({"known": None}, FullFineTuning),
        ({"known": 0.9}, EncoderLoRA),
        ({"slices": 2}, LoRA),
        ({"slices": 100}, FullFineTuning),
    ],
)
def test_the_method(change: dict[str, object], method: type) -> None:
    assert isinstance(choose(Auto(), replace(USUAL, **change)).recipe, method)  # type: ignore[arg-type]


def test_stored_features_are_for_a_hurry_and_a_model_that_does_well() -> None:
    hurried, patient = Auto(minutes=0.05), Auto(minutes=5)
    for known in (0.0, 0.2, 0.5, 0.79):
        assert not isinstance(choose(hurried, replace(USUAL, known=known)).recipe, Adapter)
    well = replace(USUAL, known=0.9)
    assert isinstance(choose(hurried, well).recipe, Adapter)
    assert not isinstance(choose(patient, well).recipe, Adapter)


def test_little_to_learn_from_trains_less() -> None:
    little, more = choose(Auto(), replace(USUAL, slices=1)).recipe, choose(Auto(), USUAL).recipe
    assert isinstance(little, LoRA)
    assert little.training.steps < more.training.steps


def test_the_old_model_as_a_teacher_needs_its_own_network() -> None:
    auto = Auto(minutes=0.05, training=Training(distillation=0.5))
    assert not isinstance(choose(auto, replace(USUAL, known=0.9)).recipe, Adapter)
