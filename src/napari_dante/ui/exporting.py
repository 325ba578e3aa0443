"""What a lesson leaves for a folder of one's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from qtpy.QtCore import QPoint
from qtpy.QtGui import QPixmap
from qtpy.QtWidgets import QCheckBox, QFileDialog, QGridLayout, QVBoxLayout, QWidget

from napari_dante.errors import DanteError, JobError
from napari_dante.evaluate.run_report import RunReport
from napari_dante.files import atomic_path, write_text
from napari_dante.jobs.reporting import pictures_of, write_run
from napari_dante.ui.cards import button, text
from napari_dante.ui.controller import Controller
from napari_dante.ui.examcard import ExamCard

__all__ = ["Exporting", "save_picture"]

_SHARP = 2.0
"""Pixels of a picture for each pixel of the panel."""

_WIDTH = 300
"""Pixels of the panel for what is folded away."""


class Exporting(QWidget):
    """The page, the table, the numbers and the pictures of the last lesson."""

    def __init__(self, controller: Controller, exam: ExamCard) -> None:
        super().__init__()
        self._controller, self._exam = controller, exam
        self.pictures = QCheckBox("Show exam slices in the page")
        self.warning = text("Pictures of the image are patient data.", faint=True)
        self.page = button("Page (HTML)…", lambda: self._ask(".html"))
        self.scores = button("Scores (CSV)…", lambda: self._ask(".csv"))
        self.numbers = button("All (JSON)…", lambda: self._ask(".json"))
        self.picture = button("Card (PNG)…", lambda: self._ask(".png"))
        self.strip = button("Slices (PNG)…", lambda: self._ask(".png", exam.strip))
        self.curve = button("Curve (PNG)…", lambda: self._ask(".png", exam.curve))
        self.steps = button("Curve (CSV)…", lambda: self._ask(".csv", exam.curve))
        self._buttons = (
            *(self.page, self.scores, self.numbers, self.picture),
            *(self.strip, self.curve, self.steps),
        )
        grid = QGridLayout()
        grid.setContentsMargins(0, 0, 0, 0)
        for index, one in enumerate(self._buttons):
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
        for widget in (self.pictures, self.warning, self.picture, self.strip, self.curve):
            widget.setVisible(undecided)
        if not undecided:
            self.pictures.setChecked(False)

    def save(self, target: Path, part: QWidget | None = None) -> None:
        """Write the last lesson; the suffix says as what.

        Parameters
        ----------
        target
            The file.
        part
            The strip or the curve, where that alone is wanted.

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
                save_picture(part or self._exam, target)
            elif part is self._exam.curve:
                write_text(target, report.curve.to_csv())
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

    def _ask(self, suffix: str, part: QWidget | None = None) -> None:
        name, _ = QFileDialog.getSaveFileName(self, "Export", f"lesson{suffix}", f"*{suffix}")
        if not name:
            return
        target = Path(name)
        if target.suffix.lower() != suffix:
            target = target.with_name(target.name + suffix)
        try:
            self.save(target, part)
        except DanteError as error:
            self._controller.failed.emit(error.sentence)


def save_picture(widget: QWidget, target: Path) -> None:
    """Save what a widget shows, or would show with all its room, as PNG.

    Raises
    ------
    OSError
        If the disk does not take it.
    """
    least = widget.sizeHint().height()
    if widget.layout() is None and (not widget.isVisible() or widget.height() < least):
        widget.resize(_WIDTH, least)
    pixmap = QPixmap(widget.size() * _SHARP)
    pixmap.setDevicePixelRatio(_SHARP)
    pixmap.fill(widget.palette().color(widget.backgroundRole()))
    widget.render(pixmap, QPoint())
    with atomic_path(target) as temporary:
        if not pixmap.save(str(temporary), "PNG"):
            raise OSError("Qt could not write the picture")
