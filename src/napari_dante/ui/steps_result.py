"""The fifth card: judge the result."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QLabel, QVBoxLayout, QWidget

from napari_dante.evaluate.colours import MISTAKES
from napari_dante.evaluate.report import ExamReport
from napari_dante.ui.cards import button, row, set_primary, text
from napari_dante.ui.compare import ERRORS_KEY, HOLD_KEY, WORDS
from napari_dante.ui.controller import Controller
from napari_dante.ui.drawer import Drawer
from napari_dante.ui.examcard import ExamCard
from napari_dante.ui.exporting import Exporting

__all__ = ["ResultStep"]

_MODELS = {"after": "of the new model", "before": "of the old model"}


class ResultStep(QWidget):
    """The exam, a look at the new mask and at what is wrong in it, and the decision."""

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self.exam = ExamCard()
        self.exam.chosen.connect(self._go_to)
        self.look = button("Show the new mask", self._toggle_preview)
        self.errors = button(f"Errors ({ERRORS_KEY})", self._toggle_errors)
        self.errors.setCheckable(True)
        self.whose = QComboBox()
        self.whose.setAccessibleName("Whose errors are shown")
        for when, words in _MODELS.items():
            self.whose.addItem(words, when)
        self.whose.activated.connect(self._choose_errors)
        self.legend = QLabel()
        self.legend.setWordWrap(True)
        self.legend.setTextFormat(Qt.TextFormat.RichText)
        self.legend.setAccessibleName("What the colours of the errors mean")
        self.hint = text(f"Hold {HOLD_KEY} to see the old model's mask.", faint=True)
        self.keep = button("Keep", controller.keep, primary=True)
        self.discard = button("Discard", controller.discard)
        self.done = text(faint=True)
        self.exporting = Exporting(controller, self.exam)
        self.export = Drawer("Export", self.exporting)
        layout = QVBoxLayout(self)
        layout.setSpacing(6)
        layout.addWidget(self.exam)
        layout.addWidget(self.look)
        layout.addLayout(row(self.errors, self.whose))
        layout.addWidget(self.legend)
        layout.addWidget(self.hint)
        layout.addLayout(row(self.keep, self.discard))
        layout.addWidget(self.done)
        layout.addWidget(self.export)
        self.summary = ""
        controller.taught.connect(self._show_report)
        controller.kept.connect(lambda _: self._end("kept"))
        controller.discarded.connect(lambda: self._end("discarded"))

    def refresh(self) -> None:
        """Show the decision only while there is one to take."""
        lesson = self._controller.lesson
        undecided = lesson is not None and lesson.taught
        for widget in (
            *(self.exam, self.look, self.errors, self.whose, self.hint),
            *(self.keep, self.discard),
        ):
            widget.setVisible(undecided)
        self.done.setVisible(not undecided)
        self.done.setText(f"Last result: {self.summary}." if self.summary else "No lesson yet.")
        self.export.setVisible(self._controller.report is not None)
        self.exporting.refresh()
        overlays = lesson.overlays if lesson is not None else None
        self.legend.setVisible(overlays is not None and overlays.errors is not None)
        if lesson is None or overlays is None:
            return
        overlays.follow()
        seen = lesson.session.previewing
        self.look.setText("Show the present mask" if seen else "Show the new mask")
        self.errors.setChecked(overlays.errors is not None)
        self.whose.setCurrentIndex(list(_MODELS).index(overlays.which))
        self.legend.setText(_legend(overlays.has_truth))

    def let_go(self) -> None:
        """Take back what a key shows that nobody may be holding any more."""
        lesson = self._controller.lesson
        if lesson is not None and lesson.overlays is not None:
            lesson.overlays.let_go()

    def _show_report(self, exam: ExamReport | None) -> None:
        """Show the exam, and as the proposed decision the one that it supports."""
        report = self._controller.report
        if report is None:
            return
        self.exam.show_report(exam, report.slices, report.curve)
        before = exam.mean("before") if exam is not None else None
        after = exam.mean("after") if exam is not None else None
        known = before is not None and after is not None
        self.summary = f"Dice {before:.2f} → {after:.2f}" if known else "not examined"
        better = exam is not None and exam.verdict == "better"
        set_primary(self.keep, better)
        set_primary(self.discard, exam is not None and exam.verdict == "worse")

    def _end(self, how: str) -> None:
        self.summary = f"{how}, {self.summary}"

    def _toggle_preview(self) -> None:
        lesson = self._controller.lesson
        if lesson is not None:
            self._controller.preview(not lesson.session.previewing)

    def _toggle_errors(self) -> None:
        lesson = self._controller.lesson
        if lesson is not None and lesson.overlays is not None:
            lesson.overlays.toggle_errors()

    def _choose_errors(self, index: int) -> None:
        lesson = self._controller.lesson
        if lesson is not None and lesson.overlays is not None:
            lesson.overlays.show_errors(self.whose.itemData(index))

    def _go_to(self, index: int) -> None:
        lesson = self._controller.lesson
        if lesson is not None and lesson.session.tracker is not None:
            lesson.session.tracker.go_to(index)


def _legend(has_truth: bool) -> str:
    signs = " ".join(
        f'<span style="color:{MISTAKES[kind]}">■</span>&nbsp;{words.replace(" ", "&nbsp;")}'
        for kind, words in WORDS.items()
    )
    where = (
        "The stronger, the farther off. Only on slices that you corrected."
        if has_truth
        else "<b>Nothing is known on this slice:</b> you did not correct it."
    )
    return f"{signs}<br>{where}"
