"""The panel: six cards from an image to a shared model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QHideEvent, QShowEvent
from qtpy.QtWidgets import QApplication, QFrame, QScrollArea, QVBoxLayout, QWidget

from napari_dante.model.library import Library
from napari_dante.ui import look
from napari_dante.ui.cards import Card, CardState, MessageBar, text
from napari_dante.ui.controller import Controller
from napari_dante.ui.history import History
from napari_dante.ui.mouse import Mouse
from napari_dante.ui.orientation import Orientation
from napari_dante.ui.states import Step, Task
from napari_dante.ui.steps_mask import CorrectStep, OpenStep, PredictStep
from napari_dante.ui.steps_result import ResultStep
from napari_dante.ui.steps_share import ShareStep
from napari_dante.ui.steps_teach import TeachStep

if TYPE_CHECKING:
    from napari.viewer import Viewer

__all__ = ["DanteDock"]

WIDTH = 340


class DanteDock(QWidget):
    """The panel that napari docks; all it does goes through its `controller`.

    Parameters
    ----------
    viewer
        The viewer it works in.
    library
        Where models are kept; by default the person's own.
    """

    def __init__(self, viewer: Viewer, library: Library | None = None) -> None:
        super().__init__()
        self.controller = Controller(viewer, library, self)
        self._view = (Orientation(viewer), Mouse(viewer))
        self._take_view()
        view = self._view
        self.destroyed.connect(lambda: _release(view))
        self._step: Step | None = None
        self._task: Task | None = None
        self._revealing = _single(self, self._reveal)
        self._styling = _single(self, self._restyle)
        self.status = text()
        self.status.setAccessibleName("State of the background process")
        self.message = MessageBar()
        self.open = OpenStep(self.controller)
        self.predict = PredictStep(self.controller)
        self.correct = CorrectStep(self.controller)
        self.teach = TeachStep(self.controller)
        self.result = ResultStep(self.controller)
        self.share = ShareStep(self.controller)
        self.history = History(self.controller)
        bodies = (self.open, self.predict, self.correct, self.teach, self.result, self.share)
        self.cards = {
            step: Card(step.value, step.name.capitalize(), body)
            for step, body in zip(Step, bodies, strict=True)
        }
        self._build()
        self._connect(viewer)
        self.refresh()

    def _build(self) -> None:
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(0, 2, 0, 4)
        column.setSpacing(5)
        for card in self.cards.values():
            column.addWidget(card)
        column.addWidget(self.history)
        column.addStretch(1)
        self._scroll = QScrollArea()
        self._scroll.setWidget(inner)
        self._scroll.setWidgetResizable(True)
        self._scroll.setFrameShape(QFrame.Shape.NoFrame)
        self._scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.setSpacing(4)
        layout.addWidget(self.status)
        layout.addWidget(self.message)
        layout.addWidget(self._scroll, 1)
        self.setMinimumWidth(WIDTH)

    def _connect(self, viewer: Viewer) -> None:
        controller = self.controller
        controller.changed.connect(self.refresh)
        controller.told.connect(self.predict.take)
        controller.told.connect(self.teach.take)
        controller.failed.connect(self.message.refuse)
        controller.notice.connect(self.message.tell)
        for good in (controller.opened, controller.predicted, controller.taught):
            good.connect(self.refresh)
        viewer.events.theme.connect(self._theme_changed)
        application = QApplication.instance()
        if application is not None:
            # The release of a key that is held goes to whoever has the focus then.
            application.focusChanged.connect(self._focus_changed)

    def refresh(self, _: object = None) -> None:
        """Show the state of everything; unfold the card whose turn it is."""
        step, task = self.controller.step, self.controller.engine.task
        self._show_status()
        for one, card in self.cards.items():
            card.body.refresh()
            card.show_state(self._state(one, step), card.body.summary)
        self.history.refresh()
        if step is not self._step:
            self._step = step
            self.unfold(step)
        if task is not None and task is not self._task:
            self.message.clear()
        self._task = task

    def _state(self, one: Step, step: Step) -> CardState:
        if one < step or (one is Step.SHARE and self.controller.receipt is not None):
            return CardState.DONE
        return CardState.NOW if one is step else CardState.LATER

    def unfold(self, step: Step) -> None:
        """Open the card of `step` and fold the others; correcting shows Teach as well."""
        shown = {step, Step.TEACH} if step is Step.CORRECT else {step}
        for one, card in self.cards.items():
            card.open(one in shown)
        self._revealing.start(0)

    def _reveal(self) -> None:
        """Bring the open card into view, once the layout knows its new height."""
        if self._step is not None:
            self._scroll.ensureWidgetVisible(self.cards[self._step], 0, 0)

    def _show_status(self) -> None:
        engine = self.controller.engine
        if engine.ready is None:
            self.status.setText("○ Starting the background process…")
            return
        ready = engine.ready
        threads = "1 thread" if ready.threads == 1 else f"{ready.threads} threads"
        doing = "ready" if engine.task is None else engine.task.value.lower()
        if engine.paused:
            doing = "paused"
        self.status.setText(f"● {ready.device} · {threads} · {doing}")

    def showEvent(self, event: QShowEvent) -> None:
        """Take the colours of the window that the panel was put into."""
        super().showEvent(event)
        self._take_view()
        self._styling.start(0)

    def hideEvent(self, event: QHideEvent) -> None:
        """Give the view back to napari once the panel is closed."""
        super().hideEvent(event)
        if not event.spontaneous():
            _release(self._view)

    def _take_view(self) -> None:
        for one in self._view:
            one.take()

    def _focus_changed(self, old: object, _: object) -> None:
        """End what is held when its key can be let go unheard, not when a window wakes up."""
        if old is not None:
            self.result.let_go()

    def _theme_changed(self) -> None:
        self._styling.start(0)

    def _restyle(self) -> None:
        accent, soft = look.blue(self).name(), look.faint(self, 190)
        rgba = f"rgba({soft.red()}, {soft.green()}, {soft.blue()}, {soft.alpha()})"
        self.setStyleSheet(
            f"QPushButton#primary:enabled {{ border: 1px solid {accent}; font-weight: bold; }}"
            f"QLabel#faint {{ color: {rgba}; }}"
            f"QLabel#small {{ font-size: {self.font().pointSize()}pt; }}"
        )


def _release(view: tuple[Orientation, Mouse]) -> None:
    for one in view:
        one.release()


def _single(parent: QWidget, do: Callable[[], None]) -> QTimer:
    timer = QTimer(parent)
    timer.setSingleShot(True)
    timer.timeout.connect(do)
    return timer
