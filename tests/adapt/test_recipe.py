"""Recipes survive JSON, and refuse what makes no sense."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_dante.adapt.recipe import (
    RECIPES,
    Adapter,
    EncoderLoRA,
    FullFineTuning,
    GradualUnfreezing,
    LoRA,
    recipe_from_json,
    recipe_to_json,
    recipe_with,
)
from napari_dante.errors import TeachError


@given(st.sampled_from(list(RECIPES)), st.integers(1, 999), st.floats(1e-6, 1))
def test_round_trip(method: str, steps: int, rate: float) -> None:
    defaults = RECIPES[method]().training
    training = replace(defaults, steps=steps, learning_rate=rate)
    recipe = RECIPES[method](training=training)
    assert recipe_from_json(json.loads(json.dumps(recipe_to_json(recipe)))) == recipe


def test_options_reach_the_method_and_the_training() -> None:
    recipe = recipe_with("lora", {"rank": "4", "train_norms": "false", "steps": "7"})
    wanted = replace(LoRA().training, steps=7)
    assert recipe == LoRA(rank=4, train_norms=False, training=wanted)
    assert recipe_with("unfreeze", {"decay": "0.5"}) == GradualUnfreezing(decay=0.5)
    lora = recipe_with("lora", {"targets": "decoder, head", "scaling": "rank-stabilised"})
    assert lora == LoRA(targets=("decoder", "head"), scaling="rank-stabilised")
    assert recipe_from_json(json.loads(json.dumps(recipe_to_json(lora)))) == lora
    assert recipe_with("full", {"decay": "0.5"}) == FullFineTuning(decay=0.5)
    assert recipe_with("lora-decoder", {"rank": "4"}) == EncoderLoRA(rank=4)
    probe = recipe_with("adapter", {"linear_probe": "true", "hidden": "4"})
    assert probe == Adapter(hidden=4, linear_probe=True)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("magic", {}),
        ("lora", {"depth": "3"}),
        ("lora", {"rank": "many"}),
        ("lora", {"rank": "0"}),
        ("lora", {"layout": "diagonal"}),
        ("lora", {"training": "x"}),
        ("lora", {"targets": "neck"}),
        ("lora", {"targets": ","}),
        ("lora", {"scaling": "none"}),
        ("lora", {"alpha": "0"}),
        ("lora-decoder", {"rank": "0"}),
        ("lora-decoder", {"targets": "encoder"}),
        ("decoder", {"rank": "4"}),
        ("full", {"decay": "0"}),
        ("full", {"decay": "1.5"}),
        ("lora", {"train_norms": "perhaps"}),
        ("lora", {"steps": "-1"}),
        ("lora", {"device": "abacus"}),
        ("unfreeze", {"start": "2"}),
        ("adapter", {"hidden": "0"}),
        ("adapter", {"linear_probe": "maybe"}),
        ("adapter", {"augmentation": "mild"}),
    ],
)
def test_nonsense_is_refused_in_one_sentence(method: str, options: dict[str, str]) -> None:
    with pytest.raises(TeachError) as caught:
        recipe_with(method, options)
    assert "\n" not in caught.value.sentence


def test_lora_nowhere_is_refused() -> None:
    with pytest.raises(TeachError, match="must name a part"):
        LoRA(targets=())


def test_damaged_json_is_refused() -> None:
    for data in ({}, {"method": "lora"}, {"method": "lora", "training": {}, "spin": 1}):
        with pytest.raises(TeachError):
            recipe_from_json(data)
