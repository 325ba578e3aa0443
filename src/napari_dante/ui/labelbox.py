"""Which structure the brush paints, by name and colour."""

from __future__ import annotations

from collections.abc import Mapping

from qtpy.QtCore import Signal
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import QComboBox, QSizePolicy, QWidget

from napari_dante.volume import Label

__all__ = ["LabelBox"]

_ERASE = Label("background (erases)", (0.0, 0.0, 0.0))


class LabelBox(QComboBox):
    """The structures of the model; ``chosen`` carries the label value a person picked."""

    chosen = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._table: dict[int, Label] = {}
        self.setAccessibleName("Structure to paint")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.activated.connect(lambda index: self.chosen.emit(list(self._table)[index]))

    def show_table(self, table: Mapping[int, Label], value: int) -> None:
        """Show the structures, and `value` as the one that is painted."""
        wanted = {**table, 0: _ERASE}
        if wanted != self._table:
            self._table = wanted
            self.clear()
            for label in wanted.values():
                self.addItem(_swatch(label.colour), label.name)
        self.setCurrentIndex(list(wanted).index(value) if value in wanted else -1)


def _swatch(colour: tuple[float, float, float]) -> QIcon:
    pixmap = QPixmap(14, 14)
    pixmap.fill(QColor.fromRgbF(*colour))
    return QIcon(pixmap)
