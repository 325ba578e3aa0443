"""Which structure the brush paints, by name and colour."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from qtpy.QtCore import Signal
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import QComboBox, QSizePolicy, QWidget

from napari_dante.volume import Label

__all__ = ["LabelBox"]

_ANOTHER = "New structure…"
_ERASE = Label("background (erases)", (0.0, 0.0, 0.0))


class LabelBox(QComboBox):
    """The structures of the mask, and a way to a new one.

    ``chosen`` carries the label value a person picked; ``wanted`` says that they want a
    structure that is not there.
    """

    chosen = Signal(int)
    wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._table: dict[int, Label] = {}
        self.setAccessibleName("Structure to paint")
        # A long name is cut off here rather than the panel at its side.
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(8)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.activated.connect(self._activated)

    def show_table(
        self, table: Mapping[int, Label], value: int, locked: Collection[int] = ()
    ) -> None:
        """Show the structures, `value` as the one that is painted, and which are locked."""
        entries = {**table, 0: _ERASE}
        if entries != self._table:
            self._table = entries
            self.clear()
            for label in entries.values():
                self.addItem(_swatch(label.colour), label.name)
            self.addItem(_ANOTHER)
        for place, (key, label) in enumerate(entries.items()):
            self.setItemText(place, f"{label.name} (locked)" if key in locked else label.name)
        self.setCurrentIndex(list(entries).index(value) if value in entries else -1)

    def _activated(self, index: int) -> None:
        if index == len(self._table):
            self.wanted.emit()
        else:
            self.chosen.emit(list(self._table)[index])


def _swatch(colour: tuple[float, float, float]) -> QIcon:
    pixmap = QPixmap(14, 14)
    pixmap.fill(QColor.fromRgbF(*colour))
    return QIcon(pixmap)
