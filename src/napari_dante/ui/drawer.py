"""A part of a card that is folded until somebody wants it."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QSizePolicy, QToolButton, QVBoxLayout, QWidget

__all__ = ["Drawer"]


class Drawer(QWidget):
    """A line with an arrow that folds and unfolds what is below it.

    ``opened`` says that it was unfolded, so that what is costly is only shown then.
    """

    opened = Signal()

    def __init__(self, title: str, body: QWidget) -> None:
        super().__init__()
        self.body = body
        self.handle = QToolButton()
        self.handle.setObjectName("drawer")
        self.handle.setText(title)
        self.handle.setAccessibleName(title)
        self.handle.setCheckable(True)
        self.handle.setAutoRaise(True)
        self.handle.setArrowType(Qt.ArrowType.RightArrow)
        self.handle.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.handle.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.handle.toggled.connect(self._fold)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.handle)
        layout.addWidget(body)
        body.setVisible(False)

    @property
    def is_open(self) -> bool:
        """Whether the body is shown."""
        return bool(self.handle.isChecked())

    def open(self, on: bool = True) -> None:
        """Show or fold the body."""
        self.handle.setChecked(on)

    def _fold(self, on: bool) -> None:
        self.handle.setArrowType(Qt.ArrowType.DownArrow if on else Qt.ArrowType.RightArrow)
        self.body.setVisible(on)
        if on:
            self.opened.emit()
