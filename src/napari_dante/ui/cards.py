"""The building blocks of the panel: folding cards, the message bar, a progress row."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from qtpy.QtCore import QRectF, QSize, Qt, Signal
from qtpy.QtGui import QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import (
    QAbstractButton,
    QFrame,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_dante.ui import look

__all__ = ["Card", "CardState", "MessageBar", "ProgressRow", "button", "row", "set_primary", "text"]


class CardState(Enum):
    """Whether a card's turn is later, now or over."""

    LATER = "later"
    NOW = "now"
    DONE = "done"


class _Header(QAbstractButton):
    """Number or tick, title, and one line of summary while the card is folded."""

    def __init__(self, number: int, title: str) -> None:
        super().__init__()
        self.number, self.title, self.summary = number, title, ""
        self.state = CardState.LATER
        self.setCheckable(True)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName(f"Step {number}: {title}")

    def sizeHint(self) -> QSize:
        return QSize(200, max(28, self.fontMetrics().height() + 12))

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        middle = Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft
        badge = QRectF(6, self.height() / 2 - 9, 18, 18)
        self._paint_badge(painter, badge)
        font = painter.font()
        font.setBold(self.state is CardState.NOW)
        painter.setFont(font)
        painter.setPen(look.faint(self, 255 if self.state is not CardState.LATER else 170))
        width = painter.fontMetrics().horizontalAdvance(self.title)
        look.write(painter, QRectF(32, 0, width + 6, self.height()), self.title, middle)
        font.setBold(False)
        painter.setFont(font)
        painter.setPen(look.faint(self, 190))
        left, right = 32 + width + 10, self.width() - 22
        room = painter.fontMetrics().elidedText(
            "" if self.isChecked() else self.summary, Qt.TextElideMode.ElideRight, right - left
        )
        look.write(painter, QRectF(left, 0, right - left + 4, self.height()), room, middle)
        sign = "▾" if self.isChecked() else "▸"
        look.write(painter, QRectF(right + 6, 0, 16, self.height()), sign, middle)
        if self.hasFocus():
            painter.setPen(QPen(look.faint(self, 120), 1, Qt.PenStyle.DotLine))
            painter.drawRect(self.rect().adjusted(2, 2, -3, -3))
        painter.end()

    def _paint_badge(self, painter: QPainter, badge: QRectF) -> None:
        centre = Qt.AlignmentFlag.AlignCenter
        colours = {
            CardState.LATER: look.faint(self, 110),
            CardState.NOW: look.blue(self),
            CardState.DONE: look.green(self),
        }
        colour = colours[self.state]
        painter.setPen(QPen(colour, 1.5))
        painter.setBrush(colour if self.state is CardState.NOW else Qt.BrushStyle.NoBrush)
        painter.drawEllipse(badge)
        painter.setPen(look.paper(self) if self.state is CardState.NOW else colour)
        sign = "✓" if self.state is CardState.DONE else str(self.number)
        look.write(painter, badge, sign, centre)


class Card(QFrame):
    """One step: a header that folds and unfolds its body."""

    def __init__(self, number: int, title: str, body: QWidget) -> None:
        super().__init__()
        self.body = body
        self._header = _Header(number, title)
        self._header.toggled.connect(self._fold)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(1, 1, 1, 1)
        layout.setSpacing(0)
        layout.addWidget(self._header)
        layout.addWidget(body)
        margins = body.layout().contentsMargins()
        body.layout().setContentsMargins(10, 2, 10, max(10, margins.bottom()))
        body.setVisible(False)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Preferred)

    @property
    def is_open(self) -> bool:
        """Whether the body is shown."""
        return bool(self._header.isChecked())

    def open(self, on: bool) -> None:
        """Show or fold the body."""
        self._header.setChecked(on)

    def show_state(self, state: CardState, summary: str) -> None:
        """Say in the header how far this step is."""
        self._header.state, self._header.summary = state, summary
        self._header.setAccessibleDescription(f"{state.value}. {summary}")
        self._header.update()
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw a frame, stronger around the step whose turn it is."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        now = self._header.state is CardState.NOW
        painter.setPen(QPen(look.blue(self) if now else look.faint(self, 60), 1.0))
        painter.drawRoundedRect(QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5), 4, 4)
        painter.end()

    def _fold(self, on: bool) -> None:
        self.body.setVisible(on)
        self._header.update()


