"""Each exam slice as a pair of dots, under the old and the new model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_dante.evaluate.mistakes import SliceScore
from napari_dante.ui import look
from napari_dante.ui.words import counted

__all__ = ["PairedDots"]


class PairedDots(QWidget):
    """Dice of every exam slice before and after, joined by a line, and their means."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._pairs: list[tuple[float, float]] = []
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Dice of the exam slices, before and after")

    def sizeHint(self) -> QSize:
        """Return a small plot."""
        return QSize(240, 118)

    def show_scores(self, scores: Sequence[SliceScore]) -> None:
        """Show the exam slices that both models can be compared on."""
        self._pairs = [
            (one.before, one.after)
            for one in scores
            if one.exam and one.before is not None and one.after is not None
        ]
        self.setAccessibleDescription(self.words)
        self.update()

    @property
    def words(self) -> str:
        """The mean difference, in words."""
        if not self._pairs:
            return "No exam slice shows a structure."
        before, after = np.mean(self._pairs, axis=0)
        count = len(self._pairs)
        slices = counted(count, "slice")
        return f"Mean {before:.2f} → {after:.2f} ({after - before:+.2f}) on {slices}"

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the two scales, the pairs, and the mean on top of them."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        area = QRectF(36, 8, self.width() - 46, self.height() - 46)
        for value in (0.0, 0.5, 1.0):
            y = area.bottom() - area.height() * value
            painter.setPen(look.faint(self, 45))
            painter.drawLine(QPointF(area.left(), y), QPointF(area.right(), y))
            painter.setPen(look.ink(self))
            right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
            look.write(painter, QRectF(0, y - 8, 30, 16), f"{value:.1f}", right)
        for share, word in ((0.25, "before"), (0.75, "after")):
            box = QRectF(area.left() + area.width() * share - 40, area.bottom() + 2, 80, 16)
            look.write(painter, box, word, Qt.AlignmentFlag.AlignHCenter)
        for pair in self._pairs:
            self._draw_pair(painter, area, pair, look.faint(self, 110), 3.0)
        if self._pairs:
            before, after = np.mean(self._pairs, axis=0)
            self._draw_pair(painter, area, (before, after), look.blue(self), 5.0)
        painter.setPen(look.ink(self))
        foot = QRectF(0, self.height() - 20, self.width(), 18)
        look.write(painter, foot, self.words, Qt.AlignmentFlag.AlignHCenter)
        painter.end()

    def _draw_pair(
        self,
        painter: QPainter,
        area: QRectF,
        pair: tuple[float, float],
        colour: object,
        radius: float,
    ) -> None:
        first, second = (
            QPointF(area.left() + area.width() * share, area.bottom() - area.height() * value)
            for share, value in zip((0.25, 0.75), pair, strict=True)
        )
        painter.setPen(QPen(colour, radius / 2.5))
        painter.drawLine(first, second)
        painter.setBrush(colour)
        for point in (first, second):
            painter.drawEllipse(point, radius, radius)
        painter.setBrush(Qt.BrushStyle.NoBrush)
