"""What we draw: where things are, what is said to those who cannot see it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QPalette
from qtpy.QtWidgets import QWidget

from napari_dante.adapt.recipe import RECIPES
from napari_dante.evaluate.report import ExamReport, Metrics, Score
from napari_dante.jobs.events import Improved, Progress, Started, Validated
from napari_dante.ui import look, steps_teach
from napari_dante.ui.cards import Card, CardState, MessageBar, text
from napari_dante.ui.curve import LearningCurve
from napari_dante.ui.examcard import ExamCard
from napari_dante.ui.states import SliceState
from napari_dante.ui.strip import SliceStrip

pytestmark = pytest.mark.gui


def themed(widget: QWidget, ink: str, paper: str) -> QWidget:
    palette = QPalette()
    palette.setColor(QPalette.ColorRole.WindowText, QColor(ink))
    palette.setColor(QPalette.ColorRole.Window, QColor(paper))
    widget.setPalette(palette)
    return widget


def luminance(colour: QColor) -> float:
    parts = [
        value / 12.92 if value <= 0.03928 else ((value + 0.055) / 1.055) ** 2.4
        for value in colour.getRgbF()[:3]
    ]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


@pytest.mark.parametrize(("ink", "paper"), [("#f0f1f2", "#262930"), ("#3b3a39", "#efebe9")])
@pytest.mark.parametrize("colour", [look.green, look.orange, look.red, look.blue])
def test_colours_are_readable_in_both_themes(qtbot: QtBot, colour, ink: str, paper: str) -> None:  # noqa: ANN001
    widget = themed(QWidget(), ink, paper)
    qtbot.addWidget(widget)
    light, dark = sorted((luminance(colour(widget)), luminance(QColor(paper))), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 3.5


def test_dice_colours_get_lighter_with_dice() -> None:
    shades = [luminance(look.shade(step / 20)) for step in range(21)]
    assert all(later > earlier for earlier, later in pairwise(shades))


@pytest.mark.parametrize("count", [1, 24, 300])
def test_every_slice_of_the_strip_can_be_hit(qtbot: QtBot, count: int) -> None:
    strip = SliceStrip()
    qtbot.addWidget(strip)
    strip.resize(310, 30)
    strip.show_states([SliceState.UNTOUCHED] * count, 0)
    assert [strip.index_at(strip.cell(index).center().x()) for index in range(count)] == list(
        range(count)
    )
    assert strip.index_at(-5) == 0
    assert strip.index_at(5000) == count - 1


def test_an_empty_strip_takes_clicks(qtbot: QtBot) -> None:
    strip = SliceStrip()
    qtbot.addWidget(strip)
    strip.show()
    qtbot.mouseClick(strip, Qt.MouseButton.LeftButton)
    qtbot.keyClick(strip, Qt.Key.Key_Right)
    assert strip.index_at(3) is None


def test_the_strip_says_its_counts(qtbot: QtBot) -> None:
    strip = SliceStrip()
    qtbot.addWidget(strip)
    strip.show_states([SliceState.EDITED, SliceState.APPROVED, SliceState.UNTOUCHED], 1, (), (0,))
    assert strip.accessibleDescription() == (
        "Slice 1 of 3 is shown; 1 untouched, 0 changed, not approved, 1 edited, 1 approved; "
        "1 kept for the exam"
    )


def test_the_strip_shows_doubt_and_the_exam(qtbot: QtBot) -> None:
    strip = SliceStrip()
    qtbot.addWidget(themed(strip, "#f0f1f2", "#262930"))
    strip.resize(310, 40)
    states = [SliceState.UNTOUCHED] * 20

    def seen(doubt: tuple[float, ...], exam: tuple[int, ...]) -> list[list[int]]:
        strip.show_states(states, 0, doubt, exam)
        image = strip.grab().toImage()
        columns = [round(strip.cell(index).center().x()) for index in range(20)]
        return [[image.pixel(x, y) for y in range(40)] for x in columns]

    plain = seen((), ())
    unsure = seen((0.0,) * 10 + (1.0,) + (0.0,) * 9, ())
    assert [index for index in range(20) if plain[index] != unsure[index]] == [10]
    examined = seen((), (4, 5))
    assert [index for index in range(20) if plain[index] != examined[index]] == [4, 5]


def test_the_panel_has_a_sentence_for_every_recipe() -> None:
    assert set(steps_teach._WHAT) == set(RECIPES)


def test_the_curve_takes_a_lesson(qtbot: QtBot) -> None:
    curve = LearningCurve()
    qtbot.addWidget(curve)
    curve.resize(310, 140)
    blank = curve.grab().toImage()
    events = [
        Started("lora", "cpu", 10, 100, 0, (1, 2), (5,), 0.6),
        Progress(1, 40, 3.0, 1.2),
        Progress(20, 40, 1.0, 0.4),
        Validated(20, 0.7, {"core": 0.7}),
        Improved(20, 0.7),
    ]
    for event in events:
        curve.take(event)
    assert curve.accessibleDescription() == "Dice of the old model 0.60, best so far 0.70"
    assert curve.grab().toImage() != blank
    curve.take(Started("lora", "cpu", 10, 100, 0, (1, 2), (), None))
    assert curve.accessibleDescription() == "Dice of the old model unknown, best so far none yet"
    curve.grab()


def report(gain: float, slices: int = 5, label: str = "core") -> ExamReport:
    scores = [
        Score(label, index, Metrics(0.5, 8.0, 0.5), Metrics(0.5 + gain, 4.0, 0.7))
        for index in range(slices)
    ]
    return ExamReport(0, tuple(range(slices)), (20, 21), tuple(scores), 1.0)


@pytest.mark.parametrize(
    ("gain", "sign"), [(0.3, "▲"), (-0.3, "▼"), (0.0, "=")], ids=["better", "worse", "same"]
)
def test_the_card_says_the_verdict_with_a_sign(qtbot: QtBot, gain: float, sign: str) -> None:
    card = ExamCard()
    qtbot.addWidget(card)
    card.show_report(report(gain))
    assert sign in card.verdict.text()
    assert f"{0.5 + gain:.2f}" in card.table.text()
    assert "8.0&nbsp;→&nbsp;<b>4.0</b>" in card.table.text()
    assert f"Slice 0: before 0.50, after {0.5 + gain:.2f}" in card.strip.accessibleDescription()


def test_names_from_files_are_never_markup(qtbot: QtBot) -> None:
    card = ExamCard()
    qtbot.addWidget(card)
    card.show_report(report(0.1, label="<img src=x>"))
    assert "<img" not in card.table.text()
    assert text("<b>x</b>").textFormat() == Qt.TextFormat.PlainText


def test_a_lesson_without_exam_is_said(qtbot: QtBot) -> None:
    card = ExamCard()
    qtbot.addWidget(card)
    card.show_report(None)
    assert "Not examined" in card.verdict.text()
    assert card.table.isHidden()


@pytest.mark.parametrize("slices", [1, 5, 60])
def test_the_dice_strip_goes_to_its_slices(qtbot: QtBot, slices: int) -> None:
    card = ExamCard()
    qtbot.addWidget(card)
    card.show_report(report(0.2, slices))
    strip = card.strip
    strip.resize(310, 62)
    strip.grab()
    for column in range(slices):
        place = strip.cell(0, column).center().toPoint()
        with qtbot.waitSignal(card.chosen) as chosen:
            qtbot.mouseClick(strip, Qt.MouseButton.LeftButton, pos=place)
        assert chosen.args == [column]
    assert strip.column_at(2) is None


def test_a_card_folds_by_mouse_and_key(qtbot: QtBot) -> None:
    body = QWidget()
    from qtpy.QtWidgets import QVBoxLayout

    QVBoxLayout(body)
    card = Card(1, "Open", body)
    qtbot.addWidget(card)
    card.show()
    header = card.findChildren(QWidget)[0]
    qtbot.mouseClick(header, Qt.MouseButton.LeftButton)
    assert card.is_open
    assert body.isVisible()
    header.setFocus()
    qtbot.keyClick(header, Qt.Key.Key_Space)
    assert not card.is_open
    card.show_state(CardState.DONE, "one image")
    assert header.accessibleDescription() == "done. one image"
    card.grab()


def test_the_message_bar_shows_one_sentence_until_closed(qtbot: QtBot) -> None:
    bar = MessageBar()
    qtbot.addWidget(bar)
    assert bar.sentence == ""
    bar.refuse("This is not a NIfTI file.")
    assert bar.sentence == "This is not a NIfTI file."
    bar.tell("Cancelled; nothing changed.")
    assert bar.sentence == "Cancelled; nothing changed."
    bar.clear()
    assert bar.sentence == ""
