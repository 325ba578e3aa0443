"""What a finished job is compared and reported by, without torch and without identity."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from napari_dante.cli import run
from napari_dante.errors import JobError
from napari_dante.evaluate.mistakes import Mistake
from napari_dante.evaluate.page import WITH_PICTURES, WITHOUT_PICTURES, page
from napari_dante.evaluate.pictures import outlined
from napari_dante.evaluate.report import ExamReport
from napari_dante.jobs.comparison import compare
from napari_dante.jobs.course import read_curve, read_events
from napari_dante.jobs.events import Improved, Progress, Started, Validated
from napari_dante.jobs.folder import JobFolder
from napari_dante.jobs.reporting import pictures_of, report_of, write_run
from napari_dante.jobs.run import run_job
from tests.jobs.ball import SLICES, job

Ball = tuple[NDArray[np.float32], NDArray[np.uint8]]


@pytest.fixture
def done(tmp_path: Path, model_file: Path, ball: Ball) -> JobFolder:
    """A finished job in a folder whose name is an identity."""
    folder = job(tmp_path / "Zqxname", model_file, ball)
    for _ in run_job(folder.path):
        pass
    return folder


def test_the_comparison_is_the_exam(done: JobFolder, ball: Ball) -> None:
    comparison, exam = compare(done), done.report()
    assert comparison.slices == SLICES
    scores = {score.slice: score for score in comparison.scores()}
    assert {index for index, score in scores.items() if score.exam} == set(exam.exam)
    for index in exam.exam:
        assert scores[index].before == pytest.approx(exam.mean("before", slice_=index))
        assert scores[index].after == pytest.approx(exam.mean("after", slice_=index))
    for when in ("before", "after"):
        wrong, mask = comparison.mistakes(when), done.mask(when)
        trusted = np.zeros(24, bool)
        trusted[list(SLICES)] = True
        assert not wrong[~trusted].any(), "nobody said what would be right there"
        np.testing.assert_array_equal(wrong[trusted] > 0, (mask != ball[1])[trusted])
        missed = wrong[trusted] == Mistake.MISSED
        np.testing.assert_array_equal(missed, ((mask == 0) & (ball[1] > 0))[trusted])
        extra = wrong[trusted] == Mistake.EXTRA
        np.testing.assert_array_equal(extra, ((mask > 0) & (ball[1] == 0))[trusted])


def test_a_page_needs_nothing_else_and_names_nobody(done: JobFolder) -> None:
    found = report_of(done)
    text = page(found)
    assert isinstance(found.exam, ExamReport)
    for words in ("What was taught", "Learning curve", "core", "shell", "LoRA", WITHOUT_PICTURES):
        assert words in text
    assert "Zqxname" not in text
    assert not re.search(r'(src|href)="(?!data:)', text), "another file"
    assert "<script" not in text
    assert text.count("<svg") == 2
    assert "<img" not in text


def test_pictures_come_only_on_demand_and_the_page_says_so(done: JobFolder, tmp_path: Path) -> None:
    for pictures in ([], ["--pictures"]):
        out = tmp_path / f"page{len(pictures)}.html"
        assert run(["report", str(done.path), "--out", str(out), *pictures]) == 0
        text = out.read_text()
        assert ("data:image/png" in text) is (WITH_PICTURES in text) is bool(pictures)
    for picture in pictures_of(compare(done)):
        assert picture.slice in done.report().exam
        image = Image.open(io.BytesIO(picture.before))
        # The slice is 20 by 22 voxels of 2 mm.
        assert image.size == (360, 327)


def test_an_outline_runs_around_what_is_marked() -> None:
    truth, mask = np.zeros((2, 40, 40), np.uint8)
    truth[10:20, 10:20], mask[20:30, 20:30] = 1, 1
    png = outlined(np.zeros((40, 40)), truth, mask, (1.0, 1.0), (0.0, 1.0))
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    white, orange = (pixels == 255).all(axis=2), (pixels == (230, 159, 0)).all(axis=2)
    assert white[:185, :185].sum() == white.sum() > 300
    assert orange[170:, 170:].sum() == orange.sum() > 300
    assert not white[100:170, 100:170].any(), "filled"


def test_tables_hold_every_score(done: JobFolder, tmp_path: Path) -> None:
    found = report_of(done)
    assert found.exam is not None
    write_run(tmp_path / "run.csv", found)
    rows = list(csv.DictReader((tmp_path / "run.csv").read_text().splitlines()))
    assert len(rows) == len(found.exam.scores)
    for row, score in zip(rows, found.exam.scores, strict=True):
        assert (row["structure"], int(row["slice"])) == (score.label, score.slice)
        expected = score.after.dice
        assert row["dice_after"] == ("" if expected is None else f"{expected:.4f}")
    write_run(tmp_path / "run.json", found)
    data = json.loads((tmp_path / "run.json").read_text())
    assert data["exam"]["verdict"] == found.exam.verdict
    assert [item["label"] for item in data["labels"]] == ["core", "shell"]
    assert data["curve"]["dice"]
    with pytest.raises(JobError, match=r"\.html"):
        write_run(tmp_path / "run.pdf", found)


def test_a_resumed_lesson_is_one_curve(done: JobFolder) -> None:
    started = Started("lora", "cpu", 1, 2, 0, (1,), (2,), 0.4)
    first = [started, Progress(1, 4, 1.0, 0.9), Validated(1, 0.5), Progress(2, 4, 1.0, 0.8)]
    again = [started, Progress(2, 4, 1.0, 0.7), Validated(2, 0.6), Improved(2, 0.6)]
    curve = read_curve([*first, *again])
    assert curve.loss == ((1, 0.9), (2, 0.7))
    assert curve.dice == ((0, 0.4), (1, 0.5), (2, 0.6))
    assert (curve.total, curve.to_beat, curve.best) == (4, 0.4, (2, 0.6))
    before = read_events(done)
    with done.events.open("ab") as stream:
        stream.write(b'{"event": "Progr')
    assert read_events(done) == before


def test_names_are_neither_markup_nor_formulas(done: JobFolder) -> None:
    found = report_of(done)
    assert found.exam is not None
    for name in ("<img src=x>", "=1+1"):
        scores = tuple(replace(score, label=name) for score in found.exam.scores)
        other = replace(found, exam=replace(found.exam, scores=scores), structures=(name,))
        assert "<img" not in page(other)
        assert all(not line.startswith("=") for line in other.to_csv().splitlines())


def test_an_unfinished_job_has_no_report(tmp_path: Path, model_file: Path, ball: Ball) -> None:
    folder = job(tmp_path / "job", model_file, ball)
    with pytest.raises(JobError, match="not finished"):
        report_of(folder)


def test_a_report_needs_no_torch() -> None:
    code = (
        "import sys, napari_dante.jobs.reporting, napari_dante.jobs.cases;"
        "print({'torch', 'monai', 'napari', 'qtpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
