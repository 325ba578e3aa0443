"""The black-box adapter as a job: the same promises as every recipe, and the features once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from napari_dante.adapt.features import FeatureBank
from napari_dante.adapt.recipe import Adapter, LoRA, Recipe
from napari_dante.adapt.training import Training
from napari_dante.errors import ModelError
from napari_dante.federated.gate import fit_to_share, judge
from napari_dante.jobs.events import Finished, Improved, Progress
from napari_dante.jobs.folder import JobFolder, create_job
from napari_dante.jobs.run import run_job
from napari_dante.model.dafne import to_dafne
from napari_dante.model.file import Model, read_header, read_model, write_model
from napari_dante.model.network import build_network
from napari_dante.model.segmenter import Segmenter
from tests.jobs.ball import case

Ball = tuple[NDArray[np.float32], NDArray[np.uint8]]


def recipe(steps: int = 6, check_every: int = 2, **options: object) -> Adapter:
    training = Training(
        steps=steps, check_every=check_every, learning_rate=1e-2, augmentation="none"
    )
    return Adapter(hidden=8, training=training, **options)  # type: ignore[arg-type]


def taught(folder: Path, model_file: Path, ball: Ball, how: Recipe) -> JobFolder:
    job = create_job(folder, model_file, [case(ball)], how)
    assert isinstance(list(run_job(job.path))[-1], Finished)
    return job


def weights(job: JobFolder) -> dict[str, NDArray[np.float32]]:
    return dict(read_model(job.candidate).weights)


def assert_same(
    first: dict[str, NDArray[np.float32]], second: dict[str, NDArray[np.float32]]
) -> None:
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert np.array_equal(value, second[key]), key


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grow by one for each window that goes through the body on behalf of the store."""
    calls: list[int] = []
    original = FeatureBank._computed

    def counted(self: FeatureBank, window: torch.Tensor) -> NDArray[np.float16]:
        calls.append(1)
        return original(self, window)

    monkeypatch.setattr(FeatureBank, "_computed", counted)
    return calls


@pytest.mark.parametrize("linear_probe", [False, True])
def test_it_improves_the_exam_and_leaves_an_ordinary_model(
    tmp_path: Path, model_file: Path, ball: Ball, linear_probe: bool
) -> None:
    job = taught(tmp_path / "job", model_file, ball, recipe(60, 20, linear_probe=linear_probe))
    report = job.report()
    before, after = report.mean("before"), report.mean("after")
    assert before is not None
    assert after is not None
    assert after > before + 0.1
    spec, base = read_header(job.candidate)[0], read_model(model_file)
    assert spec == replace(base.spec, adapter=None if linear_probe else 8)
    mask = Segmenter.from_file(job.candidate).predict(ball[0], (2.0, 2.0, 2.0))
    assert np.array_equal(mask, job.mask("after"))
    prefix, changed = "" if linear_probe else "base.", set()
    new = weights(job)
    for key, value in base.weights.items():
        if not np.array_equal(new.pop(prefix + key), value):
            changed.add(key)
    assert changed
    assert all(key.startswith("model.2.") for key in changed), "the body was taught"
    assert all(key.startswith("adapter.") for key in new)


def test_a_second_lesson_goes_on_with_the_adapter_and_lora_takes_it_too(
    tmp_path: Path, model_file: Path, ball: Ball
) -> None:
    first = taught(tmp_path / "first", model_file, ball, recipe())
    for name, how in {"again": recipe(), "lora": LoRA(rank=2, training=Training(steps=2))}.items():
        second = taught(tmp_path / name, first.candidate, ball, how)
        assert read_header(second.candidate)[0] == read_header(first.candidate)[0]
        assert set(weights(second)) == set(weights(first))


def test_untrusted_and_exam_labels_never_reach_the_weights(
    tmp_path: Path, model_file: Path, ball: Ball
) -> None:
    """Scramble every label that is not learned from: the weights stay bit for bit."""
    image, labels = ball
    how = recipe(check_every=100)
    first = taught(tmp_path / "a", model_file, ball, how)
    learned = list(first.split().learn)
    assert first.split().exam
    scrambled = np.random.default_rng(0).integers(0, 3, labels.shape).astype(np.uint8)
    scrambled[learned] = labels[learned]
    second = taught(tmp_path / "b", model_file, (image, scrambled), how)
    assert_same(weights(first), weights(second))


def test_same_seed_same_weights_and_resume_equals_uninterrupted(
    tmp_path: Path, model_file: Path, ball: Ball, computed: list[int]
) -> None:
    whole = taught(tmp_path / "whole", model_file, ball, recipe(8))
    once = len(computed)
    broken = create_job(tmp_path / "broken", model_file, [case(ball)], recipe(8))
    for event in run_job(broken.path):
        if isinstance(event, Progress) and event.step == 5:
            break
    resumed = list(run_job(broken.path))
    assert next(event.step for event in resumed if isinstance(event, Progress)) == 5
    assert_same(weights(whole), weights(broken))
    assert len(computed) == 2 * once, "a resumed job computed features again"
    other = recipe(8)
    other = replace(other, training=replace(other.training, seed=1))
    assert any(
        not np.array_equal(value, weights(whole)[key])
        for key, value in weights(taught(tmp_path / "other", model_file, ball, other)).items()
    )


def test_features_are_computed_once_in_a_folder(
    tmp_path: Path, model_file: Path, ball: Ball, computed: list[int]
) -> None:
    job = taught(tmp_path / "job", model_file, ball, recipe(40))
    once, first = len(computed), weights(job)
    assert once == len(list(job.features.rglob("*.npy")))
    assert once < 2 * 40, "no better than a forward pass in each step"
    last = list(run_job(job.path))[-1]
    assert isinstance(last, Finished)
    assert len(computed) == once
    assert_same(first, weights(job))


def test_batch_statistics_stay_through_every_look(tmp_path: Path, model: Model, ball: Ball) -> None:
    """A few patches of one patient must not replace what many scans have set."""
    spec = replace(model.spec, arguments={**model.spec.arguments, "norm": "batch"})
    state = {key: value.numpy() for key, value in build_network(spec).state_dict().items()}
    path = tmp_path / "batch.safetensors"
    write_model(path, Model(spec, state, model.lineage))
    for name, how in {
        "adapter": recipe(),
        "lora": LoRA(rank=2, training=replace(recipe().training, learning_rate=1e-3)),
    }.items():
        job = create_job(tmp_path / name, path, [case(ball)], how)
        events = list(run_job(job.path))
        assert isinstance(events[-1], Finished), events
        assert max(event.step for event in events if isinstance(event, Improved)) > 2
        kept = {key: value for key, value in weights(job).items() if "running" in key}
        assert kept
        for key, value in kept.items():
            assert np.array_equal(value, state[key.removeprefix("base.")]), key


def test_a_model_with_an_adapter_is_not_shared(
    tmp_path: Path, model_file: Path, ball: Ball
) -> None:
    base = read_model(model_file)
    adapted = read_model(taught(tmp_path / "a", model_file, ball, recipe()).candidate)
    lights = {light.name: light for light in judge(adapted, base, "better")}
    assert not lights["layout"].ok
    assert "layout differs" in lights["layout"].sentence
    for server in (None, to_dafne(base)):
        with pytest.raises(ModelError):
            to_dafne(adapted, server)
    probe = taught(tmp_path / "b", model_file, ball, recipe(linear_probe=True))
    assert fit_to_share(judge(read_model(probe.candidate), base, "better"))
