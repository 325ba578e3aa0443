"""Two cards: teach, and judge the result."""

from __future__ import annotations

from qtpy.QtWidgets import QComboBox, QVBoxLayout, QWidget

from napari_dante.adapt.recipe import RECIPES
from napari_dante.errors import TeachError
from napari_dante.evaluate.report import ExamReport
from napari_dante.jobs.events import Adjusted, Event, Progress, Started
from napari_dante.ui.cards import ProgressRow, button, row, set_primary, text
from napari_dante.ui.controller import Controller
from napari_dante.ui.curve import LearningCurve
from napari_dante.ui.examcard import ExamCard
from napari_dante.ui.states import Task

__all__ = ["ResultStep", "TeachStep"]

_WHAT = {
    "auto": "The method follows from your slices: how many, how well the model already does, "
    "what is new",
    "scratch": "A fresh network that is fitted to your images, without what the model knows",
    "lora": "LoRA trains a small addition to every layer",
    "unfreeze": "Gradual unfreezing opens the model layer by layer",
    "full": "Full fine-tuning trains every weight from the start",
    "decoder": "Only the second half of the model is trained, what it sees in an image stays",
    "lora-decoder": "Small additions to the first half of the model, the second half is trained "
    "whole: for structures that are new to it",
    "adapter": "The black-box adapter leaves the model as it is and corrects its last step: "
    "quick, for small differences on a similar scan; the result cannot be shared",
}


class TeachStep(QWidget):
    """How to teach, what will happen, and the lesson while it runs."""

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self.method = QComboBox()
        self.method.setAccessibleName("How to teach")
        for method, kind in RECIPES.items():
            self.method.addItem(kind.title, method)
        self.method.activated.connect(
            lambda index: controller.choose_method(self.method.itemData(index))
        )
        self.plan = text(faint=True)
        self.teach = button("Teach", controller.teach, primary=True)
        self.drop = button("Give up this lesson", controller.discard)
        self.curve = LearningCurve()
        self.progress = ProgressRow()
        self.progress.cancelled.connect(controller.cancel)
        self.pause = button("Pause", controller.pause)
        self.stop = button("Stop && keep best", controller.stop)
        layout = QVBoxLayout(self)
        layout.setSpacing(6)
        for widget in (self.method, self.plan, self.teach, self.drop, self.curve, self.progress):
            layout.addWidget(widget)
        layout.addLayout(row(self.pause, self.stop))

    @property
    def summary(self) -> str:
        """One line for the folded card."""
        if self._controller.engine.task is Task.TEACH:
            return "paused" if self._controller.engine.paused else "learning"
        return ""

    def refresh(self) -> None:
        """Show either the plan or the running lesson."""
        controller = self._controller
        running = controller.engine.task is Task.TEACH
        broken = not running and controller.lesson is not None and not controller.lesson.taught
        if running and self.progress.isHidden():
            self.progress.begin()
            self.curve.clear()
        for widget in (self.curve, self.progress, self.pause, self.stop):
            widget.setVisible(running)
        for widget in (self.method, self.teach):
            widget.setVisible(not running)
        self.drop.setVisible(broken)
        self.pause.setText("Go on" if controller.engine.paused else "Pause")
        self.method.setCurrentIndex(list(RECIPES).index(controller.method))
        self.teach.setText("Go on with the lesson" if broken else "Teach")
        if not running:
            plan, possible = self._plan()
            self.plan.setText(plan)
            free = controller.engine.task is None
            undecided = controller.lesson is not None and controller.lesson.taught
            self.teach.setEnabled(free and not undecided and (broken or possible))

    def take(self, event: Event) -> None:
        """Draw the lesson while it runs."""
        if self._controller.engine.task is not Task.TEACH:
            return
        self.curve.take(event)
        if isinstance(event, Started):
            share = 100 * event.trained / max(1, event.parameters)
            what = event.note or f"{RECIPES[event.method].title}."
            self.plan.setText(
                f"{what} {share:.0f} % of the weights learn from {_slices(len(event.learn))}, "
                f"{_slices(len(event.exam))} set aside for the exam. You can go on working."
            )
        elif isinstance(event, Adjusted):
            self.plan.setText(event.sentence)
        elif isinstance(event, Progress):
            self.progress.show_step(event.step, event.total, _left(event.eta))

    def _plan(self) -> tuple[str, bool]:
        try:
            split = self._controller.split
        except TeachError as error:
            return error.sentence, False
        if split is None:
            return "First let a model propose a mask, then correct a few slices.", False
        what = _WHAT[self._controller.method]
        exam = (
            f"{_slices(len(split.exam))} set aside for the exam"
            if split.exam
            else "no exam: correct one or two more slices, a little apart, to get one"
        )
        new = self._controller.new_structures
        more = f" {_listed(new)} will be new to the model." if new else ""
        return f"{what}. It learns from {_slices(len(split.learn))}; {exam}.{more}", True


def _listed(names: tuple[str, ...]) -> str:
    *first, last = (f"'{name}'" for name in names)
    return f"{', '.join(first)} and {last}" if first else last


class ResultStep(QWidget):
    """The exam, a look at the new mask, and the decision."""

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self.exam = ExamCard()
        self.exam.chosen.connect(self._go_to)
        self.look = button("Show the new mask", self._toggle_preview)
        self.keep = button("Keep", controller.keep, primary=True)
        self.discard = button("Discard", controller.discard)
        self.done = text(faint=True)
        layout = QVBoxLayout(self)
        layout.setSpacing(6)
        layout.addWidget(self.exam)
        layout.addWidget(self.look)
        layout.addLayout(row(self.keep, self.discard))
        layout.addWidget(self.done)
        self.summary = ""
        controller.taught.connect(self._show_report)
        controller.kept.connect(lambda _: self._end("kept"))
        controller.discarded.connect(lambda: self._end("discarded"))

    def refresh(self) -> None:
        """Show the decision only while there is one to take."""
        lesson = self._controller.lesson
        undecided = lesson is not None and lesson.taught
        for widget in (self.exam, self.look, self.keep, self.discard):
            widget.setVisible(undecided)
        self.done.setVisible(not undecided)
        self.done.setText(f"Last result: {self.summary}." if self.summary else "No lesson yet.")
        if lesson is not None and lesson.taught:
            seen = lesson.session.previewing
            self.look.setText("Show the present mask" if seen else "Show the new mask")

    def _show_report(self, report: ExamReport | None) -> None:
        """Show the exam, and as the proposed decision the one that it supports."""
        self.exam.show_report(report)
        before = report.mean("before") if report is not None else None
        after = report.mean("after") if report is not None else None
        known = before is not None and after is not None
        self.summary = f"Dice {before:.2f} → {after:.2f}" if known else "not examined"
        better = report is not None and report.verdict == "better"
        set_primary(self.keep, better)
        set_primary(self.discard, report is not None and report.verdict == "worse")

    def _end(self, how: str) -> None:
        self.summary = f"{how}, {self.summary}"

    def _toggle_preview(self) -> None:
        lesson = self._controller.lesson
        if lesson is not None:
            self._controller.preview(not lesson.session.previewing)

    def _go_to(self, index: int) -> None:
        lesson = self._controller.lesson
        if lesson is not None and lesson.session.tracker is not None:
            lesson.session.tracker.go_to(index)


def _slices(number: int) -> str:
    return "1 slice" if number == 1 else f"{number} slices"


def _left(eta: float | None) -> str:
    if eta is None:
        return ""
    return f"{round(eta)} s left" if eta < 100 else f"{round(eta / 60)} min left"
