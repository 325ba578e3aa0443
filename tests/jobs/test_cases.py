"""What was taught is remembered for good, without saying whose head it was."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_dante.errors import TeachError
from napari_dante.jobs.cases import CaseBook, Taught
from napari_dante.jobs.folder import create_job
from tests.jobs.ball import case, recipe

Ball = tuple[NDArray[np.float32], NDArray[np.uint8]]
LESSON = Taught("a" * 32, "line", 0, (1, 2), (7, 8), "examined", "2026-01-01")


@pytest.fixture
def book(tmp_path: Path) -> CaseBook:
    return CaseBook(tmp_path / "data" / "cases.jsonl")


def test_exam_slices_only_ever_grow(book: CaseBook) -> None:
    assert book.frozen(LESSON.volume, 0) == ()
    book.add(LESSON)
    book.add(replace(LESSON, exam=(12,)))
    book.add(replace(LESSON, volume="b" * 32, exam=(3,)))
    assert book.frozen(LESSON.volume, 0) == (7, 8, 12)


def test_a_torn_line_spoils_nothing_else(book: CaseBook, tmp_path: Path) -> None:
    book.add(LESSON)
    with (tmp_path / "data" / "cases.jsonl").open("ab") as stream:
        stream.write(b'{"volume": "a')
    book.add(replace(LESSON, exam=(12,)))
    assert book.frozen(LESSON.volume, 0) == (7, 8, 12)


def test_slices_across_the_exam_are_refused(book: CaseBook) -> None:
    book.add(LESSON)
    with pytest.raises(TeachError, match=r"axial slices.*sagittal"):
        book.frozen(LESSON.volume, 2)
    assert book.frozen("b" * 32, 2) == ()


def test_cases_are_counted_by_volume(book: CaseBook) -> None:
    kept = replace(LESSON, what="kept")
    for one in (LESSON, kept, replace(kept, learn=(1, 2, 3)), replace(kept, volume="b" * 32)):
        book.add(one)
    book.add(replace(kept, model="another"))
    assert [(one.volume[0], len(one.learn)) for one in book.taught("line")] == [("a", 3), ("b", 2)]


def test_a_job_keeps_the_exam_of_the_lesson_before(
    tmp_path: Path, model_file: Path, ball: Ball
) -> None:
    job = create_job(tmp_path / "job", model_file, [case(ball)], recipe(), frozen_exam=(6, 14))
    split = job.split()
    assert split.exam == (6, 14)
    assert split.learn == (8, 12, 16)
    description = json.loads((job.path / "job.json").read_text())
    del description["frozen_exam"]  # a job of before this was kept
    (job.path / "job.json").write_text(json.dumps(description))
    assert len(job.split().exam) == 2
