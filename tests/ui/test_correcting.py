"""The correct card: what to correct next, with which structure, between which slices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_dante.ui.dock import DanteDock
from napari_dante.ui.session import Session
from napari_dante.ui.states import SliceState
from tests.ui.conftest import SECONDS, Ball, correct

pytestmark = [pytest.mark.gui, pytest.mark.filterwarnings("ignore:System theme detection")]

MakeDock = Callable[..., DanteDock]


@pytest.fixture
def dock(make_dock: MakeDock, qtbot: QtBot, ball_file: Path) -> DanteDock:
    """A shown window with a proposal for the ball."""
    dock = make_dock(show=True)
    controller = dock.controller
    qtbot.waitExposed(controller.viewer.window._qt_window)
    with qtbot.waitSignal(controller.opened, timeout=SECONDS):
        controller.open_volume(ball_file)
    with qtbot.waitSignal(controller.predicted, timeout=SECONDS):
        controller.predict()
    return dock


@pytest.fixture
def session(dock: DanteDock) -> Session:
    assert dock.controller.session is not None
    return dock.controller.session


def press(dock: DanteDock, key: Qt.Key, shift: bool = False) -> None:
    canvas = dock.controller.viewer.window._qt_viewer.canvas.native
    modifier = Qt.KeyboardModifier.ShiftModifier if shift else Qt.KeyboardModifier.NoModifier
    QTest.keyClick(canvas, key, modifier)


def test_n_goes_through_the_slices_where_the_model_is_unsure(
    dock: DanteDock, session: Session
) -> None:
    doubt = session.doubt
    assert doubt is not None
    assert doubt.shape == (24,)
    order = session.suggestions
    assert order[0] == int(doubt.argmax())
    session.tracker.go_to(next(index for index in range(24) if index not in order[:3]))
    shown = []
    for _ in range(3):
        press(dock, Qt.Key.Key_N)
        shown.append(session.tracker.current)
    assert shown[1:] == order[order.index(shown[0]) + 1 :][:2]
    press(dock, Qt.Key.Key_N, shift=True)
    assert session.tracker.current == shown[1]
    session.tracker.toggle_approval()
    assert session.tracker.current not in session.suggestions
    press(dock, Qt.Key.Key_N)
    assert session.tracker.current == session.suggestions[0]


def test_the_button_goes_on_as_well(dock: DanteDock, session: Session, qtbot: QtBot) -> None:
    session.tracker.go_to(session.suggestions[0])
    qtbot.waitUntil(dock.correct.next.isVisible, timeout=5000)
    qtbot.mouseClick(dock.correct.next, Qt.MouseButton.LeftButton)
    assert session.tracker.current == session.suggestions[1]


def test_where_nothing_is_left_it_says_so(dock: DanteDock, session: Session) -> None:
    for index in range(24):
        session.tracker.go_to(index)
        session.tracker.toggle_approval()
    press(dock, Qt.Key.Key_N)
    assert dock.message.sentence == "There is no further slice to suggest."


def test_q_and_w_go_round_the_structures(dock: DanteDock, session: Session) -> None:
    session.add_structure("lesion")
    values = sorted(session.table)
    assert len(values) == 3, "of two, the previous one is the next"
    session.labels.selected_label = values[0]
    seen = []
    for _ in range(len(values) + 1):
        press(dock, Qt.Key.Key_W)
        seen.append(session.labels.selected_label)
    assert seen == [*values[1:], values[0], *values[1:]][: len(seen)]
    before = session.labels.selected_label
    press(dock, Qt.Key.Key_W)
    press(dock, Qt.Key.Key_Q)
    assert session.labels.selected_label == before


def test_i_fills_between_and_asks_for_a_look(
    dock: DanteDock, session: Session, ball: Ball, qtbot: QtBot
) -> None:
    correct(session.labels, ball[1], (10, 14))
    session.labels.selected_label = 1
    press(dock, Qt.Key.Key_I)
    assert "look through them and approve" in dock.message.sentence
    states = session.states
    assert states[10] is states[14] is SliceState.EDITED
    assert SliceState.CHANGED in states[11:14]
    assert set(states[11:14]) <= {SliceState.CHANGED, SliceState.UNTOUCHED}
    qtbot.waitUntil(lambda: "changed, to be approved" in dock.correct.count.text(), timeout=5000)
    session.labels.selected_label = 0
    press(dock, Qt.Key.Key_I)
    assert dock.message.sentence == "Choose the structure to fill first."


def test_a_locked_structure_is_said_and_kept(
    dock: DanteDock, session: Session, qtbot: QtBot
) -> None:
    value = sorted(session.table)[0]
    session.labels.selected_label = value
    qtbot.waitUntil(dock.correct.lock.isEnabled, timeout=5000)
    qtbot.mouseClick(dock.correct.lock, Qt.MouseButton.LeftButton)
    assert "(locked)" in dock.correct.label.currentText()
    before = session.labels.data.copy()
    session.labels.brush_size = 60
    session.labels.paint((12, 10, 10), 0)
    np.testing.assert_array_equal(session.labels.data == value, before == value)
    qtbot.mouseClick(dock.correct.lock, Qt.MouseButton.LeftButton)
    assert "(locked)" not in dock.correct.label.currentText()
    session.labels.paint((12, 10, 10), 0)
    assert not (session.labels.data[12] == value).any()


def test_the_layer_is_given_back_as_it_was(dock: DanteDock, session: Session) -> None:
    layer = session.labels
    assert layer.keymap
    session.release()
    assert not layer.keymap
    before = dock.controller.viewer.dims.current_step
    dock.controller.viewer.layers.selection.active = layer
    for key in (Qt.Key.Key_N, Qt.Key.Key_A, Qt.Key.Key_I, Qt.Key.Key_W):
        press(dock, key)
    assert dock.controller.viewer.dims.current_step == before
    assert not {"undo", "redo", "_apply_mask_to_data"} & set(vars(layer))


def test_the_count_says_what_teach_will_use(
    dock: DanteDock, session: Session, ball: Ball, qtbot: QtBot
) -> None:
    correct(session.labels, ball[1], (6, 8, 10, 12, 14))
    split = dock.controller.split
    assert split is not None
    words = f"{len(split.learn)} to learn from, {len(split.exam)} for the exam"
    qtbot.waitUntil(lambda: words in dock.correct.count.text(), timeout=5000)
    said = dock.correct.strip.accessibleDescription()
    assert said.endswith(f"{len(split.exam)} kept for the exam")
