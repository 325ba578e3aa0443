"""The fourth card: teach."""

from __future__ import annotations

from dataclasses import replace

from qtpy.QtWidgets import QCheckBox, QComboBox, QVBoxLayout, QWidget

from napari_dante.adapt.recipe import RECIPES
from napari_dante.errors import TeachError
from napari_dante.jobs.events import Adjusted, Elapsed, Event, Progress, Started
from napari_dante.jobs.foreign_job import NO_NEW, OWN_CODE
from napari_dante.ui.advanced import Advanced
from napari_dante.ui.cards import ProgressRow, button, row, text
from napari_dante.ui.controller import Controller
from napari_dante.ui.curve import LearningCurve
from napari_dante.ui.drawer import Drawer
from napari_dante.ui.states import Task
from napari_dante.ui.words import counted

__all__ = ["TeachStep"]

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


_OWN = (
    "The code inside the model's file decides how it learns, apart and without the network; it "
    "can be cancelled, but not paused"
)


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
        self.others = QCheckBox()
        self.others.clicked.connect(self._choose_others)
        self.teach = button("Teach", controller.teach, primary=True)
        self.drop = button("Give up this lesson", controller.discard)
        self.advanced = Advanced(controller)
        self.drawer = Drawer("Advanced", self.advanced)
        self.curve = LearningCurve()
        self.progress = ProgressRow()
        self.progress.cancelled.connect(controller.cancel)
        self.pause = button("Pause", controller.pause)
        self.stop = button("Stop && keep best", controller.stop)
        layout = QVBoxLayout(self)
        layout.setSpacing(6)
        for widget in (
            *(self.method, self.plan, self.others, self.teach, self.drop, self.drawer),
            *(self.curve, self.progress),
        ):
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
        own_code = self._own_code
        self.progress.setVisible(running)
        self.teach.setVisible(not running)
        for widget in (self.curve, self.pause, self.stop):
            widget.setVisible(running and not own_code)
        for widget in (self.method, self.drawer):
            widget.setVisible(not running and not own_code)
        for widget in (self.method, self.drawer):
            widget.setEnabled(not broken)
        self.drop.setVisible(broken)
        others = len(controller.others)
        self.others.setVisible(others > 0 and not running and not broken and not own_code)
        images = "the other image" if others == 1 else f"{others} other images"
        self.others.setText(f"Learn from {images} too")
        self.others.setToolTip("Open images that were corrected for the same structures.")
        self.others.setChecked(controller.plan.others)
        self.pause.setText("Go on" if controller.engine.paused else "Pause")
        self.method.setCurrentIndex(list(RECIPES).index(controller.method))
        self.advanced.refresh()
        self.teach.setText("Go on with the lesson" if broken else "Teach")
        if not running:
            plan, possible = self._plan()
            self.plan.setText(plan)
            free = controller.engine.task is None
            undecided = controller.lesson is not None and controller.lesson.taught
            self.teach.setEnabled(free and not undecided and (broken or possible))

    @property
    def _own_code(self) -> bool:
        """Whether the lesson, or the chosen model where there is none, learns by its own code."""
        lesson = self._controller.lesson
        return lesson.own_code if lesson is not None else self._controller.runs_own_code

    def _choose_others(self, on: bool) -> None:
        self._controller.choose_plan(replace(self._controller.plan, others=on))

    def take(self, event: Event) -> None:
        """Draw the lesson while it runs."""
        if self._controller.engine.task is not Task.TEACH:
            return
        self.curve.take(event)
        if isinstance(event, Started):
            learn, exam = counted(len(event.learn), "slice"), counted(len(event.exam), "slice")
            self.plan.setText(
                f"{_how(event)} from {learn}, {exam} set aside for the exam. You can go on working."
            )
        elif isinstance(event, Elapsed):
            self.progress.show_words(f"{event.what}, {event.seconds:.0f} s")
        elif isinstance(event, Adjusted):
            self.plan.setText(event.sentence)
        elif isinstance(event, Progress):
            self.progress.show_step(event.step, event.total, _left(event.eta))

    def _plan(self) -> tuple[str, bool]:
        controller = self._controller
        lesson = controller.lesson
        if lesson is not None and lesson.taught:
            return "First keep or discard the last result, below.", False
        own_code = self._own_code
        try:
            split = controller.split
            if not own_code:
                controller.recipe()
        except TeachError as error:
            return error.sentence, False
        if split is None:
            return "First let a model propose a mask, then correct a few slices.", False
        what = _OWN if own_code else _WHAT[controller.method]
        exam = (
            f"{counted(len(split.exam), 'slice')} set aside for the exam"
            if split.exam
            else "no exam: correct one or two more slices, a little apart, to get one"
        )
        new = controller.new_structures
        if new and own_code:
            return f"{NO_NEW}, and does not know {_listed(new)}: leave it out to teach.", True
        more = f" {_listed(new)} will be new to the model." if new else ""
        return f"{what}. It learns from {counted(len(split.learn), 'slice')}; {exam}.{more}", True


def _how(event: Started) -> str:
    """Return how a lesson goes, up to what it learns from."""
    if event.method == OWN_CODE:
        return f"{event.note} It learns"
    share = 100 * event.trained / max(1, event.parameters)
    what = event.note or f"{RECIPES[event.method].title}."
    return f"{what} {share:.0f} % of the weights learn"


def _listed(names: tuple[str, ...]) -> str:
    *first, last = (f"'{name}'" for name in names)
    return f"{', '.join(first)} and {last}" if first else last


def _left(eta: float | None) -> str:
    if eta is None:
        return ""
    return f"{round(eta)} s left" if eta < 100 else f"{round(eta / 60)} min left"
