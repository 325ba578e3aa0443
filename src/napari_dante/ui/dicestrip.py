"""The Dice of each corrected slice, under the old and the new model."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import QRectF, QSize, Qt, Signal
from qtpy.QtGui import QFocusEvent, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

from napari_dante.evaluate.mistakes import SliceScore
from napari_dante.ui import look

__all__ = ["DiceStrip"]

_SIDE = 46
_TOP, _ROW = 3, 21
_STEPS = {Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1}
_ENDS = {Qt.Key.Key_Home: 0, Qt.Key.Key_End: -1}


class DiceStrip(QWidget):
    """Two rows of cells, before and after, one column for each corrected slice.

    Light is good and dark is bad (viridis); where there is room, the cell says the number.
    Exam slices have a frame. A click, the arrow keys, Home and End go to a slice.
    """

    chosen = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._scores: tuple[SliceScore, ...] = ()
        self._column = 0
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMouseTracking(True)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Dice of each corrected slice, before and after")

    def sizeHint(self) -> QSize:
        """Return the height of two rows and the slice numbers."""
        return QSize(240, 66)

    def show_scores(self, scores: Sequence[SliceScore]) -> None:
        """Show the mean Dice of every slice."""
        self._scores, self._column = tuple(scores), 0
        self.setAccessibleDescription("; ".join(map(_words, self._scores)))
        self.update()

    def cell(self, row: int, column: int) -> QRectF:
        """Return where a cell is drawn."""
        width = min(44.0, (self.width() - _SIDE - 4) / max(1, len(self._scores)))
        return QRectF(_SIDE + column * width, _TOP + row * _ROW, width, _ROW - 1)

    def column_at(self, x: float) -> int | None:
        """Return the column drawn at `x`."""
        for column in range(len(self._scores)):
            cell = self.cell(0, column)
            if cell.left() <= x < cell.right():
                return column
        return None

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the two rows, the frames of the exam and the slice numbers."""
        painter = QPainter(self)
        middle = Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft
        for row, name in enumerate(("before", "after")):
            painter.setPen(look.ink(self))
            look.write(painter, QRectF(0, self.cell(row, 0).top(), _SIDE, 20), name, middle)
            for column, score in enumerate(self._scores):
                value = score.before if row == 0 else score.after
                self._draw_cell(painter, self.cell(row, column), value)
        self._draw_frames(painter)
        foot = self.cell(1, 0).bottom() + 3
        painter.setPen(look.ink(self))
        look.write(painter, QRectF(0, foot, _SIDE, 16), "slice")
        for column in self._numbered():
            box = self.cell(1, column)
            box.moveTop(foot)
            wide = box.adjusted(-12, 0, 12, 0)
            number = str(self._scores[column].slice)
            look.write(painter, wide, number, Qt.AlignmentFlag.AlignHCenter)
        painter.end()

    def _numbered(self) -> Sequence[int]:
        width = self.cell(0, 0).width()
        every = 1 if width >= 26 else int(30 / max(1.0, width)) + 1
        return range(0, len(self._scores), every)

    def _draw_cell(self, painter: QPainter, cell: QRectF, value: float | None) -> None:
        inner = cell.adjusted(0.5, 0.5, -0.5, -0.5)
        if value is None:
            painter.setPen(QPen(look.faint(self, 90), 1))
            painter.drawRect(inner)
            return
        painter.fillRect(inner, look.shade(value))
        if cell.width() >= 30:
            painter.setPen(Qt.GlobalColor.black if value > 0.55 else Qt.GlobalColor.white)
            look.write(painter, inner, f"{value:.2f}", Qt.AlignmentFlag.AlignCenter)

    def _draw_frames(self, painter: QPainter) -> None:
        painter.setBrush(Qt.BrushStyle.NoBrush)
        for column, score in enumerate(self._scores):
            both = self.cell(0, column).united(self.cell(1, column))
            if score.exam:
                painter.setPen(QPen(look.ink(self), 1.6))
                painter.drawRect(both.adjusted(0, -1, 0, 1))
            if self.hasFocus() and column == self._column:
                painter.setPen(QPen(look.blue(self), 2.0, Qt.PenStyle.DotLine))
                painter.drawRect(both.adjusted(-1, -2, 1, 2))

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Say the numbers of the slice under the pointer."""
        column = self.column_at(event.position().x())
        if column is not None:
            QToolTip.showText(event.globalPosition().toPoint(), _words(self._scores[column]), self)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Go to the slice under the pointer."""
        column = self.column_at(event.position().x())
        if column is not None:
            self._choose(column)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Go to another slice."""
        last = len(self._scores) - 1
        if last >= 0 and event.key() in _STEPS:
            self._choose(min(max(self._column + _STEPS[event.key()], 0), last))
        elif last >= 0 and event.key() in _ENDS:
            self._choose(_ENDS[event.key()] % (last + 1))
        else:
            super().keyPressEvent(event)

    def focusInEvent(self, event: QFocusEvent) -> None:
        """Show which slice the keys start from."""
        super().focusInEvent(event)
        self.update()

    def focusOutEvent(self, event: QFocusEvent) -> None:
        """Show it no longer."""
        super().focusOutEvent(event)
        self.update()

    def _choose(self, column: int) -> None:
        self._column = column
        self.update()
        self.chosen.emit(self._scores[column].slice)


def _words(score: SliceScore) -> str:
    before, after = (
        "not there" if value is None else f"{value:.2f}" for value in (score.before, score.after)
    )
    kind = "exam" if score.exam else "not examined"
    return f"Slice {score.slice}: before {before}, after {after} ({kind})"
