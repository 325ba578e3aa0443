"""What a lesson brought, on slices that were never learned from."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Literal

from qtpy.QtCore import QEvent, Qt, Signal
from qtpy.QtWidgets import QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_dante.evaluate.curve import Curve
from napari_dante.evaluate.mistakes import SliceScore
from napari_dante.evaluate.report import ExamReport, Interval, LabelResult
from napari_dante.ui import look
from napari_dante.ui.cards import text
from napari_dante.ui.curve import LearningCurve
from napari_dante.ui.dicestrip import DiceStrip
from napari_dante.ui.drawer import Drawer
from napari_dante.ui.pairs import PairedDots

__all__ = ["ExamCard"]

_SIGNS = {"better": "▲", "worse": "▼", "no difference": "=", "not enough data": "?"}
_FORMS: dict[Literal["dice", "hd95", "nsd"], str] = {"dice": ".2f", "hd95": ".1f", "nsd": ".2f"}


class ExamCard(QWidget):
    """Verdict in words, a table of the structures, the strip of the slices, and details."""

    chosen = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._report: ExamReport | None = None
        self.verdict = QLabel()
        self.verdict.setWordWrap(True)
        self.verdict.setAccessibleName("Verdict")
        self.table = _table_label("Structures before and after")
        self.strip = DiceStrip()
        self.strip.chosen.connect(self.chosen)
        self.framed = text("Framed: exam slices, not learned from.", faint=True)
        self.earlier = _table_label("Earlier cases before and after")
        self.pairs = PairedDots()
        self.curve = LearningCurve()
        self.details = Drawer("Details", _column(self.earlier, self.pairs, self.curve))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        for part in (self.verdict, self.table, self.strip, self.framed, self.details):
            layout.addWidget(part)

    def show_report(
        self,
        report: ExamReport | None,
        slices: Sequence[SliceScore] = (),
        curve: Curve | None = None,
    ) -> None:
        """Show a report; None says that no slice could be set aside.

        Parameters
        ----------
        report
            The exam.
        slices
            Dice of all corrected slices; by default those of the exam alone.
        curve
            How the lesson went.
        """
        self._report = report
        for part in (self.table, self.strip, self.details):
            part.setVisible(report is not None)
        self.framed.setVisible(report is not None and any(not one.exam for one in slices))
        if report is None:
            self.verdict.setText(
                "? Not examined: no slice could be set aside. Correct a few more slices, "
                "a little apart from each other."
            )
            return
        scores = slices or _examined(report)
        self._show_verdict(report)
        self.table.setText(_table(report))
        self.table.setAccessibleDescription(_spoken(report))
        self.earlier.setVisible(bool(report.earlier))
        self.earlier.setText(_earlier_table(report))
        self.strip.show_scores(scores)
        self.pairs.show_scores(scores)
        self.curve.setVisible(curve is not None)
        self.curve.show_curve(curve or Curve())

    def changeEvent(self, event: QEvent) -> None:
        """Take the colours of a new theme."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange and self._report is not None:
            self._show_verdict(self._report)

    def _show_verdict(self, report: ExamReport) -> None:
        colour = {"better": look.green, "worse": look.red}.get(report.verdict, look.orange)(self)
        self.verdict.setText(
            f'<b style="color:{colour.name()}">{_SIGNS[report.verdict]}&nbsp;</b>'
            f"{report.sentence} {report.earlier_sentence}"
        )


def _table_label(name: str) -> QLabel:
    label = QLabel()
    label.setTextFormat(Qt.TextFormat.RichText)
    label.setWordWrap(True)
    label.setAccessibleName(name)
    label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
    label.setObjectName("small")
    return label


def _column(*widgets: QWidget) -> QWidget:
    column = QWidget()
    layout = QVBoxLayout(column)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(6)
    for widget in widgets:
        layout.addWidget(widget)
    return column


def _examined(report: ExamReport) -> list[SliceScore]:
    return [
        SliceScore(
            index,
            True,
            report.mean("before", slice_=index),
            report.mean("after", slice_=index),
        )
        for index in report.exam
    ]


def _table(report: ExamReport) -> str:
    """Return a table with two lines for each structure: it fits into a narrow panel."""
    heads = ("Dice", "HD95&nbsp;mm", f"NSD&nbsp;{report.tolerance:g}&nbsp;mm")
    head = "".join(f'<td width="33%" align="center"><b>{one}</b></td>' for one in heads)
    rows = "".join(_rows(report, label) for label in report.labels)
    return f'<table width="100%" cellpadding="1"><tr>{head}</tr>{rows}</table>'


def _rows(report: ExamReport, label: str) -> str:
    cells = "".join(
        f'<td align="center">{_change(report, label, metric)}</td>' for metric in _FORMS
    )
    return (
        f'<tr><td colspan="3"><b>{escape(label)}</b> {_said(report.of_label(label))}</td></tr>'
        f"<tr>{cells}</tr>"
    )


def _said(result: LabelResult) -> str:
    said = f"{_SIGNS[result.verdict]} {result.verdict}{_interval(result.interval)}, n {result.n}"
    return f"<small>{said.replace(' ', '&nbsp;')}</small>"


def _interval(interval: Interval | None) -> str:
    if interval is None:
        return ""
    low, high = (f"{end:+.2f}" for end in interval)
    # It stays on one line.
    return f" {low}\N{WORD JOINER}…\N{WORD JOINER}{high}"


def _change(report: ExamReport, label: str, metric: Literal["dice", "hd95", "nsd"]) -> str:
    before = report.mean("before", metric, label=label)
    after = report.mean("after", metric, label=label)
    if before is None or after is None:
        return "not there"
    form = _FORMS[metric]
    return f"{before:{form}}&nbsp;→&nbsp;<b>{after:{form}}</b>"


def _spoken(report: ExamReport) -> str:
    """Return the table as sentences, for those who hear it."""
    lines = []
    for label in report.labels:
        parts = [f"{metric} {_change(report, label, metric)}" for metric in _FORMS]
        plain = ", ".join(parts)
        for mark, word in (("<b>", ""), ("</b>", ""), ("&nbsp;", " "), ("→", "to")):
            plain = plain.replace(mark, word)
        lines.append(f"{label}: {report.of_label(label).verdict}; {plain}")
    return ". ".join(lines)


def _earlier_table(report: ExamReport) -> str:
    rows = "".join(
        f'<tr><td>{escape(one.label)}</td><td align="right">{one.before:.2f} → '
        f"<b>{one.after:.2f}</b></td></tr>"
        for one in report.earlier
    )
    head = '<tr><td><b>Earlier cases</b></td><td align="right"><b>Dice</b></td></tr>'
    return f'<table width="100%" cellpadding="1">{head}{rows}</table>'
