"""What a lesson leaves for a folder of one's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from qtpy.QtCore import QPoint
from qtpy.QtGui import QPixmap
from qtpy.QtWidgets import QCheckBox, QFileDialog, QGridLayout, QVBoxLayout, QWidget

from napari_dante.errors import DanteError, JobError
from napari_dante.evaluate.run_report import RunReport
from napari_dante.files import atomic_path
from napari_dante.jobs.reporting import pictures_of, write_run
from napari_dante.ui.cards import button, text
from napari_dante.ui.controller import Controller

__all__ = ["Exporting", "save_picture"]

_SHARP = 2.0
"""Pixels of a picture for each pixel of the panel."""


class Exporting(QWidget):
    """The page, the table, the numbers and the pictures of the last lesson."""

    def __init__(self, controller: Controller, exam: QWidget) -> None:
        super().__init__()
        self._controller, self._exam = controller, exam
        self.pictures = QCheckBox("Show exam slices in the page")
        self.warning = text("Pictures of the image are patient data.", faint=True)
        self.page = button("Page (HTML)…", lambda: self._ask(".html"))
        self.scores = button("Scores (CSV)…", lambda: self._ask(".csv"))
        self.numbers = button("All (JSON)…", lambda: self._ask(".json"))
        self.picture = button("Card (PNG)…", lambda: self._ask(".png"))
        grid = QGridLayout()
        grid.setContentsMargins(0, 0, 0, 0)
        for index, one in enumerate((self.page, self.scores, self.numbers, self.picture)):
            grid.addWidget(one, index // 2, index % 2)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(grid)
        layout.addWidget(self.pictures)
        layout.addWidget(self.warning)

    def refresh(self) -> None:
        """Offer what there is: the image and the card only until the decision."""
        lesson = self._controller.lesson
        undecided = lesson is not None and lesson.taught
        for widget in (self.pictures, self.warning, self.picture):
            widget.setVisible(undecided)
        if not undecided:
            self.pictures.setChecked(False)

    def save(self, target: Path) -> None:
        """Write the last lesson; the suffix says as what.

        Raises
        ------
        DanteError
            If there is none, or the disk does not take it.
        """
        report = self._controller.report
        if report is None:
            raise JobError("There is no lesson to export yet.")
        try:
            if target.suffix.lower() == ".png":
                save_picture(self._exam, target)
            else:
                write_run(target, self._with_pictures(report))
        except OSError as error:
            sentence = "The file could not be written; choose another folder."
            raise JobError(sentence, str(error.errno)) from error
        finally:
            self.pictures.setChecked(False)

    def _with_pictures(self, report: RunReport) -> RunReport:
        lesson = self._controller.lesson
        if not self.pictures.isChecked() or lesson is None or lesson.result is None:
            return report
        return replace(report, pictures=pictures_of(lesson.result.comparison))

    def _ask(self, suffix: str) -> None:
        name, _ = QFileDialog.getSaveFileName(self, "Export", f"lesson{suffix}", f"*{suffix}")
        if not name:
            return
        target = Path(name)
        if target.suffix.lower() != suffix:
            target = target.with_name(target.name + suffix)
        try:
            self.save(target)
        except DanteError as error:
            self._controller.failed.emit(error.sentence)


def save_picture(widget: QWidget, target: Path) -> None:
    """Save what a widget shows as PNG.

    Raises
    ------
    OSError
        If the disk does not take it.
    """
    pixmap = QPixmap(widget.size() * _SHARP)
    pixmap.setDevicePixelRatio(_SHARP)
    pixmap.fill(widget.palette().color(widget.backgroundRole()))
    widget.render(pixmap, QPoint())
    with atomic_path(target) as temporary:
        if not pixmap.save(str(temporary), "PNG"):
            raise OSError("Qt could not write the picture")
