"""The whole way in a real window with the real background process."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest

from napari_dante.adapt.recipe import LoRA
from napari_dante.adapt.training import Training
from napari_dante.jobs.events import Progress
from napari_dante.model.library import Library
from napari_dante.ui.controller import Controller
from napari_dante.ui.dock import DanteDock
from napari_dante.ui.session import PREVIEW
from napari_dante.ui.states import SliceState, Step, Task
from napari_dante.volume import Geometry, Label, write_nifti
from tests.ui.conftest import SECONDS, Ball, correct
from tests.volume.dicom_series import write_series

pytestmark = [pytest.mark.gui, pytest.mark.filterwarnings("ignore:System theme detection")]

SLICES = (5, 7, 9, 11, 13, 15, 17)
MakeDock = Callable[..., DanteDock]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lessons of a few steps."""
    recipe = LoRA(rank=4, training=Training(steps=6, check_every=2))
    monkeypatch.setattr(Controller, "recipe", lambda _: recipe)


def opened(dock: DanteDock, qtbot: QtBot, path: Path) -> Controller:
    with qtbot.waitSignal(dock.controller.opened, timeout=SECONDS):
        dock.controller.open_volume(path)
    return dock.controller


def predicted(dock: DanteDock, qtbot: QtBot, path: Path) -> Controller:
    controller = opened(dock, qtbot, path)
    with qtbot.waitSignal(controller.predicted, timeout=SECONDS):
        controller.predict()
    return controller


def taught(dock: DanteDock, qtbot: QtBot, path: Path, truth: np.ndarray) -> Controller:
    controller = predicted(dock, qtbot, path)
    assert controller.session is not None
    correct(controller.session.labels, truth, SLICES)
    with qtbot.waitSignal(controller.taught, timeout=SECONDS):
        controller.teach()
    return controller


def settled(dock: DanteDock, qtbot: QtBot, step: Step) -> None:
    """Wait until the panel shows `step`."""
    qtbot.waitUntil(lambda: dock.cards[step].is_open, timeout=5000)


@pytest.mark.usefixtures("quick")
def test_from_an_image_to_a_better_model(
    make_dock: MakeDock, qtbot: QtBot, ball_file: Path, ball: Ball, library: Library
) -> None:
    dock = make_dock()
    assert dock.cards[Step.OPEN].is_open
    controller = taught(dock, qtbot, ball_file, ball[1])
    settled(dock, qtbot, Step.RESULT)
    lesson, session = controller.lesson, controller.session
    assert lesson is not None
    assert session is not None
    assert lesson.report is not None
    assert "→" in dock.result.exam.verdict.text()
    folder, after = lesson.folder, lesson.job.mask("after")

    before = session.labels.data.copy()
    controller.preview(True)
    assert PREVIEW in controller.viewer.layers
    with qtbot.waitSignal(controller.kept):
        controller.keep()
    settled(dock, qtbot, Step.SHARE)
    assert PREVIEW not in controller.viewer.layers
    assert len(library.versions("tiny")) == 2
    assert not folder.exists(), "the copy of the patient's image must go"
    trusted = list(SLICES)
    others = [index for index in range(24) if index not in SLICES]
    np.testing.assert_array_equal(session.labels.data[trusted], ball[1][trusted])
    np.testing.assert_array_equal(session.labels.data[others], after[others])
    session.labels.undo()
    np.testing.assert_array_equal(session.labels.data, before)
    assert dock.predict.about.text().startswith("Version 2")
    assert dock.message.sentence == ""


@pytest.mark.usefixtures("quick")
def test_discarding_changes_nothing(
    make_dock: MakeDock, qtbot: QtBot, ball_file: Path, ball: Ball, library: Library
) -> None:
    dock = make_dock()
    controller = taught(dock, qtbot, ball_file, ball[1])
    session, lesson = controller.session, controller.lesson
    assert session is not None
    assert lesson is not None
    before = session.labels.data.copy()
    controller.preview(True)
    with qtbot.waitSignal(controller.discarded):
        controller.discard()
    settled(dock, qtbot, Step.CORRECT)
    assert PREVIEW not in controller.viewer.layers
    np.testing.assert_array_equal(session.labels.data, before)
    assert len(library.versions("tiny")) == 1
    assert not lesson.folder.exists()


def test_predicting_again_spares_corrections_in_one_step(
    make_dock: MakeDock, qtbot: QtBot, ball_file: Path, ball: Ball
) -> None:
    dock = make_dock()
    controller = predicted(dock, qtbot, ball_file)
    session = controller.session
    assert session is not None
    proposal = session.labels.data.copy()
    session.labels.data_setitem((np.array([3]), np.array([4]), np.array([4])), 2)
    session.tracker.go_to(20)
    session.tracker.toggle_approval()
    session.labels.data[2] = 1
    before = session.labels.data.copy()
    with qtbot.waitSignal(controller.predicted, timeout=SECONDS):
        controller.predict()
    assert session.labels.data[3, 4, 4] == 2
    np.testing.assert_array_equal(session.labels.data[2], proposal[2])
    assert "2 corrected or approved" in dock.message.sentence
    session.labels.undo()
    np.testing.assert_array_equal(session.labels.data, before)


