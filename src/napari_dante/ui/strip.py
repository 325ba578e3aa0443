"""The slice strip: one cell for each slice, so that one sees what was corrected where."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from qtpy.QtCore import QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import (
    QBrush,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPainterPath,
    QPaintEvent,
    QPen,
    QPolygonF,
)
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

from napari_dante.ui import look
from napari_dante.ui.states import SliceState

__all__ = ["SliceStrip"]


class SliceStrip(QWidget):
    """Cells from the first slice to the last; a click or the arrow keys go there.

    Untouched slices are a low grey line under a hatched skyline, as high as the model is
    unsure; changed ones a low orange cell, edited ones an orange half, approved ones a
    green full cell, so that height says it without colour. Slices kept for the exam have a
    blue mark on top, the shown slice a frame.
    """

    chosen = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._states: list[SliceState] = []
        self._current = 0
        self._doubt: list[float] = []
        self._exam: frozenset[int] = frozenset()
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMouseTracking(True)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Slices")

    def sizeHint(self) -> QSize:
        """Return a height that a pointer hits easily."""
        return QSize(200, 40)

    @property
    def states(self) -> tuple[SliceState, ...]:
        """What is shown."""
        return tuple(self._states)

    def show_states(
        self,
        states: Sequence[SliceState],
        current: int,
        doubt: Sequence[float] = (),
        exam: Collection[int] = (),
    ) -> None:
        """Show every slice.

        Parameters
        ----------
        states
            What was done to each slice.
        current
            The one on the screen.
        doubt
            How unsure the model is of each, in any unit; empty where it was not asked.
        exam
            Those that a lesson would not learn from, but be examined on.
        """
        self._states, self._current, self._exam = list(states), current, frozenset(exam)
        most = max(doubt, default=0.0)
        self._doubt = [one / most for one in doubt] if most > 0 else []
        counts = {state: self._states.count(state) for state in SliceState}
        text = ", ".join(f"{count} {state.value}" for state, count in counts.items())
        self.setAccessibleDescription(
            f"Slice {current} of {len(self._states)} is shown; {text}; "
            f"{len(self._exam)} kept for the exam"
        )
        self.update()

    def cell(self, index: int) -> QRectF:
        """Return where slice `index` is drawn."""
        width = (self.width() - 2) / max(1, len(self._states))
        return QRectF(1 + index * width, 3, width, self.height() - 6)

    def index_at(self, x: float) -> int | None:
        """Return the slice drawn at `x`, None where there is no slice at all."""
        if not self._states:
            return None
        index = int((x - 1) * len(self._states) / max(1, self.width() - 2))
        return min(max(index, 0), len(self._states) - 1)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the cells, the marked ones last and never thinner than three pixels."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        base = QRectF(1, self.height() - 9, self.width() - 2, 6)
        painter.fillRect(base, look.faint(self, 60))
        self._hatch_doubt(painter)
        colours = {
            SliceState.CHANGED: (look.orange(self), 0.35),
            SliceState.EDITED: (look.orange(self), 0.6),
            SliceState.APPROVED: (look.green(self), 1.0),
        }
        for index, state in enumerate(self._states):
            if state in colours:
                colour, share = colours[state]
                painter.fillRect(self._bar(index, share).adjusted(0.4, 0, -0.4, 0), colour)
        for index in self._exam:
            middle = self.cell(index).center().x()
            mark = [QPointF(middle - 4, 0), QPointF(middle + 4, 0), QPointF(middle, 7)]
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(look.blue(self))
            painter.drawPolygon(QPolygonF(mark))
        if self._states:
            self._frame_current(painter)
        painter.end()

    def _bar(self, index: int, share: float) -> QRectF:
        """Return the lower part of a cell, its height `share` of the whole."""
        cell = _widened(self.cell(index), 3.0)
        cell.setTop(cell.bottom() - cell.height() * share)
        return cell

    def _hatch_doubt(self, painter: QPainter) -> None:
        """Draw the skyline of doubt over the slices that nobody touched."""
        skyline = QPainterPath()
        for index, (share, state) in enumerate(zip(self._doubt, self._states, strict=False)):
            if state is SliceState.UNTOUCHED:
                cell = self.cell(index)
                height = cell.height() * 0.85 * share
                skyline.addRect(QRectF(cell.left(), cell.bottom() - height, cell.width(), height))
        painter.fillPath(
            skyline.simplified(), QBrush(look.faint(self, 170), Qt.BrushStyle.BDiagPattern)
        )
        painter.setPen(QPen(look.faint(self, 110), 1.0))
        painter.drawPath(skyline.simplified())

    def _frame_current(self, painter: QPainter) -> None:
        cell = _widened(self.cell(self._current), 5.0).adjusted(0, -2, 0, 2)
        painter.setPen(QPen(look.ink(self), 1.6 if self.hasFocus() else 1.2))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRect(cell)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Go to the slice under the pointer."""
        self._choose(self.index_at(event.position().x()))

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Name the slice under the pointer; with a button down, go there."""
        index = self.index_at(event.position().x())
        if index is None:
            return
        place = event.globalPosition().toPoint()
        QToolTip.showText(place, self._about(index), self)
        if event.buttons() & Qt.MouseButton.LeftButton:
            self._choose(index)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Go to the neighbouring slice."""
        steps = {Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1}
        if event.key() not in steps or not self._states:
            super().keyPressEvent(event)
            return
        last = len(self._states) - 1
        self._choose(min(max(self._current + steps[event.key()], 0), last))

    def _about(self, index: int) -> str:
        words = [f"Slice {index}: {self._states[index].value}"]
        if index in self._exam:
            words.append("kept for the exam")
        if self._doubt and self._states[index] is SliceState.UNTOUCHED:
            words.append(f"doubt {self._doubt[index]:.0%} of the most doubtful slice")
        return ", ".join(words)

    def _choose(self, index: int | None) -> None:
        if index is not None and index != self._current:
            self.chosen.emit(index)


def _widened(cell: QRectF, least: float) -> QRectF:
    extra = max(0.0, least - cell.width()) / 2
    return cell.adjusted(-extra, 0, extra, 0)
