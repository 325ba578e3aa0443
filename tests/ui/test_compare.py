"""Looking at a result before the decision: errors, the old mask while a key is held, exports."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from napari.layers import Labels
from PIL import Image
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt
from qtpy.QtGui import QTextDocument
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QFileDialog

from napari_dante.evaluate.mistakes import Mistake
from napari_dante.evaluate.page import WITH_PICTURES, WITHOUT_PICTURES
from napari_dante.jobs.cases import CaseBook
from napari_dante.jobs.comparison import compare
from napari_dante.ui.compare import ERRORS, OLD_MASK
from napari_dante.ui.controller import Controller
from napari_dante.ui.dock import WIDTH, DanteDock
from napari_dante.ui.session import PREVIEW
from napari_dante.ui.states import Step
from tests.ui.conftest import SECONDS, Ball, correct
from tests.ui.results import canvas, finished, idle, names, ready
from tests.ui.test_flow import SLICES, MakeDock, predicted, quick, settled, taught

__all__ = ["finished", "idle", "quick", "ready"]

pytestmark = [
    pytest.mark.gui,
    pytest.mark.filterwarnings("ignore:System theme detection"),
]
OLD, NEW = ERRORS["before"], ERRORS["after"]


def press(controller: Controller, key: Qt.Key) -> None:
    QTest.keyPress(canvas(controller), key)


def release(controller: Controller, key: Qt.Key) -> None:
    QTest.keyRelease(canvas(controller), key)


def test_the_errors_key_shows_what_is_wrong_where_it_is_known(
    ready: DanteDock, qtbot: QtBot, ball: Ball
) -> None:
    controller = ready.controller
    lesson = controller.lesson
    assert lesson is not None
    mask = lesson.session.labels
    QTest.keyClick(canvas(controller), Qt.Key.Key_O)
    layer = controller.viewer.layers[NEW]
    after = lesson.job.mask("after")
    trusted = list(SLICES)
    others = [index for index in range(24) if index not in SLICES]
    assert not layer.data[others].any()
    np.testing.assert_array_equal(layer.data[trusted] > 0, (after != ball[1])[trusted])
    missed = (layer.data[trusted] - 1) % len(Mistake) + 1 == Mistake.MISSED
    missed &= layer.data[trusted] > 0
    np.testing.assert_array_equal(missed, ((after == 0) & (ball[1] > 0))[trusted])
    grades = compare(lesson.job).grades("after")[trusted]
    opacity = layer.colormap.map(layer.data[trusted])[..., 3]
    shown = np.unique(grades[layer.data[trusted] > 0])
    assert len(shown) > 1, "a lesson with near and far errors"
    seen = [np.unique(opacity[(grades == g) & (layer.data[trusted] > 0)]).item() for g in shown]
    assert seen == sorted(set(seen)), "the farther off, the stronger"
    assert not layer.editable
    assert controller.viewer.layers.selection.active is mask
    qtbot.waitUntil(lambda: not ready.result.legend.isHidden(), timeout=5000)
    lesson.session.tracker.go_to(SLICES[0])
    qtbot.waitUntil(lambda: "that you corrected" in ready.result.legend.text(), timeout=5000)
    lesson.session.tracker.go_to(2)
    qtbot.waitUntil(lambda: "Nothing is known" in ready.result.legend.text(), timeout=5000)
    QTest.keyClick(canvas(controller), Qt.Key.Key_O)
    assert NEW not in names(controller)
    qtbot.waitUntil(ready.result.legend.isHidden, timeout=5000)


def test_errors_of_either_model_by_the_card(ready: DanteDock, qtbot: QtBot) -> None:
    controller, result = ready.controller, ready.result
    qtbot.mouseClick(result.errors, Qt.MouseButton.LeftButton)
    assert NEW in names(controller)
    result.whose.setCurrentIndex(1)
    result.whose.activated.emit(1)
    assert OLD in names(controller)
    assert NEW not in names(controller)
    assert controller.lesson.overlays.errors == "before"
    qtbot.mouseClick(result.errors, Qt.MouseButton.LeftButton)
    assert OLD not in names(controller)


def test_holding_the_key_shows_the_old_mask_alone(ready: DanteDock) -> None:
    controller = ready.controller
    lesson, layers = controller.lesson, controller.viewer.layers
    controller.preview(True)
    lesson.overlays.show_errors("after")
    shown = {layer.name: layer.visible for layer in layers}
    press(controller, Qt.Key.Key_D)
    np.testing.assert_array_equal(layers[OLD_MASK].data, lesson.job.mask("before"))
    assert not layers[OLD_MASK].editable
    assert not any(layers[name].visible for name in ("Mask", PREVIEW, NEW))
    for _ in range(3):
        press(controller, Qt.Key.Key_D)  # a keyboard that repeats
    assert names(controller).count(OLD_MASK) == 1
    release(controller, Qt.Key.Key_D)
    assert {layer.name: layer.visible for layer in layers} == shown
    assert layers.selection.active is lesson.session.labels


def test_what_is_held_ends_with_the_focus(ready: DanteDock, qtbot: QtBot) -> None:
    controller = ready.controller
    qtbot.waitUntil(canvas(controller).hasFocus, timeout=5000)
    press(controller, Qt.Key.Key_D)
    QTest.qWait(300)
    assert OLD_MASK in names(controller)
    ready.result.whose.setFocus()
    qtbot.waitUntil(lambda: OLD_MASK not in names(controller), timeout=5000)
    assert controller.viewer.layers["Mask"].visible
    release(controller, Qt.Key.Key_D)
    press(controller, Qt.Key.Key_D)
    assert OLD_MASK in names(controller)
    release(controller, Qt.Key.Key_D)
    assert OLD_MASK not in names(controller)


@pytest.mark.parametrize("gone", ["Mask", OLD_MASK, NEW, "image"])
def test_layers_that_are_removed_while_the_key_is_held(ready: DanteDock, gone: str) -> None:
    controller = ready.controller
    layers = controller.viewer.layers
    controller.lesson.overlays.show_errors("after")
    press(controller, Qt.Key.Key_D)
    layers.remove(controller.lesson.session.image if gone == "image" else layers[gone])
    release(controller, Qt.Key.Key_D)
    ready.result.let_go()
    ready.refresh()
    assert OLD_MASK not in names(controller)
    controller.discard()
    assert {NEW, OLD, OLD_MASK, PREVIEW}.isdisjoint(names(controller))


def test_renamed_and_duplicated_layers_change_nothing(ready: DanteDock, qtbot: QtBot) -> None:
    controller = ready.controller
    layers, overlays = controller.viewer.layers, controller.lesson.overlays
    overlays.show_errors("after")
    copy = Labels.create(*layers[NEW].as_layer_data_tuple())
    layers.append(copy)
    layers[NEW].name = "mine"
    layers["Mask"].name = "also mine"
    assert overlays.errors == "after"
    assert controller.session.masks() == [controller.session.labels]
    overlays.show_errors(None)
    assert "mine" not in names(controller)
    assert copy in layers, "what a person made is theirs"
    with qtbot.waitSignal(controller.kept):
        controller.keep()
    assert copy in layers


def test_errors_that_a_person_removed_are_gone(ready: DanteDock) -> None:
    controller = ready.controller
    overlays = controller.lesson.overlays
    overlays.show_errors("after")
    controller.viewer.layers.remove(NEW)
    assert overlays.errors is None
    overlays.toggle_errors()
    assert NEW in names(controller)


@pytest.mark.parametrize("decide", [Controller.keep, Controller.discard])
def test_the_decision_takes_everything_away(
    ready: DanteDock, decide: Callable[[Controller], None]
) -> None:
    controller = ready.controller
    mask = controller.session.labels
    controller.preview(True)
    controller.lesson.overlays.show_errors("before")
    press(controller, Qt.Key.Key_D)
    decide(controller)
    assert len(controller.viewer.layers) == 2
    assert mask.visible
    release(controller, Qt.Key.Key_D)
    QTest.keyClick(canvas(controller), Qt.Key.Key_O)
    QTest.keyClick(canvas(controller), Qt.Key.Key_D)
    assert len(controller.viewer.layers) == 2, "the keys are given back"


def test_the_strip_shows_all_corrected_slices(ready: DanteDock, qtbot: QtBot) -> None:
    controller, strip = ready.controller, ready.result.exam.strip
    exam = controller.lesson.report.exam
    assert strip.accessibleDescription().count("Slice") == len(SLICES)
    assert strip.accessibleDescription().count("(exam)") == len(exam)
    qtbot.waitUntil(lambda: strip.width() > 100, timeout=5000)
    place = strip.cell(0, 2).center().toPoint()
    qtbot.mouseClick(strip, Qt.MouseButton.LeftButton, pos=place)
    assert controller.session.tracker.current == SLICES[2]
    for key, expected in (
        (Qt.Key.Key_Right, SLICES[3]),
        (Qt.Key.Key_End, SLICES[-1]),
        (Qt.Key.Key_Home, SLICES[0]),
        (Qt.Key.Key_Left, SLICES[0]),
    ):
        qtbot.keyClick(strip, key)
        assert controller.session.tracker.current == expected


def test_everything_is_exported(
    ready: DanteDock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporting = ready.result.exporting
    ready.result.export.open()
    chosen: list[str] = []
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (chosen[-1], ""))
    for one, name in (
        (exporting.page, "run.html"),
        (exporting.scores, "run"),
        (exporting.numbers, "run.json"),
        (exporting.picture, "run.png"),
        (exporting.strip, "strip.png"),
        (exporting.curve, "curve.png"),
        (exporting.steps, "curve"),
    ):
        chosen.append(str(tmp_path / name))
        one.click()
    assert WITHOUT_PICTURES in (tmp_path / "run.html").read_text()
    rows = list(csv.DictReader((tmp_path / "run.csv").read_text().splitlines()))
    assert len(rows) == len(ready.controller.lesson.report.scores)
    assert json.loads((tmp_path / "run.json").read_text())["model"] == "tiny"
    exam = ready.result.exam
    for name, part in (("run", exam), ("strip", exam.strip), ("curve", exam.curve)):
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert len(np.unique(np.asarray(picture))) > 10, "an empty picture"
            assert part is exam or picture.size[1] >= 2 * part.sizeHint().height()
    steps = list(csv.DictReader((tmp_path / "curve.csv").read_text().splitlines()))
    curve = ready.controller.report.curve
    for column, points in (("exam_dice", curve.dice), ("learning_error", curve.loss)):
        read = [(int(row["step"]), float(row[column])) for row in steps if row[column]]
        assert len(read) == len(points) > 0
        np.testing.assert_allclose(read, points, rtol=1e-5)
    exporting.pictures.setChecked(True)
    chosen.append(str(tmp_path / "run.html"))
    exporting.page.click()
    assert WITH_PICTURES in (tmp_path / "run.html").read_text()
    assert not exporting.pictures.isChecked(), "each time anew"
    chosen.append(str(tmp_path / "run.html" / "below.csv"))
    exporting.scores.click()
    assert "could not be written" in ready.message.sentence
    chosen.append("")
    exporting.page.click()


def test_a_kept_lesson_can_still_be_exported_without_the_image(
    ready: DanteDock, tmp_path: Path
) -> None:
    exporting = ready.result.exporting
    exporting.pictures.setChecked(True)
    ready.controller.keep()
    ready.refresh()
    assert exporting.pictures.isHidden()
    exporting.save(tmp_path / "run.html")
    assert WITHOUT_PICTURES in (tmp_path / "run.html").read_text()


@pytest.mark.usefixtures("quick")
def test_a_second_lesson_has_the_exam_of_the_first(
    make_dock: MakeDock, qtbot: QtBot, ball_file: Path, ball: Ball
) -> None:
    dock = make_dock()
    controller = taught(dock, qtbot, ball_file, ball[1])
    first = controller.lesson.report.exam
    controller.discard()
    correct(controller.session.labels, ball[1], (3, 6, 12, 19))
    settled(dock, qtbot, Step.CORRECT)
    assert controller.split.exam == first
    with qtbot.waitSignal(controller.taught, timeout=SECONDS):
        controller.teach()
    report = controller.lesson.report
    assert report.exam == first
    assert not set(report.learned) & set(first)
    book = CaseBook()
    assert [one.what for one in book.entries()] == ["examined", "examined"]
    controller.keep()
    (kept,) = book.taught(book.entries()[0].model)
    assert kept.learn == report.learned


def test_two_viewers_do_not_meet(ready: DanteDock, make_dock: MakeDock, ball_file: Path) -> None:
    other = make_dock()
    other.controller.viewer.add_image(np.zeros((24, 20, 22)))
    ready.controller.lesson.overlays.show_errors("after")
    assert NEW in names(ready.controller)
    assert NEW not in names(other.controller)
    other.controller.discard()
    assert NEW in names(ready.controller)
    ready.controller.discard()
    assert NEW not in names(ready.controller)


def test_an_image_that_was_replaced_after_prediction(
    make_dock: MakeDock, qtbot: QtBot, ball_file: Path, ball: Ball
) -> None:
    dock = make_dock()
    controller = predicted(dock, qtbot, ball_file)
    session = controller.session
    correct(session.labels, ball[1], SLICES)
    session.image.data = np.concatenate([ball[0], ball[0]])
    with qtbot.waitSignal(controller.failed):
        controller.teach()
    assert "not on the grid" in dock.message.sentence
    assert controller.lesson is None
    with qtbot.waitSignal(controller.predicted, timeout=SECONDS):
        controller.predict()
    assert controller.session.labels.data.shape == (48, 20, 22)


def test_nothing_is_wider_than_the_panel(ready: DanteDock, qtbot: QtBot) -> None:
    """Long names wrap; at 340 pixels nothing is cut off at the side, in any card."""
    result = ready.result
    report = ready.controller.report
    assert report is not None
    assert report.exam is not None
    name = "left hippocampal formation with the subiculum"
    scores = tuple(replace(score, label=name) for score in report.exam.scores)
    result.exam.show_report(replace(report.exam, scores=scores), report.slices, report.curve)
    for drawer in (result.export, result.exam.details, ready.teach.drawer, ready.history):
        drawer.open()
    ready.controller.lesson.overlays.show_errors("after")
    ready.controller.session.add_structure(name)
    for method in ("auto", "lora", "scratch"):
        ready.controller.choose_method(method)
        ready.refresh()
        for card in ready.cards.values():
            card.open(True)
            # The panel's margins and the scroll bar take the rest.
            assert card.minimumSizeHint().width() <= WIDTH - 30, card.body
    assert ready.history.minimumSizeHint().width() <= WIDTH - 30
    table = result.exam.table
    document = QTextDocument()
    document.setDefaultFont(table.font())
    document.setHtml(table.text())
    document.setTextWidth(WIDTH - 60)
    assert document.size().width() <= WIDTH - 60


def test_hidden_masks_come_back_as_they_were(ready: DanteDock) -> None:
    controller = ready.controller
    mask, overlays = controller.session.labels, controller.lesson.overlays
    for visible in (True, False):
        mask.visible = visible
        overlays.show_errors("after")
        assert not mask.visible
        overlays.show_errors("before")
        overlays.hold()
        overlays.let_go()
        assert not mask.visible
        overlays.show_errors(None)
        assert mask.visible is visible


def test_a_closed_panel_leaves_nothing_behind(ready: DanteDock, qtbot: QtBot) -> None:
    controller = ready.controller
    viewer, mask = controller.viewer, controller.session.labels
    controller.lesson.overlays.show_errors("after")
    press(controller, Qt.Key.Key_D)
    window_canvas = canvas(controller)
    viewer.window.remove_dock_widget(ready)
    ready.deleteLater()
    qtbot.waitUntil(lambda: NEW not in viewer.layers, timeout=5000)
    assert len(viewer.layers) == 2
    assert mask.visible
    for key in (Qt.Key.Key_O, Qt.Key.Key_D):
        QTest.keyClick(window_canvas, key)
    assert len(viewer.layers) == 2
