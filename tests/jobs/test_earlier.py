"""Earlier cases are rehearsed, and what was forgotten of them is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_dante.jobs.events import Finished
from napari_dante.jobs.folder import CaseData, JobFolder, create_job
from napari_dante.jobs.rehearsal import rehearsal
from napari_dante.jobs.run import run_job
from napari_dante.model.file import read_model, write_model
from napari_dante.model.library import Library
from tests.jobs.ball import case, recipe

Ball = tuple[NDArray[np.float32], NDArray[np.uint8]]


def swapped(ball: Ball) -> CaseData:
    """Return the ball with a dark core in a bright shell, trusted everywhere."""
    image, labels = ball
    other = image + np.choose(labels, [0.0, -100.0, 100.0]).astype(np.float32)
    return case((other, labels), tuple(range(len(image))))


def taught(
    folder: Path, model_file: Path, ball: Ball, earlier: list[CaseData], **training: object
) -> JobFolder:
    job = create_job(folder, model_file, [case(ball)], recipe(**training), earlier=earlier)  # type: ignore[arg-type]
    events = list(run_job(job.path))
    assert isinstance(events[-1], Finished)
    return job


def weights(job: JobFolder) -> dict[str, NDArray[np.float32]]:
    return dict(read_model(job.candidate).weights)


def same(one: JobFolder, other: JobFolder) -> bool:
    first, second = weights(one), weights(other)
    return all(np.array_equal(value, second[key]) for key, value in first.items())


def test_the_exam_says_what_was_kept_of_earlier_cases(
    tmp_path: Path, model_file: Path, ball: Ball
) -> None:
    report = taught(tmp_path / "job", model_file, ball, [swapped(ball)]).report()
    assert {item.label for item in report.earlier} == {"core", "shell"}
    assert all(0 <= item.before <= 1 and 0 <= item.after <= 1 for item in report.earlier)
    assert "Earlier cases" in report.earlier_sentence
    assert not taught(tmp_path / "other", model_file, ball, []).report().earlier


def test_rehearsal_reaches_the_weights_and_only_with_its_share(
    tmp_path: Path, model_file: Path, ball: Ball
) -> None:
    with_it = taught(tmp_path / "with", model_file, ball, [swapped(ball)], replay=1)
    without = taught(tmp_path / "without", model_file, ball, [swapped(ball)], replay=0)
    nothing = taught(tmp_path / "nothing", model_file, ball, [], replay=1)
    assert not same(with_it, nothing)
    assert same(without, nothing)


def test_what_is_examined_of_an_earlier_case_is_not_rehearsed(
    tmp_path: Path, model_file: Path, ball: Ball
) -> None:
    """Other labels on the examined slices change the exam, never the weights."""
    earlier = swapped(ball)
    changed = earlier.labels.copy()
    middle = len(changed) // 2
    changed[middle] = 1
    spoilt = replace(earlier, labels=changed)
    one = taught(tmp_path / "one", model_file, ball, [earlier], replay=1)
    other = taught(tmp_path / "other", model_file, ball, [spoilt], replay=1)
    assert same(one, other)
    assert one.report().earlier != other.report().earlier


def test_a_starter_brings_its_own_case_and_others_bring_none(model_file: Path) -> None:
    found = rehearsal(Library().resolve("brain-tissue-t1"))
    assert len(found) == 2
    for one in found:
        assert set(one.names.values()) == {"CSF", "grey matter", "white matter"}
        assert one.image.shape == one.labels.shape
        assert one.trusted.sum() > 40
    assert rehearsal(model_file) == []


def test_a_version_taught_from_the_starter_rehearses_too(tmp_path: Path) -> None:
    starter = read_model(Library().resolve("brain-tissue-t1"))
    write_model(
        tmp_path / "new.safetensors",
        replace(starter, lineage=starter.lineage.child("ab" * 32, {}, None)),
    )
    assert len(rehearsal(tmp_path / "new.safetensors")) == 2


@pytest.mark.parametrize("damage", ["labels.npy", "case.json"])
def test_a_damaged_earlier_case_is_one_sentence(
    tmp_path: Path, model_file: Path, ball: Ball, damage: str
) -> None:
    job = create_job(tmp_path / "job", model_file, [case(ball)], recipe(), earlier=[swapped(ball)])
    (job.path / "earlier" / "0" / damage).write_bytes(b"")
    last = list(run_job(job.path))[-1]
    assert not isinstance(last, Finished)
