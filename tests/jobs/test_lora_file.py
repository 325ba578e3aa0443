"""A LoRA job leaves its adapter beside the model: the same weights, and much smaller."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_dante.adapt.adapters import adapted_model
from napari_dante.adapt.recipe import DecoderOnly, EncoderLoRA, FullFineTuning, LoRA, Recipe
from napari_dante.adapt.training import Training
from napari_dante.files import sha256
from napari_dante.jobs.events import Finished, Improved
from napari_dante.jobs.folder import create_job
from napari_dante.jobs.run import run_job
from napari_dante.model.file import read_model, write_model
from napari_dante.model.lora_file import read_adapter
from tests.jobs.ball import case

Ball = tuple[NDArray[np.float32], NDArray[np.uint8]]
TRAINING = Training(steps=40, check_every=10, learning_rate=1e-2, augmentation="none")


@pytest.mark.parametrize(
    "recipe",
    [
        LoRA(rank=2, training=TRAINING),
        LoRA(rank=2, layout="per_tap", targets=("decoder",), training=TRAINING),
        EncoderLoRA(rank=2, training=TRAINING),
        FullFineTuning(decay=0.8, training=TRAINING),
        DecoderOnly(training=TRAINING),
    ],
    ids=lambda recipe: recipe.method,
)
def test_the_adapter_has_the_weights_of_the_best(
    tmp_path: Path, model_file: Path, ball: Ball, recipe: Recipe
) -> None:
    job = create_job(tmp_path / "job", model_file, [case(ball)], recipe)
    events = list(run_job(job.path))
    assert isinstance(events[-1], Finished), events[-1]
    report = job.report()
    before, after = report.mean("before"), report.mean("after")
    assert before is not None
    assert after is not None
    assert after > before + 0.1
    assert set(read_model(job.candidate).weights) == set(read_model(model_file).weights)
    if not isinstance(recipe, LoRA | EncoderLoRA):
        assert not job.adapter.exists()
        return
    adapter = read_adapter(job.adapter)
    assert adapter.base == sha256(model_file)
    write_model(tmp_path / "again.safetensors", adapted_model(model_file, adapter))
    again, best = read_model(tmp_path / "again.safetensors"), read_model(job.candidate)
    for key, value in best.weights.items():
        assert np.array_equal(again.weights[key], value), key
    assert again.lineage.recipe == best.lineage.recipe
    assert again.lineage.parent == best.lineage.parent


def test_the_adapter_is_of_the_best_step_not_of_the_last(
    tmp_path: Path, model_file: Path, ball: Ball
) -> None:
    """With a rate that ruins the model the last step is not the best."""
    training = Training(steps=30, check_every=1, learning_rate=0.3, augmentation="none")
    job = create_job(
        tmp_path / "job", model_file, [case(ball)], LoRA(rank=2, alpha=16.0, training=training)
    )
    events = list(run_job(job.path))
    assert isinstance(events[-1], Finished), events[-1]
    steps = [event.step for event in events if isinstance(event, Improved)]
    assert steps[-1] < 30
    write_model(
        tmp_path / "again.safetensors", adapted_model(model_file, read_adapter(job.adapter))
    )
    again, best = read_model(tmp_path / "again.safetensors"), read_model(job.candidate)
    assert all(np.array_equal(again.weights[key], value) for key, value in best.weights.items())
