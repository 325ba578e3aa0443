"""Jobs from scratch: a network of their own, with and without a model to compare with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_dante.adapt.recipe import RECIPES, Adapter, FromScratch, LoRA
from napari_dante.adapt.training import Training
from napari_dante.errors import TeachError
from napari_dante.federated.gate import judge
from napari_dante.files import sha256
from napari_dante.jobs.case import CaseData
from napari_dante.jobs.events import Failed, Finished, Progress, Started
from napari_dante.jobs.folder import JobFolder, create_job
from napari_dante.jobs.run import run_job
from napari_dante.model.file import read_model
from napari_dante.model.segmenter import Segmenter
from tests.jobs.ball import NAMES, SLICES, case

Ball = tuple[NDArray[np.float32], NDArray[np.uint8]]
MIB = 1 / 1024


def scratch(steps: int = 6, check_every: int = 2, **options: Any) -> FromScratch:
    training = Training(
        steps=steps, check_every=check_every, learning_rate=1e-2, augmentation="none"
    )
    return FromScratch(memory=200 * MIB, training=training, **options)


def taught(job: JobFolder) -> Started:
    events = list(run_job(job.path))
    assert isinstance(events[-1], Finished), events[-1]
    return next(event for event in events if isinstance(event, Started))


def test_without_a_model_the_labels_are_those_of_the_case(tmp_path: Path, ball: Ball) -> None:
    data = replace(case(ball), names={1: "core", 9: "not on any slice"})
    job = create_job(tmp_path / "job", None, [data], scratch(60, 20))
    assert not job.base.exists()
    assert job.configuration() is None
    started = taught(job)
    assert started.dice is None
    assert started.trained == started.parameters
    chosen = job.configuration()
    assert chosen is not None
    assert started.note == chosen.sentence
    model = read_model(job.candidate)
    assert [label.name for label in model.spec.labels] == ["core", "label 2"]
    assert model.spec == chosen.spec
    assert model.lineage.parent is None
    assert model.lineage.name.startswith("scratch ")
    assert not job.mask("before").any()
    report = job.report()
    before, after = report.mean("before"), report.mean("after")
    assert before == 0.0
    assert after is not None
    assert after > 0.5
    mask = Segmenter.from_file(job.candidate).predict(ball[0], (2.0, 2.0, 2.0))
    assert np.array_equal(mask, job.mask("after"))


@pytest.mark.parametrize("dimensions", ["2", "3"])
def test_with_a_model_its_labels_and_its_mask_are_compared(
    tmp_path: Path, model_file: Path, ball: Ball, dimensions: Any
) -> None:
    job = create_job(tmp_path / "job", model_file, [case(ball)], scratch(dimensions=dimensions))
    started = taught(job)
    assert started.dice is not None
    model, base = read_model(job.candidate), read_model(model_file)
    assert model.spec.labels == base.spec.labels
    assert (model.spec.slice_axis is None) == (dimensions == "3")
    assert model.lineage.parent == sha256(model_file)
    assert model.lineage.name.startswith("tiny ")
    expected = Segmenter.from_file(model_file).predict(ball[0], (2.0, 2.0, 2.0))
    assert np.array_equal(job.mask("before"), expected)
    lights = {light.name: light for light in judge(model, base, "better")}
    assert not lights["layout"].ok, "it would be averaged with a network that it is not"
    assert "another model" in lights["layout"].sentence


def test_same_job_same_weights_and_resume_equals_uninterrupted(tmp_path: Path, ball: Ball) -> None:
    weights = []
    for name, stop in (("whole", None), ("broken", 5)):
        job = create_job(tmp_path / name, None, [case(ball)], scratch(8))
        for event in run_job(job.path):
            if isinstance(event, Progress) and event.step == stop:
                break
        if stop is not None:
            assert job.last.is_file()
            first = job.network.read_bytes()
            taught(job)
            assert job.network.read_bytes() == first
        weights.append(read_model(job.candidate).weights)
    for key, value in weights[0].items():
        assert np.array_equal(value, weights[1][key]), key


def test_a_resumed_job_keeps_its_network_whatever_memory_is_left(
    tmp_path: Path, ball: Ball, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = FromScratch(training=scratch(4).training)
    job = create_job(tmp_path / "job", None, [case(ball)], recipe)
    for event in run_job(job.path):
        if isinstance(event, Progress) and event.step == 3:
            break
    monkeypatch.setattr("napari_dante.jobs.start.step_memory", lambda device: 1)
    assert isinstance(list(run_job(job.path))[-1], Finished)


def test_labels_never_learned_from_do_not_reach_the_weights(tmp_path: Path, ball: Ball) -> None:
    image, labels = ball
    first = create_job(tmp_path / "a", None, [case(ball)], scratch(check_every=100))
    learned = list(first.split().learn)
    scrambled = np.random.default_rng(0).integers(0, 3, labels.shape).astype(np.uint8)
    scrambled[learned] = labels[learned]
    second = create_job(tmp_path / "b", None, [case((image, scrambled))], scratch(check_every=100))
    taught(first)
    taught(second)
    weights = [read_model(job.candidate).weights for job in (first, second)]
    for key, value in weights[0].items():
        assert np.array_equal(value, weights[1][key]), key


@pytest.mark.parametrize("network", ["DynUNet", "SegResNet"])
def test_every_network_can_be_asked_for(tmp_path: Path, ball: Ball, network: Any) -> None:
    job = create_job(tmp_path / "job", None, [case(ball)], scratch(2, network=network))
    taught(job)
    assert read_model(job.candidate).spec.network == network


def test_a_model_of_slices_is_adapted_like_any_other(tmp_path: Path, ball: Ball) -> None:
    flat = create_job(tmp_path / "flat", None, [case(ball)], scratch(2))
    taught(flat)
    spec = read_model(flat.candidate).spec
    assert spec.slice_axis == 0
    for method, kind in RECIPES.items():
        if kind is FromScratch:
            continue
        options = {"hidden": 4} if kind is Adapter else {}
        training = Training(steps=2, check_every=2, augmentation="none")
        recipe: Any = kind(training=training, **options)
        job = create_job(tmp_path / method, flat.candidate, [case(ball)], recipe)
        taught(job)
        found = read_model(job.candidate).spec
        assert replace(found, adapter=None) == spec
        assert found.adapter == (4 if kind is Adapter else None)


def bad(data: CaseData, **changes: Any) -> CaseData:
    return replace(data, **changes)


def test_one_trusted_slice_is_learned_without_an_exam(tmp_path: Path, ball: Ball) -> None:
    job = create_job(tmp_path / "job", None, [case(ball, (12,))], scratch(2))
    taught(job)
    assert not job.exam.exists()


def test_a_label_of_three_voxels_is_learned_from(tmp_path: Path, ball: Ball) -> None:
    image, labels = ball
    tiny = np.where(labels == 2, 2, 0).astype(np.uint8)
    tiny[6, 5, 5:8] = 1
    job = create_job(tmp_path / "job", None, [case((image, tiny))], scratch(2))
    taught(job)
    assert [label.name for label in read_model(job.candidate).spec.labels] == ["core", "shell"]


def test_a_patch_larger_than_the_volume_is_padded(
    tmp_path: Path, model_file: Path, ball: Ball
) -> None:
    image, labels = (array[6:17:2, 6:13, 7:14] for array in ball)
    small = CaseData(image, labels, NAMES, (2.0, 2.0, 2.0), 0, np.ones(6, bool))
    for name, recipe in {
        "2": scratch(2, dimensions="2"),
        "3": scratch(2, dimensions="3"),
        "lora": LoRA(rank=2, training=Training(steps=2)),
    }.items():
        model = model_file if name == "lora" else None
        job = create_job(tmp_path / name, model, [small], recipe)
        taught(job)
        spec = read_model(job.candidate).spec
        assert max(spec.patch) > max(image.shape)
        assert job.mask("after").shape == image.shape


def test_cases_of_other_spacings_and_shapes_are_learned_together(
    tmp_path: Path, ball: Ball
) -> None:
    image, labels = ball
    thin = CaseData(
        np.repeat(image, 2, axis=1),
        np.repeat(labels, 2, axis=1),
        NAMES,
        (2.0, 1.0, 2.0),
        0,
        np.isin(np.arange(24), SLICES),
    )
    turned = CaseData(
        image.transpose(1, 0, 2),
        labels.transpose(1, 0, 2),
        NAMES,
        (2.0, 2.0, 2.0),
        1,
        np.isin(np.arange(24), SLICES),
    )
    job = create_job(tmp_path / "two", None, [case(ball), thin], scratch(2))
    taught(job)
    spec = read_model(job.candidate).spec
    assert spec.slice_axis == 0
    assert spec.spacing == (2.0, 1.5, 2.0)
    job = create_job(tmp_path / "three", None, [case(ball), turned], scratch(2))
    taught(job)
    assert read_model(job.candidate).spec.slice_axis is None, "they share no slice axis"


def test_some_broken_voxels_do_no_harm(tmp_path: Path, ball: Ball) -> None:
    image = ball[0].copy()
    image[0, :3] = [[np.nan], [np.inf], [-np.inf]]
    job = create_job(tmp_path / "job", None, [case((image, ball[1]))], scratch(2))
    taught(job)


def test_what_cannot_be_learned_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, model_file: Path, ball: Ball
) -> None:
    image, labels = ball
    data = case(ball)
    empty = np.where(np.isin(np.arange(24), [12])[:, None, None], labels, 0).astype(np.uint8)
    situations: dict[str, tuple[Path | None, CaseData, Any]] = {
        "nothing to learn from": (None, case(ball, ()), scratch()),
        "hold no structure": (None, case((image, np.zeros_like(labels))), scratch()),
        "is empty": (None, case((np.full_like(image, np.nan), labels)), scratch()),
        "one and the same value": (model_file, case((np.full_like(image, 3), labels)), LoRA()),
        "no model to adapt": (None, data, LoRA()),
        "to learn from hold no structure": (None, case((image, empty)), scratch()),
        "No case marks 'core'": (
            model_file,
            bad(data, labels=np.where(labels == 2, 2, 0), names={2: "shell"}),
            scratch(),
        ),
    }
    for words, (model, one, recipe) in situations.items():
        with pytest.raises(TeachError, match=words) as caught:
            create_job(tmp_path / "job", model, [one], recipe)
        assert caught.value.sentence.count("\n") == 0
        assert not (tmp_path / "job").exists(), words


def test_a_volume_of_channels_is_refused(ball: Ball) -> None:
    with pytest.raises(TeachError, match="one channel"):
        bad(case(ball), image=ball[0][..., None], labels=ball[1][..., None])


def test_too_little_memory_is_one_failed_event(tmp_path: Path, ball: Ball) -> None:
    recipe = FromScratch(memory=1 * MIB, training=Training(steps=2))
    job = create_job(tmp_path / "job", None, [case(ball)], recipe)
    last = list(run_job(job.path))[-1]
    assert isinstance(last, Failed)
    assert "memory=" in last.sentence


@pytest.mark.parametrize("victim", ["identity", "network"])
def test_a_damaged_folder_is_one_failed_event(tmp_path: Path, ball: Ball, victim: str) -> None:
    job = create_job(tmp_path / "job", None, [case(ball)], scratch(2))
    if victim == "network":
        job.network.write_text('{"spec": 3')
    else:
        description = json.loads((job.path / "job.json").read_text())
        del description["identity"]
        (job.path / "job.json").write_text(json.dumps(description))
    last = list(run_job(job.path))[-1]
    assert isinstance(last, Failed)
    assert "damaged" in last.sentence