def test_pause_go_on_and_stop_keep_the_best(
    make_dock: MakeDock, qtbot: QtBot, ball_file: Path, ball: Ball
) -> None:
    dock = make_dock()
    controller = predicted(dock, qtbot, ball_file)
    correct(controller.session.labels, ball[1], SLICES)
    steps: list[int] = []
    controller.told.connect(
        lambda event: steps.append(event.step) if isinstance(event, Progress) else None
    )
    controller.teach()
    settled(dock, qtbot, Step.TEACH)
    qtbot.waitUntil(lambda: bool(steps), timeout=SECONDS)
    controller.pause()
    qtbot.waitUntil(lambda: controller.engine.paused, timeout=SECONDS)
    dock.refresh()
    assert dock.teach.pause.text() == "Go on"
    with qtbot.waitSignal(controller.taught, timeout=SECONDS):
        controller.pause()
        qtbot.waitUntil(lambda: not controller.engine.paused, timeout=SECONDS)
        controller.stop()
    assert steps[-1] < 120


def test_cancelling_a_lesson_leaves_no_trace(
    make_dock: MakeDock, qtbot: QtBot, ball_file: Path, ball: Ball
) -> None:
    dock = make_dock()
    controller = predicted(dock, qtbot, ball_file)
    correct(controller.session.labels, ball[1], SLICES)
    controller.teach()
    folder = controller.lesson.folder
    with qtbot.waitSignal(controller.notice, timeout=SECONDS) as told:
        qtbot.waitUntil((folder / "events.jsonl").is_file, timeout=SECONDS)
        controller.cancel()
    assert told.args == ["Cancelled; nothing changed."]
    assert controller.lesson is None
    assert not folder.exists()
    settled(dock, qtbot, Step.CORRECT)


def test_a_dead_process_is_said_and_the_lesson_goes_on(
    make_dock: MakeDock, qtbot: QtBot, ball_file: Path, ball: Ball
) -> None:
    dock = make_dock()
    controller = predicted(dock, qtbot, ball_file)
    correct(controller.session.labels, ball[1], SLICES)
    corrected = controller.session.labels.data.copy()
    controller.teach()
    folder = controller.lesson.folder
    qtbot.waitUntil((folder / "last.pt").is_file, timeout=SECONDS)
    with qtbot.waitSignal(controller.failed, timeout=SECONDS) as told:
        os.kill(controller.engine.worker.pid, signal.SIGKILL)
    assert "nothing you corrected is lost" in told.args[0]
    np.testing.assert_array_equal(controller.session.labels.data, corrected)
    dock.refresh()
    assert dock.teach.teach.text() == "Go on with the lesson"
    assert dock.teach.teach.isEnabled()
    with qtbot.waitSignal(controller.taught, timeout=SECONDS):
        controller.teach()
        qtbot.waitSignal(controller.told, timeout=SECONDS).wait()
        controller.stop()
    assert controller.lesson.folder == folder


def test_an_interrupted_lesson_can_be_given_up(
    make_dock: MakeDock, qtbot: QtBot, ball_file: Path, ball: Ball
) -> None:
    dock = make_dock()
    controller = predicted(dock, qtbot, ball_file)
    correct(controller.session.labels, ball[1], SLICES)
    controller.teach()
    folder = controller.lesson.folder
    qtbot.waitUntil((folder / "events.jsonl").is_file, timeout=SECONDS)
    with qtbot.waitSignal(controller.failed, timeout=SECONDS):
        os.kill(controller.engine.worker.pid, signal.SIGKILL)
    with qtbot.waitSignal(controller.discarded):
        dock.teach.drop.click()
    assert not folder.exists()
    settled(dock, qtbot, Step.CORRECT)


def test_what_cannot_be_done_is_said_in_one_sentence(
    make_dock: MakeDock, qtbot: QtBot, ball_file: Path, tmp_path: Path
) -> None:
    dock = make_dock()
    controller = dock.controller
    controller.predict()
    assert dock.message.sentence == "Open an image first."
    controller.teach()
    assert "Predict first" in dock.message.sentence
    controller.check("")
    assert "address" in dock.message.sentence
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(ball_file.read_bytes()[:500])
    with qtbot.waitSignal(controller.failed, timeout=SECONDS):
        controller.open_volume(broken)
    assert "damaged" in dock.message.sentence
    assert str(tmp_path) not in dock.message.sentence
    predicted(dock, qtbot, ball_file)
    with qtbot.waitSignal(controller.failed, timeout=SECONDS):
        controller.teach()
    assert "nothing to learn from" in dock.message.sentence
    assert controller.lesson is None
    controller.predict()
    controller.teach()
    assert "still going on" in dock.message.sentence


