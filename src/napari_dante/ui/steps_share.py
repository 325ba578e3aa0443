"""The last card: share a model, and see what became of it and what is new."""

from __future__ import annotations

from html import escape

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QLineEdit, QVBoxLayout, QWidget

from napari_dante.federated.gate import Light, fit_to_share
from napari_dante.federated.outbox import Item
from napari_dante.jobs.events import Event, Progress
from napari_dante.ui import look
from napari_dante.ui.cards import ProgressRow, button, row, set_primary, text
from napari_dante.ui.controller import Controller
from napari_dante.ui.states import Task

__all__ = ["ShareStep"]

_OURS = (Task.CHECK, Task.PUSH, Task.RETRY, Task.LOOK)
_CANCELLABLE = (Task.CHECK, Task.LOOK)
_MARKS = {"merged": "✔ ", "refused": "✘ "}
_STATES = {
    "waiting": "waits to be sent to",
    "sending": "is on its way to",
    "unknown": "was sent, and may or may not have arrived at",
    "sent": "is not proven to be merged yet at",
}


class ShareStep(QWidget):
    """Where to, what leaves, whether it is fit, the receipt, what waits and what is new."""

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self.url = QLineEdit(controller.settings.server)
        self.url.setPlaceholderText("https://www.dafne.network/api")
        self.url.setAccessibleName("Address of the Dafne server")
        self.key = QLineEdit()
        self.key.setEchoMode(QLineEdit.EchoMode.Password)
        self.key.setPlaceholderText("API key, only if it is not known yet")
        self.key.setAccessibleName("API key")
        self.check = button("Check", self._check)
        self.look = button("Look for a newer version", self._look)
        self.lights = QLabel()
        self.lights.setWordWrap(True)
        self.lights.setTextFormat(Qt.TextFormat.RichText)
        self.lights.setAccessibleName("Conditions for sharing")
        self.leaves = text(faint=True)
        self.push = button("Push…", self._ask, primary=True)
        self.sure = button("Push now", self._push, primary=True)
        self.not_now = button("Not now", lambda: self._ask(False))
        self.doing = text()
        self.progress = ProgressRow()
        self.progress.cancelled.connect(controller.cancel)
        controller.told.connect(self._take)
        self.receipt = text()
        self.receipt.setAccessibleName("Receipt")
        self.news = NewsBox(controller)
        self.outbox = OutboxBox(controller)
        self._asked = False
        layout = QVBoxLayout(self)
        layout.setSpacing(6)
        layout.addWidget(self.url)
        layout.addLayout(row(self.key, self.check))
        for widget in (self.lights, self.leaves, self.push):
            layout.addWidget(widget)
        layout.addLayout(row(self.sure, self.not_now))
        for widget in (self.doing, self.progress, self.receipt, self.outbox, self.look, self.news):
            layout.addWidget(widget)

    @property
    def summary(self) -> str:
        """One line for the folded card."""
        receipt, waiting = self._controller.receipt, len(self._controller.outbox)
        if receipt is not None:
            return receipt.sentence
        return f"{waiting} in the outbox" if waiting else ""

    def refresh(self) -> None:
        """Show the lights, what would leave, the receipt, what waits and what is new."""
        controller, offer = self._controller, self._controller.offer
        task = controller.engine.task
        for widget in (self.check, self.look):
            able = controller.model is not None and not controller.runs_own_code
            widget.setEnabled(task is None and able)
        fit = offer is not None and fit_to_share(offer.lights)
        sent = controller.receipt is not None
        self.lights.setVisible(offer is not None and not sent)
        self.leaves.setVisible(not sent)
        ready = fit and not sent and task is None
        self._asked = self._asked and ready
        self.push.setVisible(offer is not None and not sent and not self._asked)
        self.push.setEnabled(ready)
        self.sure.setVisible(self._asked)
        self.not_now.setVisible(self._asked)
        self._show_task(task)
        self.receipt.setVisible(sent)
        if controller.receipt is not None:
            mark = _MARKS.get(controller.receipt.outcome, "○ Sent. ")
            self.receipt.setText(mark + controller.receipt.sentence)
        self._show_offer()
        self.news.refresh()
        self.outbox.refresh()

    def _show_task(self, task: Task | None) -> None:
        self.doing.setVisible(task in _OURS)
        self.doing.setText(f"{task.value}…" if task is not None else "")
        if task not in _CANCELLABLE:
            self.progress.setVisible(False)
        elif self.progress.isHidden():
            self.progress.begin()

    def _take(self, event: Event) -> None:
        """Show how far the exam is."""
        if isinstance(event, Progress) and self._controller.engine.task in _CANCELLABLE:
            self.progress.show_step(event.step, event.total, "")

    def _show_offer(self) -> None:
        offer = self._controller.offer
        if offer is None:
            self.leaves.setText(
                f"Model: {self._controller.model or 'none'}. Checking sends nothing but the key."
            )
            return
        self.lights.setText("<br>".join(self._light(light) for light in offer.lights))
        dice = f", its exam score {offer.dice:.2f}" if offer.dice is not None else ""
        cases = f", how many images it learned from ({offer.cases})" if offer.cases else ""
        self.leaves.setText(
            f"Leaves for {offer.server}: the weights of {offer.name} "
            f"({offer.size / 1e6:.1f} MB){dice}{cases}.\n"
            "Stays here: images, masks, names, paths, DICOM tags."
        )

    def _light(self, light: Light) -> str:
        if light.ok is None:
            return f"○ {escape(light.sentence)}"
        colour = look.green(self) if light.ok else look.red(self)
        sign = "✔" if light.ok else "✘"
        return f'<span style="color:{colour.name()}">{sign}</span> {escape(light.sentence)}'

    def _check(self) -> None:
        self._controller.check(self.url.text().strip(), self.key.text() or None)
        self.key.clear()

    def _look(self) -> None:
        self._controller.look(self.url.text().strip(), self.key.text() or None)
        self.key.clear()

    def _ask(self, on: bool = True) -> None:
        self._asked = on
        self.refresh()

    def _push(self) -> None:
        self._asked = False
        self._controller.push()


class NewsBox(QWidget):
    """A newer version of the server, how it does on the corrected slices, and the decision."""

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self.text = text()
        self.use = button("Use it", controller.use_news)
        self.leave = button("Keep mine", controller.leave_news)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.text)
        layout.addLayout(row(self.use, self.leave))

    def refresh(self) -> None:
        """Show it while there is something to decide; the exam proposes what."""
        news, task = self._controller.news, self._controller.engine.task
        self.setVisible(news is not None)
        if news is None:
            return
        verdict = news.report.verdict if news.report is not None else None
        said = (
            news.report.sentence
            if news.report is not None
            else "It was not examined: no corrected slice is open."
        )
        self.text.setText(f"The server has version {news.version}. {said}")
        set_primary(self.use, verdict == "better")
        set_primary(self.leave, verdict == "worse")
        self.use.setEnabled(task is None)


class OutboxBox(QWidget):
    """What waits to be sent or to be merged, and a button to try again."""

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self.text = text(faint=True)
        self.text.setAccessibleName("Outbox")
        self.retry = button("Retry", controller.retry)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.text)
        layout.addWidget(self.retry)

    def refresh(self) -> None:
        """Show one line for each item."""
        items = self._controller.outbox
        self.setVisible(bool(items))
        self.text.setText("\n".join(_line(item) for item in items))
        self.retry.setEnabled(self._controller.engine.task is None)


def _line(item: Item) -> str:
    reason = f": {item.reason}" if item.reason else "."
    return f"'{item.name}' {_STATES[item.state]} {item.server}{reason}"
