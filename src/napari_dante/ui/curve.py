"""The learning curve, drawn while a lesson runs."""

from __future__ import annotations

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_dante.evaluate.curve import Curve
from napari_dante.jobs.course import follow
from napari_dante.jobs.events import Event, Started
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
        self.show_curve(Curve())

    def show_curve(self, curve: Curve) -> None:
        """Show how a lesson went."""
        self._curve = curve
        self._describe()

    def take(self, event: Event) -> None:
        """Take in one event of the lesson."""
        self.show_curve(follow(Curve() if isinstance(event, Started) else self._curve, event))

    def _describe(self) -> None:
        to_beat, reached = self._curve.to_beat, self._curve.best
        before = "unknown" if to_beat is None else f"{to_beat:.2f}"
        best = "none yet" if reached is None else f"{reached[1]:.2f}"
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

    def _point(self, area: QRectF, step: int, share: float) -> QPointF:
        return QPointF(
            area.left() + area.width() * step / self._curve.total,
            area.bottom() - area.height() * min(max(share, 0.0), 1.0),
        )

    def _dice_point(self, area: QRectF, step: int, value: float) -> QPointF:
        low, high = self._curve.limits
        return self._point(area, step, (value - low) / (high - low))

    def _draw_axes(self, painter: QPainter, area: QRectF) -> None:
        low, high = self._curve.limits
        painter.setPen(look.ink(self))
        head = QRectF(0, 0, self.width() - 4, area.top() - 2)
        look.write(painter, head, "Dice on the exam slices", Qt.AlignmentFlag.AlignLeft)
        if self._curve.loss:
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
        look.write(painter, foot, str(self._curve.total), Qt.AlignmentFlag.AlignRight)

    def _draw_loss(self, painter: QPainter, area: QRectF) -> None:
        top = max((value for _, value in self._curve.loss), default=0.0)
        if top > 0:
            painter.setPen(QPen(look.faint(self, 130), 1.0))
            points = [self._point(area, step, value / top) for step, value in self._curve.loss]
            painter.drawPolyline(QPolygonF(points))

    def _draw_dice(self, painter: QPainter, area: QRectF) -> None:
        if self._curve.to_beat is not None:
            start = self._dice_point(area, 0, self._curve.to_beat)
            painter.setPen(QPen(look.orange(self), 1.4, Qt.PenStyle.DashLine))
            painter.drawLine(start, QPointF(area.right(), start.y()))
            box = QRectF(area.left(), start.y() + 1, area.width() - 2, 16)
            look.write(
                painter, box, f"old model {self._curve.to_beat:.2f}", Qt.AlignmentFlag.AlignRight
            )
        painter.setPen(QPen(look.blue(self), 2.4))
        points = [self._dice_point(area, step, value) for step, value in self._curve.dice]
        painter.drawPolyline(QPolygonF(points))
        if self._curve.best is not None:
            self._mark_best(painter, area, *self._curve.best)

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
