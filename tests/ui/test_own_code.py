"""A model that runs by its own code is taught, judged and kept as any other in the panel."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from platformdirs import user_data_path
from pytestqt.qtbot import QtBot

from napari_dante.files import sha256
from napari_dante.jobs.foreign_job import NO_NEW
from napari_dante.model.dafne import read_dafne
from napari_dante.model.dafne_update import same_but_weights
from napari_dante.model.trust import is_trusted
from napari_dante.ui.controller import Controller
from napari_dante.ui.dock import DanteDock
from napari_dante.ui.states import Step, Task
from tests.jobs.levels import learning, level_file
from tests.ui.conftest import SECONDS, Ball, correct
from tests.ui.test_flow import MakeDock, predicted, settled

pytestmark = [
    pytest.mark.gui,
    pytest.mark.filterwarnings("ignore:System theme detection"),
    pytest.mark.usefixtures("own_process"),  # what is trusted is in the home that it began with
]

SLICES = (7, 9, 11, 13, 15)


def corrected(
    make_dock: MakeDock, qtbot: QtBot, model: Path, image: Path, ball: Ball
) -> tuple[DanteDock, Controller]:
    """The core of the ball is right on some slices; the shell was taken for it before."""
    dock = make_dock()
    controller = dock.controller
    with qtbot.waitSignal(controller.taken, timeout=SECONDS):
        controller.open_model(model)
    qtbot.waitUntil(lambda: controller.engine.task is None)
    if controller.foreign is not None:
        controller.trust_model()
    predicted(dock, qtbot, image)
    session = controller.session
    assert session is not None
    assert session.names == {1: "bright"}
    correct(session.labels, (ball[1] == 1).astype(np.uint8), SLICES)
    dock.refresh()
    return dock, controller


def idle(qtbot: QtBot, controller: Controller) -> None:
    qtbot.waitUntil(lambda: controller.engine.task is None, timeout=SECONDS)


def test_its_code_learns_and_what_came_of_it_is_kept(
    make_dock: MakeDock, qtbot: QtBot, tmp_path: Path, ball_file: Path, ball: Ball
) -> None:
    path = level_file(tmp_path / "Anna.model", trusted=False)
    dock, controller = corrected(make_dock, qtbot, path, ball_file, ball)
    teach, session, name = dock.teach, controller.session, controller.model
    assert session is not None
    assert teach.teach.isEnabled()
    assert "The code inside the model's file decides" in teach.plan.text()
    assert teach.method.isHidden()
    assert teach.drawer.isHidden()
    said = []
    controller.told.connect(lambda event: said.append(teach.progress._label.text()))
    with qtbot.waitSignal(controller.taught, timeout=SECONDS):
        teach.teach.click()
        qtbot.waitUntil(lambda: not teach.progress.isHidden())
        assert teach.pause.isHidden()
        assert teach.stop.isHidden()
    assert any(words.startswith("learning with the file's own code, ") for words in said)
    settled(dock, qtbot, Step.RESULT)
    lesson = controller.lesson
    assert lesson is not None
    assert lesson.report is not None
    assert lesson.report.verdict == "better"
    digest, folder = sha256(lesson.job.candidate), lesson.folder
    assert not is_trusted(digest), "nothing is allowed before it is kept"
    controller.preview(True)
    with qtbot.waitSignal(controller.kept):
        dock.result.keep.click()
    settled(dock, qtbot, Step.SHARE)
    assert not folder.exists()
    assert controller.model == name
    assert is_trusted(digest)
    current = controller.shelf.find(name)
    assert current is not None
    assert sha256(current) == digest
    assert same_but_weights(read_dafne(path), read_dafne(current))
    np.testing.assert_array_equal(session.labels.data, ball[1] == 1)
    # The new version predicts; the old one is a click away.
    with qtbot.waitSignal(controller.predicted, timeout=SECONDS):
        controller.predict()
    idle(qtbot, controller)
    np.testing.assert_array_equal(session.labels.data, ball[1] == 1)
    dock.history.handle.click()
    newest, oldest = (row.words.text() for row in dock.history.rows)
    assert newest.startswith("Version 2, in use")
    assert "By its own code, from version\N{NO-BREAK SPACE}1" in newest
    assert "Exam: Dice" in newest
    assert oldest.startswith("Version 1 ·")
    assert "1 case taught" in dock.history.cases.text()
    dock.history.rows[1].use.click()
    assert sha256(controller.shelf.find(name) or path) == sha256(path)
    kept = [one for one in user_data_path("napari-dante").rglob("*") if one.is_file()]
    assert not any("Anna" in str(one) for one in kept)


def test_a_lesson_of_foreign_code_is_cancelled_dropped_and_never_trusted(
    make_dock: MakeDock, qtbot: QtBot, tmp_path: Path, ball_file: Path, ball: Ball
) -> None:
    canary = tmp_path / "canary"
    code = learning(
        "import os, torch",
        f"if not os.path.exists({str(canary)!r}):",
        f"    open({str(canary)!r}, 'w').close()",
        "    while True: pass",
        "with torch.no_grad():",
        "    model_object.model.level += 100",
    )
    path = level_file(tmp_path / "level.model", learn=code)
    dock, controller = corrected(make_dock, qtbot, path, ball_file, ball)
    session, name = controller.session, controller.model
    assert session is not None
    before = session.labels.data.copy()
    value = controller.add_structure("lesion")
    assert value == 2
    dock.refresh()
    assert NO_NEW in dock.teach.plan.text()
    session.labels.data_setitem((np.array([9]), np.array([2]), np.array([2])), 2)
    controller.teach()
    assert dock.message.sentence == f"{NO_NEW}, and does not know 'lesion'."
    session.labels.undo()

    controller.teach()
    assert controller.engine.task is Task.TEACH
    lesson = controller.lesson
    assert lesson is not None
    qtbot.waitUntil(canary.exists, timeout=SECONDS)
    controller.pause()
    controller.cancel()
    idle(qtbot, controller)
    assert controller.lesson is None
    assert not lesson.folder.exists()
    with qtbot.waitSignal(controller.taught, timeout=SECONDS):
        controller.teach()
    lesson = controller.lesson
    assert lesson is not None
    digest = sha256(lesson.job.candidate)
    # A file that was changed after the exam is not kept, whatever stands beside it.
    whole = lesson.job.candidate.read_bytes()
    lesson.job.candidate.write_bytes(whole + b"\0")
    told = json.loads(lesson.job.own.read_text())
    lesson.job.own.write_text(json.dumps(told | {"sha256": sha256(lesson.job.candidate)}))
    controller.keep()
    assert "changed" in dock.message.sentence
    assert not is_trusted(sha256(lesson.job.candidate))
    controller.discard()
    assert not is_trusted(digest)
    assert len(controller.shelf.history(name or "")) == 1
    np.testing.assert_array_equal(session.labels.data, before)
