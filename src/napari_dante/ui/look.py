"""Colours and strokes that everything we draw shares.

The hues are those of Okabe and Ito (2008), which common colour blindness does not confuse;
no state is told by colour alone. Text and lines take the theme's own colour.
"""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QRectF, Qt
from qtpy.QtGui import QColor, QPainter, QPalette, QTextOption
from qtpy.QtWidgets import QWidget

from napari_dante.evaluate.colours import viridis

__all__ = ["blue", "faint", "green", "ink", "is_dark", "orange", "paper", "red", "shade", "write"]


def ink(widget: QWidget) -> Any:  # noqa: ANN401
    """Return the theme's text colour."""
    return widget.palette().color(QPalette.ColorRole.WindowText)


def paper(widget: QWidget) -> Any:  # noqa: ANN401
    """Return the theme's background colour."""
    return widget.palette().color(QPalette.ColorRole.Window)


def is_dark(widget: QWidget) -> bool:
    """Whether the theme writes light on dark."""
    return bool(ink(widget).lightness() > paper(widget).lightness())


def faint(widget: QWidget, alpha: int) -> Any:  # noqa: ANN401
    """Return the text colour with `alpha` out of 255, for frames and grids."""
    colour = QColor(ink(widget))
    colour.setAlpha(alpha)
    return colour


def green(widget: QWidget) -> Any:  # noqa: ANN401
    """Return the colour of approved, better and fit."""
    return QColor("#1fc99b" if is_dark(widget) else "#007a59")


def orange(widget: QWidget) -> Any:  # noqa: ANN401
    """Return the colour of edited and not certain."""
    return QColor("#f0b429" if is_dark(widget) else "#a96a00")


def red(widget: QWidget) -> Any:  # noqa: ANN401
    """Return the colour of worse and refused."""
    return QColor("#ff8a4c" if is_dark(widget) else "#c03f00")


def blue(widget: QWidget) -> Any:  # noqa: ANN401
    """Return the colour of what is measured."""
    return QColor("#6cc3f5" if is_dark(widget) else "#00609c")


def shade(value: float) -> Any:  # noqa: ANN401
    """Return the colour of a Dice from 0 to 1, dark violet to light yellow (viridis)."""
    return QColor(viridis(value))


def write(
    painter: QPainter,
    box: QRectF,
    text: str,
    alignment: Any = Qt.AlignmentFlag.AlignLeft,  # noqa: ANN401
) -> None:
    """Draw one line of text; the form that is the same in every Qt binding."""
    option = QTextOption(alignment)
    option.setWrapMode(QTextOption.WrapMode.NoWrap)
    painter.drawText(box, text, option)
