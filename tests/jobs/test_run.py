"""Running a job folder: what it leaves behind, how it stops, how it goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from napari_dante.adapt.loop import Word
from napari_dante.adapt.recipe import Auto, GradualUnfreezing, LoRA, recipe_to_json
from napari_dante.adapt.training import Training
from napari_dante.errors import JobError, ModelError, TeachError
from napari_dante.evaluate.uncertainty import slice_doubt
from napari_dante.files import sha256
from napari_dante.jobs.events import (
    Failed,
    Finished,
    Improved,
    Paused,
    Progress,
    Resumed,
    Started,
    Validated,
    decode,
)
from napari_dante.jobs.folder import JobFolder, create_job
from napari_dante.jobs.run import guarded, run_job
from napari_dante.model.file import read_model
from tests.jobs.ball import NAMES, SLICES, case, job, recipe

Ball = tuple[NDArray[np.float32], NDArray[np.uint8]]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "The graphics card"),
        (RuntimeError("DefaultCPUAllocator: not enough memory"), "Close other programs"),
    ],
    ids=["card", "computer"],
)
def test_too_little_memory_says_where_and_what_to_do(error: Exception, words: str) -> None:
    def events() -> Iterator[Progress]:
        yield Progress(1, 2)
        raise error

    *_, last = guarded(events())
    assert isinstance(last, Failed)
    assert last.kind == "memory"
    assert words in last.sentence
    assert "the old model is unchanged" in last.sentence


def words(*spoken: tuple[int, Word]) -> Iterator[Word | None]:
    """Yield nothing, and the given words at the given polls."""
    said = dict(spoken)
    number = 0
    while True:
        yield said.get(number)
        number += 1


@pytest.mark.parametrize("method", [LoRA(rank=2), GradualUnfreezing()], ids=["lora", "unfreeze"])
def test_teaching_improves_the_exam_and_leaves_everything_behind(
    tmp_path: Path, model_file: Path, ball: Ball, method: LoRA | GradualUnfreezing
) -> None:
    training = Training(steps=40, check_every=20, learning_rate=1e-2, augmentation="none")
    kind = type(method)
    folder = create_job(tmp_path / "job", model_file, [case(ball)], kind(training=training))
    events = list(run_job(folder.path))
    started = next(event for event in events if isinstance(event, Started))
    assert set(started.learn) | set(started.exam) <= set(SLICES)
    assert isinstance(events[-1], Finished)
    report = folder.report()
    assert report.exam == started.exam
    before, after = report.mean("before"), report.mean("after")
    assert before is not None
    assert after is not None
    assert after > before + 0.1
    checks = [event for event in events if isinstance(event, Validated)]
    assert max(check.mean for check in checks) == pytest.approx(
        next(e for e in reversed(events) if isinstance(e, Improved)).mean
    )
    lines = folder.events.read_text().splitlines()
    assert [decode(line) for line in lines] == events
    best = read_model(folder.candidate)
    assert best.lineage.parent == sha256(model_file)
    assert best.lineage.recipe == json.loads(json.dumps(recipe_to_json(folder.recipe())))
    assert best.lineage.exam == report.summary()
    assert best.lineage.cases == len(folder.cases())
    assert set(best.weights) == set(read_model(model_file).weights)
    assert not folder.last.exists()
    assert folder.mask("after").shape == ball[0].shape


def test_the_exam_is_of_the_file_that_is_kept(tmp_path: Path, model_file: Path, ball: Ball) -> None:
    from napari_dante.model.segmenter import Segmenter

    folder = job(tmp_path / "job", model_file, ball)
    list(run_job(folder.path))
    segmenter = Segmenter.from_file(folder.candidate)
    found = segmenter.analyse(ball[0], (2.0, 2.0, 2.0), entropy=True)
    assert np.array_equal(found.classes, folder.mask("after"))
    doubt = folder.doubt()
    assert doubt is not None
    assert found.entropy is not None
    for told, expected in zip(doubt, slice_doubt(found.entropy), strict=True):
        np.testing.assert_array_equal(told, expected)


def test_untrusted_and_exam_labels_never_reach_the_weights(
    tmp_path: Path, model_file: Path, ball: Ball
) -> None:
    """Scramble every label that is not learned from: the weights stay bit for bit."""
    image, labels = ball
    folder = job(tmp_path / "a", model_file, ball)
    learned = list(folder.split().learn)
    scrambled = np.random.default_rng(0).integers(0, 3, labels.shape).astype(np.uint8)
    scrambled[learned] = labels[learned]
    other = job(tmp_path / "b", model_file, (image, scrambled))
    weights = []
    for one in (folder, other):
        # The best step is chosen on the exam, so compare the last one: check once, at the end.
        description = json.loads((one.path / "job.json").read_text())
        description["recipe"]["training"]["check_every"] = 100
        (one.path / "job.json").write_text(json.dumps(description))
        list(run_job(one.path))
        weights.append(read_model(one.candidate).weights)
    for key, value in weights[0].items():
        assert np.array_equal(value, weights[1][key]), key


def test_same_job_same_weights_and_resume_equals_uninterrupted(
    tmp_path: Path, model_file: Path, ball: Ball
) -> None:
    whole = job(tmp_path / "whole", model_file, ball, steps=8)
    list(run_job(whole.path))
    broken = job(tmp_path / "broken", model_file, ball, steps=8)
    for event in run_job(broken.path):
        if isinstance(event, Progress) and event.step == 5:
            break  # as if the process had died: the last state on disk is that of step 4
    assert broken.last.is_file()
    resumed = list(run_job(broken.path))
    assert next(event.step for event in resumed if isinstance(event, Progress)) == 5
    first, second = (read_model(one.candidate).weights for one in (whole, broken))
    for key, value in first.items():
        assert np.array_equal(value, second[key]), key


def test_pause_waits_and_stop_keeps_the_best(tmp_path: Path, model_file: Path, ball: Ball) -> None:
    folder = job(tmp_path / "job", model_file, ball, steps=1000)
    spoken = words((3, "pause"), (4, "resume"), (6, "stop"))
    events = list(run_job(folder.path, lambda wait: next(spoken)))
    kinds = [type(event) for event in events]
    assert kinds.index(Paused) + 1 == kinds.index(Resumed)
    assert isinstance(events[-1], Finished)
    assert max(event.step for event in events if isinstance(event, Progress)) == 5
    assert folder.candidate.is_file()
    assert folder.exam.is_file()


@pytest.mark.parametrize("spoken", [[(3, "cancel")], [(3, "pause"), (4, "cancel")]])
def test_cancel_ends_without_a_result(
    tmp_path: Path, model_file: Path, ball: Ball, spoken: list[tuple[int, Word]]
) -> None:
    folder = job(tmp_path / "job", model_file, ball, steps=1000)
    voice = words(*spoken)
    last = list(run_job(folder.path, lambda wait: next(voice)))[-1]
    assert isinstance(last, Failed)
    assert last.kind == "cancelled"
    assert not folder.exam.exists()


def test_early_stop_after_looks_without_improvement(
    tmp_path: Path, model_file: Path, ball: Ball
) -> None:
    folder = job(tmp_path / "job", model_file, ball, steps=1000, learning_rate=1e-9, patience=2)
    steps = [event.step for event in run_job(folder.path) if isinstance(event, Progress)]
    assert 4 <= max(steps) <= 10


def test_one_slice_is_learned_without_an_exam(tmp_path: Path, model_file: Path, ball: Ball) -> None:
    folder = create_job(tmp_path / "job", model_file, [case(ball, (12,))], recipe())
    events = list(run_job(folder.path))
    assert isinstance(events[-1], Finished)
    assert not any(isinstance(event, Validated) for event in events)
    assert not folder.exam.exists()


def test_several_cases_are_learned_together(tmp_path: Path, model_file: Path, ball: Ball) -> None:
    folder = create_job(tmp_path / "job", model_file, [case(ball), case(ball, (3, 9))], recipe())
    assert isinstance(list(run_job(folder.path))[-1], Finished)


def test_labels_are_matched_by_name_not_by_number(
    tmp_path: Path, model_file: Path, ball: Ball
) -> None:
    image, labels = ball
    swapped = np.choose(labels, [0, 20, 10]).astype(np.uint8)
    data = case((image, swapped))
    renamed = type(data)(
        image, swapped, {20: "core", 10: "shell"}, data.spacing, data.axis, data.trusted
    )
    spec = read_model(model_file).spec
    assert np.array_equal(renamed.classes(spec), labels)


def test_an_unknown_structure_is_refused(tmp_path: Path, model_file: Path, ball: Ball) -> None:
    data = case(ball)
    unknown = type(data)(
        data.image, data.labels, {**NAMES, 2: "spleen"}, data.spacing, data.axis, data.trusted
    )
    with pytest.raises(TeachError, match="does not know 'spleen'"):
        create_job(tmp_path / "job", model_file, [unknown], recipe())
    assert not (tmp_path / "job").exists()


def test_nothing_trusted_is_refused(tmp_path: Path, model_file: Path, ball: Ball) -> None:
    with pytest.raises(TeachError, match="nothing to learn from"):
        create_job(tmp_path / "job", model_file, [case(ball, ())], recipe())


def test_a_second_job_does_not_overwrite_the_first(
    tmp_path: Path, model_file: Path, ball: Ball
) -> None:
    folder = job(tmp_path / "job", model_file, ball)
    with pytest.raises(JobError, match="already holds a job"):
        job(folder.path, model_file, ball)


def test_a_model_that_is_not_one_is_refused(tmp_path: Path, ball: Ball) -> None:
    fake = tmp_path / "fake.safetensors"
    fake.write_bytes(b"not a model")
    with pytest.raises(ModelError):
        create_job(tmp_path / "job", fake, [case(ball)], recipe())


@pytest.mark.parametrize("victim", ["job.json", "base.safetensors", "cases/0/labels.npy"])
def test_a_damaged_folder_is_one_failed_event(
    tmp_path: Path, model_file: Path, ball: Ball, victim: str
) -> None:
    folder = job(tmp_path / "job", model_file, ball)
    path = folder.path / victim
    path.write_bytes(path.read_bytes()[:40])
    (only,) = run_job(folder.path)
    assert isinstance(only, Failed)
    assert "\n" not in only.sentence
    assert str(tmp_path) not in only.sentence + only.detail


def test_not_a_job_at_all(tmp_path: Path) -> None:
    (only,) = run_job(tmp_path / "nowhere")
    assert isinstance(only, Failed)
    assert not (tmp_path / "nowhere").exists()


def test_another_base_model_in_the_folder_is_refused(
    tmp_path: Path, model_file: Path, ball: Ball
) -> None:
    folder = job(tmp_path / "job", model_file, ball)
    with folder.base.open("ab") as stream:
        stream.write(b" ")
    (only,) = run_job(folder.path)
    assert isinstance(only, Failed)


def test_a_full_disk_is_one_failed_event(
    tmp_path: Path, model_file: Path, ball: Ball, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = job(tmp_path / "job", model_file, ball)

    def full(self: JobFolder, name: str, array: NDArray[np.uint8]) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(JobFolder, "save_array", full)
    last = list(run_job(folder.path))[-1]
    assert isinstance(last, Failed)
    assert last.kind == "disk"


def test_the_folder_can_move_to_another_place(tmp_path: Path, model_file: Path, ball: Ball) -> None:
    folder = job(tmp_path / "job", model_file, ball)
    shutil.move(folder.path, tmp_path / "elsewhere")
    model_file.unlink()
    assert isinstance(list(run_job(tmp_path / "elsewhere"))[-1], Finished)
    for path in (tmp_path / "elsewhere").rglob("*"):
        if path.is_file():
            assert str(tmp_path).encode() not in path.read_bytes(), path.name


def test_an_open_recipe_is_chosen_once_and_said(
    tmp_path: Path, model_file: Path, ball: Ball
) -> None:
    auto = Auto(training=Training(device="cpu"))
    job = create_job(tmp_path / "job", model_file, [case(ball)], auto)
    events = iter(run_job(job.path))
    started = next(events)
    assert isinstance(started, Started)
    assert started.method == "lora-decoder"
    assert "Dice on your slices" in started.note
    chosen = job.choice()
    assert chosen is not None
    # A resumed job goes on with what was chosen, whatever would be chosen now.
    other = replace(chosen, recipe=replace(chosen.recipe, training=Training(steps=2)))
    job.chosen.write_text(json.dumps(other.to_json()))
    events.close()  # type: ignore[attr-defined]
    steps = [event.step for event in run_job(job.path) if isinstance(event, Progress)]
    assert steps == [1, 2]