def test_a_series_with_a_hole_and_a_broken_model_are_one_sentence_each(
    make_dock: MakeDock, qtbot: QtBot, ball_file: Path, library: Library, tmp_path: Path
) -> None:
    dock = make_dock()
    controller = dock.controller
    array = np.arange(4 * 5 * 12, dtype=np.int16).reshape(4, 5, 12)
    paths = write_series(tmp_path / "CANARY", array, np.diag([1.0, 1, 3, 1]))
    paths[5].unlink()
    with qtbot.waitSignal(controller.failed, timeout=SECONDS):
        controller.open_volume(tmp_path / "CANARY")
    assert "missing" in dock.message.sentence
    assert "CANARY" not in dock.message.sentence
    assert not controller.viewer.layers
    opened(dock, qtbot, ball_file)
    file = library.resolve("tiny")
    file.write_bytes(file.read_bytes()[:-100])
    with qtbot.waitSignal(controller.failed, timeout=SECONDS):
        controller.predict()
    assert "not a napari-dante model" in dock.message.sentence
    assert len(controller.viewer.layers) == 1


def test_two_series_in_a_folder_are_a_choice(
    make_dock: MakeDock, qtbot: QtBot, tmp_path: Path
) -> None:
    dock = make_dock()
    controller = dock.controller
    array = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    for index in range(2):
        write_series(tmp_path / "study" / str(index), array + index, np.diag([1.0, 1, 3, 1]))
    with qtbot.waitSignal(controller.notice, timeout=SECONDS):
        controller.open_volume(tmp_path / "study")
    assert "2 volumes" in dock.message.sentence
    assert controller.series is not None
    chosen = controller.series.volumes[1].id
    with qtbot.waitSignal(controller.opened, timeout=SECONDS):
        controller.open_volume(tmp_path / "study", chosen)
    assert controller.session is not None
    assert controller.session.image.data.shape == (6, 5, 4)


