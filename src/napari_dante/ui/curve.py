"""The learning curve, drawn while a lesson runs."""

from __future__ import annotations

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_dante.jobs.events import Event, Improved, Progress, Started, Validated
from napari_dante.ui import look

__all__ = ["LearningCurve"]

_MARGIN = (34, 20, 10, 20)


class LearningCurve(QWidget):
    """Dice on the exam slices in bold, the error of learning thin, the old model dashed."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Learning curve")
        self.clear()

    def sizeHint(self) -> QSize:
        """Return a height that leaves room for the buttons on a small screen."""
        return QSize(240, 140)

    def clear(self) -> None:
        """Start an empty curve."""
        self._to_beat: float | None = None
        self._best: tuple[int, float] | None = None
        self._dice: list[tuple[int, float]] = []
        self._loss: list[tuple[int, float]] = []
        self._total = 1
        self._describe()

    def take(self, event: Event) -> None:
        """Take in one event of the lesson."""
        if isinstance(event, Started):
            self.clear()
            self._to_beat = event.dice
            if event.dice is not None:
                self._dice.append((0, event.dice))
        elif isinstance(event, Progress):
            self._total = max(1, event.total)
            if event.loss is not None:
                self._loss.append((event.step, event.loss))
        elif isinstance(event, Validated):
            self._dice.append((event.step, event.mean))
        elif isinstance(event, Improved):
            self._best = (event.step, event.mean)
        self._describe()

    def _describe(self) -> None:
        before = "unknown" if self._to_beat is None else f"{self._to_beat:.2f}"
        best = "none yet" if self._best is None else f"{self._best[1]:.2f}"
        self.setAccessibleDescription(f"Dice of the old model {before}, best so far {best}")
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the axes, the two curves, the line to beat and the best point."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        left, top, right, bottom = _MARGIN
        area = QRectF(left, top, self.width() - left - right, self.height() - top - bottom)
        self._draw_axes(painter, area)
        self._draw_loss(painter, area)
        self._draw_dice(painter, area)
        painter.end()

    @property
    def _limits(self) -> tuple[float, float]:
        values = [value for _, value in self._dice]
        if not values:
            return 0.0, 1.0
        low, high = min(values), max(values)
        low, high = max(0.0, low - 0.05), min(1.0, high + 0.05)
        return (int(low * 10) / 10, min(1.0, (int(high * 10) + 1) / 10))

    def _point(self, area: QRectF, step: int, share: float) -> QPointF:
        return QPointF(
            area.left() + area.width() * step / self._total,
            area.bottom() - area.height() * min(max(share, 0.0), 1.0),
        )

    def _dice_point(self, area: QRectF, step: int, value: float) -> QPointF:
        low, high = self._limits
        return self._point(area, step, (value - low) / (high - low))

    def _draw_axes(self, painter: QPainter, area: QRectF) -> None:
        low, high = self._limits
        painter.setPen(look.ink(self))
        head = QRectF(0, 0, self.width() - 4, area.top() - 2)
        look.write(painter, head, "Dice on the exam slices", Qt.AlignmentFlag.AlignLeft)
        if self._loss:
            painter.setPen(look.faint(self, 170))
            look.write(painter, head, "thin: learning error", Qt.AlignmentFlag.AlignRight)
        for value in (low, (low + high) / 2, high):
            y = self._dice_point(area, 0, value).y()
            painter.setPen(look.faint(self, 45))
            painter.drawLine(QPointF(area.left(), y), QPointF(area.right(), y))
            painter.setPen(look.ink(self))
            box = QRectF(0, y - 8, area.left() - 4, 16)
            flags = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
            look.write(painter, box, f"{value:.2f}", flags)
        foot = QRectF(area.left(), area.bottom() + 3, area.width(), 16)
        look.write(painter, foot, "step 0", Qt.AlignmentFlag.AlignLeft)
        look.write(painter, foot, str(self._total), Qt.AlignmentFlag.AlignRight)

    def _draw_loss(self, painter: QPainter, area: QRectF) -> None:
        top = max((value for _, value in self._loss), default=0.0)
        if top > 0:
            painter.setPen(QPen(look.faint(self, 130), 1.0))
            points = [self._point(area, step, value / top) for step, value in self._loss]
            painter.drawPolyline(QPolygonF(points))

    def _draw_dice(self, painter: QPainter, area: QRectF) -> None:
        if self._to_beat is not None:
            start = self._dice_point(area, 0, self._to_beat)
            painter.setPen(QPen(look.orange(self), 1.4, Qt.PenStyle.DashLine))
            painter.drawLine(start, QPointF(area.right(), start.y()))
            box = QRectF(area.left(), start.y() + 1, area.width() - 2, 16)
            look.write(painter, box, f"old model {self._to_beat:.2f}", Qt.AlignmentFlag.AlignRight)
        painter.setPen(QPen(look.blue(self), 2.4))
        points = [self._dice_point(area, step, value) for step, value in self._dice]
        painter.drawPolyline(QPolygonF(points))
        if self._best is not None:
            self._mark_best(painter, area, *self._best)

    def _mark_best(self, painter: QPainter, area: QRectF, step: int, value: float) -> None:
        point = self._dice_point(area, step, value)
        painter.setPen(QPen(look.paper(self), 1.5))
        painter.setBrush(look.green(self))
        painter.drawEllipse(point, 5.0, 5.0)
        text = f"best {value:.2f}"
        width = painter.fontMetrics().horizontalAdvance(text) + 4
        x = min(max(point.x() - width / 2, area.left()), area.right() - width)
        above = point.y() - 22 > area.top() - 4
        painter.setPen(look.green(self))
        y = point.y() - 22 if above else point.y() + 7
        look.write(painter, QRectF(x, y, width, 16), text, Qt.AlignmentFlag.AlignCenter)
