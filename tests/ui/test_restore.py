"""Corrections survive a crash of the viewer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pytestqt.qtbot import QtBot

from napari_dante.corrections.journal import read_journal
from napari_dante.corrections.place import journal_folder
from napari_dante.errors import DanteError
from napari_dante.model.library import Library
from napari_dante.ui.dock import DanteDock
from napari_dante.ui.states import SliceState
from tests.ui.conftest import SECONDS, Ball, correct

pytestmark = [pytest.mark.gui, pytest.mark.filterwarnings("ignore:System theme detection")]

MakeDock = Callable[..., DanteDock]

VIEWER = """
import sys
from pathlib import Path
import numpy as np
from napari_dante.model.library import Library
from napari_dante.ui.app import window_with_panel
from napari_dante.ui.pump import pump, wait_for

viewer, dock = window_with_panel(Library(Path(sys.argv[1])))
controller = dock.controller
wait_for(controller.opened, controller.failed, lambda: controller.open_volume(Path(sys.argv[2])))
controller.choose_model("tiny")
wait_for(controller.predicted, controller.failed, controller.predict)
layer = controller.session.labels
np.save(sys.argv[3], layer.data)
tracker = controller.session.tracker
for index in (5, 9):
    layer.data_setitem((np.array([index] * 4), np.arange(4), np.arange(4)), 2)
tracker.go_to(7)
tracker.toggle_approval()
pump(1000)
print("saved", flush=True)
pump(60_000)
"""


def test_killed_in_the_middle_everything_comes_back(
    make_dock: MakeDock, qtbot: QtBot, ball_file: Path, library: Library, tmp_path: Path
) -> None:
    proposal = tmp_path / "proposal.npy"
    arguments = [str(library.resolve("tiny").parents[1]), str(ball_file), str(proposal)]
    command = [sys.executable, "-W", "ignore", "-c", VIEWER, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as viewer:
        assert viewer.stdout is not None
        assert any(line.strip() == "saved" for line in viewer.stdout)
        os.kill(viewer.pid, signal.SIGKILL)
    dock = make_dock()
    controller = dock.controller
    with qtbot.waitSignal(controller.notice, timeout=SECONDS):
        controller.open_volume(ball_file)
    assert dock.message.sentence == "3 slices of this image corrected before: press Restore."
    with qtbot.waitSignal(controller.predicted, timeout=SECONDS):
        dock.predict.restore.click()
    session = controller.session
    assert session is not None
    expected = np.load(proposal)
    for index in (5, 9):
        expected[index, np.arange(4), np.arange(4)] = 2
    np.testing.assert_array_equal(session.labels.data, expected)
    states = session.states
    assert [states[index] for index in (5, 7, 9)] == [
        SliceState.EDITED, SliceState.APPROVED, SliceState.EDITED,
    ]  # fmt: skip
    assert states.count(SliceState.UNTOUCHED) == 21
    session.labels.undo()
    np.testing.assert_array_equal(session.labels.data, np.load(proposal))
    session.labels.redo()
    qtbot.waitUntil(lambda: len(list(journal_folder().glob("*.journal"))) == 1)
    (path,) = journal_folder().glob("*.journal")
    np.testing.assert_array_equal(read_journal(path).data, expected)


def corrected(dock: DanteDock, qtbot: QtBot, path: Path, ball: Ball) -> None:
    with qtbot.waitSignal(dock.controller.opened, timeout=SECONDS):
        dock.controller.open_volume(path)
    with qtbot.waitSignal(dock.controller.predicted, timeout=SECONDS):
        dock.controller.predict()
    assert dock.controller.session is not None
    correct(dock.controller.session.labels, ball[1], (6, 8))


def test_every_change_reaches_the_disk(
    make_dock: MakeDock, qtbot: QtBot, ball_file: Path, ball: Ball
) -> None:
    dock = make_dock()
    corrected(dock, qtbot, ball_file, ball)
    session = dock.controller.session
    assert session is not None

    def standing() -> bool:
        try:
            (path,) = journal_folder().glob("*.journal")
            saved = read_journal(path)
        except (ValueError, DanteError):
            return False
        trusted = {i for i, state in enumerate(session.states) if state != SliceState.UNTOUCHED}
        return set(saved.slices) == trusted and np.array_equal(saved.data, session.labels.data)

    qtbot.waitUntil(standing, timeout=5000)
    session.labels.undo()
    qtbot.waitUntil(standing, timeout=5000)
    with qtbot.waitSignal(dock.controller.predicted, timeout=SECONDS):
        dock.controller.predict()
    qtbot.waitUntil(standing, timeout=5000)
    correct(session.labels, ball[1], (11,))
    qtbot.waitUntil(standing, timeout=5000)


def test_a_full_disk_is_said_and_nothing_else_breaks(
    make_dock: MakeDock, qtbot: QtBot, ball_file: Path, ball: Ball
) -> None:
    dock = make_dock()
    journal_folder().parent.mkdir(parents=True, exist_ok=True)
    journal_folder().write_text("not a folder")
    with qtbot.waitSignal(dock.controller.failed, timeout=SECONDS) as said:
        corrected(dock, qtbot, ball_file, ball)
    assert "not being saved" in said.args[0]
    assert dock.controller.session is not None
    assert dock.controller.session.states[6] == SliceState.EDITED


def test_a_journal_without_corrections_goes_with_its_mask(
    make_dock: MakeDock, qtbot: QtBot, ball_file: Path
) -> None:
    dock = make_dock()
    with qtbot.waitSignal(dock.controller.opened, timeout=SECONDS):
        dock.controller.open_volume(ball_file)
    with qtbot.waitSignal(dock.controller.predicted, timeout=SECONDS):
        dock.controller.predict()
    assert dock.controller.session is not None
    dock.controller.viewer.layers.remove(dock.controller.session.labels)
    time.sleep(0.1)
    assert not list(journal_folder().glob("*.journal"))