class MessageBar(QFrame):
    """One plain sentence at the top of the panel, until it is closed or replaced."""

    def __init__(self) -> None:
        super().__init__()
        self._refusal = False
        self._text = text()
        self._text.setAccessibleName("Message")
        close = QToolButton()
        close.setText("\N{MULTIPLICATION SIGN}")
        close.setAccessibleName("Close the message")
        close.clicked.connect(self.clear)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(10, 6, 4, 6)
        layout.addWidget(self._text, 1)
        layout.addWidget(close, 0, Qt.AlignmentFlag.AlignTop)
        self.setVisible(False)

    @property
    def sentence(self) -> str:
        """What is shown; empty when nothing is."""
        return str(self._text.text())[2:] if not self.isHidden() else ""

    def refuse(self, sentence: str) -> None:
        """Show why something could not be done."""
        self._show(sentence, refusal=True)

    def tell(self, sentence: str) -> None:
        """Show something worth knowing."""
        self._show(sentence, refusal=False)

    def clear(self) -> None:
        """Hide the message."""
        self.setVisible(False)

    def _show(self, sentence: str, *, refusal: bool) -> None:
        self._refusal = refusal
        self._text.setText(f"{'⚠' if refusal else '●'} {sentence}")
        self.setVisible(True)
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw a frame with a coloured edge."""
        painter = QPainter(self)
        colour = look.red(self) if self._refusal else look.blue(self)
        painter.setPen(QPen(colour, 1.0))
        painter.drawRect(self.rect().adjusted(0, 0, -1, -1))
        painter.fillRect(0, 0, 4, self.height(), colour)
        painter.end()


class ProgressRow(QWidget):
    """A bar, what is left, and a way out; hidden while nothing runs."""

    cancelled = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._bar = QProgressBar()
        self._bar.setTextVisible(False)
        self._bar.setFixedHeight(10)
        self._label = text()
        self._cancel = button("Cancel", self.cancelled.emit)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._bar, 1)
        layout.addWidget(self._label)
        layout.addWidget(self._cancel)
        self.setVisible(False)

    def begin(self) -> None:
        """Show an empty bar that only says that something goes on."""
        self._bar.setRange(0, 0)
        self._label.setText("")
        self.setVisible(True)

    def show_words(self, words: str) -> None:
        """Show what goes on where nobody knows how far it is."""
        self._bar.setRange(0, 0)
        self._label.setText(words)

    def show_step(self, step: int, total: int, words: str) -> None:
        """Show how far it is."""
        self._bar.setRange(0, max(1, total))
        self._bar.setValue(step)
        self._label.setText(words)


def text(content: str = "", *, faint: bool = False) -> QLabel:
    """Return a label for whole sentences; what comes from files is never taken for markup."""
    label = QLabel(content)
    label.setWordWrap(True)
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setObjectName("faint" if faint else "")
    return label


def button(title: str, do: Callable[[], object], *, primary: bool = False) -> QPushButton:
    """Return a button; the primary one of a card stands out."""
    made = QPushButton(title)
    made.setObjectName("primary" if primary else "")
    made.clicked.connect(lambda _=False: do())
    return made


def set_primary(button: QPushButton, on: bool) -> None:
    """Make a button stand out, or not."""
    button.setObjectName("primary" if on else "")
    button.style().unpolish(button)
    button.style().polish(button)


def row(*widgets: QWidget) -> QHBoxLayout:
    """Return widgets side by side."""
    layout = QHBoxLayout()
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(6)
    for widget in widgets:
        layout.addWidget(widget)
    return layout