def test_real_strokes_and_the_real_key(make_dock: MakeDock, qtbot: QtBot, ball_file: Path) -> None:
    dock = make_dock(show=True)
    controller = predicted(dock, qtbot, ball_file)
    session, viewer = controller.session, controller.viewer
    window = viewer.window._qt_window
    qtbot.waitExposed(window)
    session.labels.mode = "paint"
    session.labels.selected_label = 7
    session.tracker.go_to(10)
    canvas = viewer.window._qt_viewer.canvas.native
    qtbot.waitUntil(lambda: canvas.width() > 50, timeout=5000)
    centre = QPoint(canvas.width() // 2, canvas.height() // 2)
    left, none = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    QTest.mousePress(canvas, left, none, centre)
    QTest.qWait(50)
    QTest.mouseMove(canvas, centre + QPoint(20, 0))
    QTest.qWait(50)
    QTest.mouseRelease(canvas, left, none, centre + QPoint(20, 0))
    QTest.qWait(50)
    states = session.states
    assert states[10] is SliceState.EDITED
    assert states.count(SliceState.UNTOUCHED) == 23
    qtbot.waitUntil(lambda: "0 approved, 1 edited" in dock.correct.count.text(), timeout=5000)
    QTest.keyClick(canvas, Qt.Key.Key_A)
    assert session.states[10] is SliceState.APPROVED
    qtbot.waitUntil(lambda: "1 approved, 0 edited" in dock.correct.count.text(), timeout=5000)
    QTest.keyClick(canvas, Qt.Key.Key_A)
    QTest.keyClick(canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert session.states.count(SliceState.UNTOUCHED) == 24


def test_the_strip_goes_to_slices(make_dock: MakeDock, qtbot: QtBot, ball_file: Path) -> None:
    dock = make_dock(show=True)
    controller = predicted(dock, qtbot, ball_file)
    settled(dock, qtbot, Step.CORRECT)
    strip = dock.correct.strip
    qtbot.waitUntil(lambda: len(strip.states) == 24 and strip.width() > 100, timeout=5000)
    place = strip.cell(17).center().toPoint()
    qtbot.mouseClick(strip, Qt.MouseButton.LeftButton, pos=place)
    assert controller.session.tracker.current == 17
    qtbot.waitUntil(lambda: "17" in dock.correct.approve.text(), timeout=5000)
    qtbot.keyClick(strip, Qt.Key.Key_Left)
    assert controller.session.tracker.current == 16
    qtbot.mouseClick(dock.correct.approve, Qt.MouseButton.LeftButton)
    assert controller.session.states[16] is SliceState.APPROVED


def test_removed_layers_are_let_go(make_dock: MakeDock, qtbot: QtBot, ball_file: Path) -> None:
    dock = make_dock()
    controller = predicted(dock, qtbot, ball_file)
    layers = controller.viewer.layers
    layers.remove(controller.session.labels)
    assert controller.step is Step.PREDICT
    layers.remove(controller.session.image)
    assert controller.step is Step.OPEN
    dock.refresh()


def test_an_image_that_was_there_before_is_taken(
    make_dock: MakeDock, qtbot: QtBot, ball_file: Path
) -> None:
    first = make_dock()
    controller = opened(first, qtbot, ball_file)
    second = DanteDock(controller.viewer, controller.library)
    qtbot.addWidget(second)
    assert second.controller.session is not None
    assert second.controller.step is Step.PREDICT


@pytest.mark.usefixtures("own_process")
def test_the_process_ends_with_the_window(make_dock: MakeDock, qtbot: QtBot) -> None:
    dock = make_dock()
    engine = dock.controller.engine
    qtbot.waitUntil(lambda: engine.ready is not None, timeout=SECONDS)
    qtbot.waitUntil(lambda: "ready" in dock.status.text(), timeout=5000)
    pid = engine.worker.pid
    dock.controller.viewer.close()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        QTest.qWait(50)
    assert not Path(f"/proc/{pid}").exists()


def test_closing_in_the_middle_of_a_lesson(
    make_dock: MakeDock, qtbot: QtBot, ball_file: Path, ball: Ball
) -> None:
    dock = make_dock()
    controller = predicted(dock, qtbot, ball_file)
    correct(controller.session.labels, ball[1], SLICES)
    controller.teach()
    qtbot.waitUntil((controller.lesson.folder / "events.jsonl").is_file, timeout=SECONDS)
    assert controller.engine.task is Task.TEACH
    pid = controller.engine.worker.pid
    controller.viewer.window.remove_dock_widget(dock)
    dock.deleteLater()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        QTest.qWait(50)
    assert not Path(f"/proc/{pid}").exists()


def test_the_brush_paints_what_the_name_says(
    make_dock: MakeDock, qtbot: QtBot, ball_file: Path
) -> None:
    dock = make_dock()
    controller = predicted(dock, qtbot, ball_file)
    dock.refresh()
    box, layer = dock.correct.label, controller.session.labels
    assert [box.itemText(index) for index in range(box.count())] == [
        "core",
        "shell",
        "background (erases)",
        "New structure…",
    ]
    box.activated.emit(1)
    assert (layer.selected_label, str(layer.mode)) == (2, "paint")
    layer.selected_label = 1
    qtbot.waitUntil(lambda: box.currentText() == "core", timeout=5000)


def test_a_mask_from_yesterday_can_be_corrected(
    make_dock: MakeDock, qtbot: QtBot, ball_file: Path, ball: Ball, geometry: Geometry
) -> None:
    dock = make_dock()
    controller = opened(dock, qtbot, ball_file)
    dock.refresh()
    assert dock.predict.adopt.isHidden()
    mask = ball_file.with_name("mask.nii.gz")
    labels = {1: Label("core", (1.0, 0.0, 0.0)), 2: Label("shell", (0.0, 0.0, 1.0))}
    write_nifti(mask, ball[1], geometry, labels)
    opened(dock, qtbot, mask)
    qtbot.waitUntil(lambda: not dock.predict.adopt.isHidden(), timeout=5000)
    dock.predict.adopt.click()
    assert controller.step is Step.CORRECT
    assert controller.session.names == {1: "core", 2: "shell"}
    controller.session.labels.data_setitem((np.array([3]), np.array([4]), np.array([4])), 2)
    assert controller.session.states[3] is SliceState.EDITED


def test_an_image_of_unknown_place_is_said(make_dock: MakeDock, ball: Ball) -> None:
    dock = make_dock()
    dock.controller.viewer.add_image(ball[0])
    assert "another reader" in dock.message.sentence
    assert dock.controller.session is None


@pytest.mark.usefixtures("quick")
def test_a_lesson_on_a_cluster(
    make_dock: MakeDock, qtbot: QtBot, ball_file: Path, ball: Ball
) -> None:
    """The executor of the settings is a real Dask scheduler on this computer."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=True,
        dashboard_address="127.0.0.1:0",
        memory_limit=0,
    ) as cluster:
        dock = make_dock()
        controller = dock.controller
        controller.settings = replace(controller.settings, executor=cluster.scheduler_address)
        told: list[object] = []
        controller.told.connect(told.append)
        taught(dock, qtbot, ball_file, ball[1])
        assert controller.lesson is not None
        assert controller.lesson.report is not None
        assert any(isinstance(event, Progress) for event in told)
