"""What the black-box adapter teaches: the adapter and the head, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from napari_dante.adapt.feed import feed, starting_model
from napari_dante.adapt.loss import trusted_dice_ce
from napari_dante.adapt.method import prepare
from napari_dante.adapt.patches import Grid
from napari_dante.adapt.recipe import Adapter, LoRA
from napari_dante.model.file import Model
from napari_dante.model.head import AdaptedNetwork, split_head
from napari_dante.model.network import build_network
from napari_dante.model.segmenter import Segmenter

CPU = torch.device("cpu")


def test_the_starting_model_predicts_what_the_base_predicts(
    model: Model, ball: tuple[NDArray[np.float32], NDArray[np.uint8]]
) -> None:
    start = starting_model(model, Adapter(hidden=4))
    assert start.spec == replace(model.spec, adapter=4)
    before, after = (
        Segmenter(one, CPU).analyse(ball[0], (2.0, 2.0, 2.0), probabilities=True)
        for one in (model, start)
    )
    assert before.probabilities is not None
    assert after.probabilities is not None
    assert np.array_equal(before.probabilities, after.probabilities)
    again = starting_model(model, Adapter(hidden=4))
    assert all(np.array_equal(value, again.weights[key]) for key, value in start.weights.items())


def test_only_a_missing_adapter_is_added(model: Model) -> None:
    assert starting_model(model, LoRA()) is model
    assert starting_model(model, Adapter(linear_probe=True)) is model
    adapted = starting_model(model, Adapter(hidden=4))
    assert starting_model(adapted, Adapter(hidden=9)) is adapted


@pytest.mark.parametrize("linear_probe", [False, True])
@pytest.mark.parametrize("adapter", [None, 4])
def test_only_the_end_of_the_network_learns(
    model: Model,
    ball: tuple[NDArray[np.float32], NDArray[np.uint8]],
    tmp_path: Path,
    linear_probe: bool,
    adapter: int | None,
) -> None:
    recipe = Adapter(hidden=4, linear_probe=linear_probe)
    if adapter is None and not linear_probe:
        model = starting_model(model, recipe)
    elif adapter is not None:
        model = starting_model(model, Adapter(hidden=adapter))
    network = build_network(model.spec)
    plan = prepare(network, recipe)
    plan.set_step(0)
    image, labels = ball
    trusted = np.zeros(image.shape, bool)
    trusted[[6, 12]] = True
    grid = Grid(image / 100, labels, trusted)
    food = feed(network, recipe, [grid], model.spec.patch, tmp_path, "ab" * 32)
    samples = [food.draw(number) for number in range(2)]
    logits = food.forward(torch.stack([sample.image for sample in samples]))
    trusted_dice_ce(
        logits,
        torch.stack([sample.labels for sample in samples]),
        torch.stack([sample.trusted for sample in samples]),
    ).backward()
    touched = {name for name, value in network.named_parameters() if value.grad is not None}
    base = network.base if isinstance(network, AdaptedNetwork) else network
    head = {id(value) for value in split_head(base)[1].parameters()}
    wanted = {
        name
        for name, value in network.named_parameters()
        if id(value) in head or (name.startswith("adapter.") and not linear_probe)
    }
    assert touched == wanted
    assert plan.trained == sum(
        value.numel() for name, value in network.named_parameters() if name in wanted
    )
