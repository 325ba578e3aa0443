"""A result that waits for a decision, without the minute that it takes to get there."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from pytestqt.qtbot import QtBot
from qtpy.QtWidgets import QWidget

from napari_dante.adapt.recipe import LoRA, Training
from napari_dante.jobs.client import Worker
from napari_dante.jobs.comparison import compare
from napari_dante.jobs.events import Ready
from napari_dante.jobs.folder import CaseData, JobFolder, create_job
from napari_dante.jobs.outcome import outcome_of
from napari_dante.jobs.reporting import report_of
from napari_dante.jobs.run import run_job
from napari_dante.model.file import read_header
from napari_dante.ui.controller import Controller
from napari_dante.ui.dock import DanteDock
from napari_dante.ui.lesson import Lesson
from napari_dante.ui.readers import read_path
from napari_dante.ui.states import Step
from napari_dante.ui.work import Taught
from tests.ui.conftest import Ball, correct
from tests.ui.test_flow import SLICES, MakeDock, settled

__all__ = ["canvas", "finished", "idle", "names", "ready"]

_done: list[Path] = []


@pytest.fixture
def idle(worker_class: type[Worker], monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker is said to be warm; none of these tests gives it work."""
    monkeypatch.setattr(worker_class, "warm_up", lambda _: Ready("CPU", "float32", 1))


@pytest.fixture
def finished(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, model_file: Path, ball: Ball
) -> JobFolder:
    """A lesson of a few steps that was really run, once for all tests."""
    if not _done:
        trusted = np.zeros(24, bool)
        trusted[list(SLICES)] = True
        case = CaseData(*ball, {1: "core", 2: "shell"}, (2.0, 2.0, 2.0), 0, trusted)
        recipe = LoRA(rank=4, training=Training(steps=6, check_every=2))
        folder = tmp_path_factory.mktemp("once") / "job"
        job = create_job(folder, model_file, [case], recipe)
        for _ in run_job(job.path):
            pass
        _done.append(job.path)
    job = JobFolder(shutil.copytree(_done[0], tmp_path / "job"))
    shutil.copyfile(job.base, model_file)  # the library of this test begins with the same file
    return job


@pytest.fixture
def ready(
    idle: None,
    finished: JobFolder,
    make_dock: MakeDock,
    qtbot: QtBot,
    ball_file: Path,
    ball: Ball,
    model_file: Path,
) -> DanteDock:
    """A shown window with a result that waits for a decision."""
    dock = make_dock(show=True)
    controller = dock.controller
    (data, kwargs, _), _ = read_path(ball_file)
    controller.viewer.add_image(data, **kwargs)
    session = controller.session
    assert session is not None
    session.propose(finished.mask("before"), read_header(model_file)[0])
    correct(session.labels, ball[1], SLICES)
    lesson = Lesson(session, finished.path, model_file)
    controller.judge(lesson, Taught(report_of(finished), compare(finished), outcome_of(finished)))
    settled(dock, qtbot, Step.RESULT)
    window = controller.viewer.window._qt_window
    qtbot.waitExposed(window)
    qtbot.waitUntil(lambda: canvas(controller).width() > 50, timeout=5000)
    window.activateWindow()
    canvas(controller).setFocus()
    return dock


def canvas(controller: Controller) -> QWidget:
    return controller.viewer.window._qt_viewer.canvas.native


def names(controller: Controller) -> list[str]:
    return [layer.name for layer in controller.viewer.layers]
