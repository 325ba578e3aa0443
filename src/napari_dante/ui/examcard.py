"""The exam card: what the lesson brought, on slices that were never learned from."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from qtpy.QtCore import QEvent, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QMouseEvent, QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import QLabel, QSizePolicy, QToolTip, QVBoxLayout, QWidget

from napari_dante.evaluate.report import ExamReport
from napari_dante.ui import look

__all__ = ["DiceStrip", "ExamCard"]

_SIGNS = {"better": "▲", "worse": "▼", "no difference": "=", "not enough data": "?"}
_SIDE = 46


class DiceStrip(QWidget):
    """Two rows of cells, before and after, one column for each exam slice.

    Light is good and dark is bad (viridis); where there is room, the cell says the number.
    """

    chosen = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._slices: tuple[int, ...] = ()
        self._rows: dict[str, list[float | None]] = {}
        self.setMouseTracking(True)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Dice of each exam slice")

    def sizeHint(self) -> QSize:
        """Return the height of two rows and the slice numbers."""
        return QSize(240, 62)

    def show_report(self, report: ExamReport) -> None:
        """Show the mean Dice of every exam slice."""
        self._slices = report.exam
        self._rows = {
            "before": [report.mean("before", slice_=index) for index in report.exam],
            "after": [report.mean("after", slice_=index) for index in report.exam],
        }
        self.setAccessibleDescription("; ".join(self._words(i) for i in range(len(self._slices))))
        self.update()

    def cell(self, row: int, column: int) -> QRectF:
        """Return where a cell is drawn."""
        width = min(44.0, (self.width() - _SIDE - 2) / max(1, len(self._slices)))
        return QRectF(_SIDE + column * width, 2 + row * 21, width, 20)

    def column_at(self, x: float) -> int | None:
        """Return the column drawn at `x`."""
        for column in range(len(self._slices)):
            cell = self.cell(0, column)
            if cell.left() <= x < cell.right():
                return column
        return None

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the two rows and the numbers of the first and last slice."""
        painter = QPainter(self)
        for row, (name, values) in enumerate(self._rows.items()):
            painter.setPen(look.ink(self))
            middle = Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft
            look.write(painter, QRectF(0, 2 + row * 21, _SIDE, 20), name, middle)
            for column, value in enumerate(values):
                self._draw_cell(painter, self.cell(row, column), value)
        painter.setPen(look.ink(self))
        foot = self.cell(1, 0).bottom() + 2
        look.write(painter, QRectF(0, foot, _SIDE, 16), "slice")
        for column in self._numbered():
            box = self.cell(1, column)
            box.moveTop(foot)
            centre = Qt.AlignmentFlag.AlignHCenter
            wide = box.adjusted(-12, 0, 12, 0)
            look.write(painter, wide, str(self._slices[column]), centre)
        painter.end()

    def _numbered(self) -> Sequence[int]:
        if not self._slices:
            return ()
        room = max(1, int(30 / max(1.0, self.cell(0, 0).width())) + 1)
        return range(0, len(self._slices), room if self.cell(0, 0).width() < 30 else 1)

    def _draw_cell(self, painter: QPainter, cell: QRectF, value: float | None) -> None:
        inner = cell.adjusted(0.5, 0.5, -0.5, -0.5)
        if value is None:
            painter.setPen(QPen(look.faint(self, 90), 1))
            painter.drawRect(inner)
            return
        colour = look.shade(value)
        painter.fillRect(inner, colour)
        if cell.width() >= 30:
            painter.setPen(Qt.GlobalColor.black if value > 0.55 else Qt.GlobalColor.white)
            look.write(painter, inner, f"{value:.2f}", Qt.AlignmentFlag.AlignCenter)

    def _words(self, column: int) -> str:
        parts = [
            f"{name} {'not there' if values[column] is None else f'{values[column]:.2f}'}"
            for name, values in self._rows.items()
        ]
        return f"Slice {self._slices[column]}: {', '.join(parts)}"

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Say the numbers of the slice under the pointer."""
        column = self.column_at(event.position().x())
        if column is not None:
            place = event.globalPosition().toPoint()
            QToolTip.showText(place, self._words(column), self)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Go to the slice under the pointer."""
        column = self.column_at(event.position().x())
        if column is not None:
            self.chosen.emit(self._slices[column])


class ExamCard(QWidget):
    """Verdict in words, a table of the structures, and the strip of the slices."""

    chosen = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._report: ExamReport | None = None
        self.verdict = QLabel()
        self.verdict.setWordWrap(True)
        self.verdict.setAccessibleName("Verdict")
        self.table = QLabel()
        self.table.setTextFormat(Qt.TextFormat.RichText)
        self.table.setAccessibleName("Structures before and after")
        self.table.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.table.setObjectName("small")
        self.strip = DiceStrip()
        self.strip.chosen.connect(self.chosen)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        for part in (self.verdict, self.table, self.strip):
            layout.addWidget(part)

    def show_report(self, report: ExamReport | None) -> None:
        """Show a report; None says that no slice could be set aside."""
        self._report = report
        self.table.setVisible(report is not None)
        self.strip.setVisible(report is not None)
        if report is None:
            self.verdict.setText(
                "? Not examined: no slice could be set aside. Correct a few more slices, "
                "a little apart from each other."
            )
            return
        self._show_verdict(report)
        self.table.setText(_table(report))
        self.strip.show_report(report)

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


def _table(report: ExamReport) -> str:
    rows = [_row(report, label) for label in report.labels]
    head = "".join(
        f'<td align="{side}"><b>{title}</b></td>'
        for title, side in (("", "left"), ("Dice", "right"), ("HD95 mm", "right"), ("n", "right"))
    )
    return f'<table width="100%" cellpadding="1"><tr>{head}</tr>{"".join(rows)}</table>'


def _row(report: ExamReport, label: str) -> str:
    n = sum(
        score.label == label and score.after.dice is not None and score.before.dice is not None
        for score in report.scores
    )
    cells = [
        _change(report, label, "dice", ".2f"),
        _change(report, label, "hd95", ".1f"),
        str(n),
    ]
    right = "".join(f'<td align="right">{cell}</td>' for cell in cells)
    return f"<tr><td>{escape(label)}</td>{right}</tr>"


def _change(report: ExamReport, label: str, metric: str, form: str) -> str:
    before = report.mean("before", metric, label=label)  # type: ignore[arg-type]
    after = report.mean("after", metric, label=label)  # type: ignore[arg-type]
    if before is None or after is None:
        return "not there"
    return f"{before:{form}} → <b>{after:{form}}</b>"
