"""The last card: share a model."""

from __future__ import annotations

from html import escape

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QLineEdit, QVBoxLayout, QWidget

from napari_dante.federated.gate import fit_to_share
from napari_dante.ui import look
from napari_dante.ui.cards import button, row, text
from napari_dante.ui.controller import Controller
from napari_dante.ui.states import Task

__all__ = ["ShareStep"]


class ShareStep(QWidget):
    """Where to, what leaves, whether it is fit, and the receipt."""

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
        self.lights = QLabel()
        self.lights.setWordWrap(True)
        self.lights.setTextFormat(Qt.TextFormat.RichText)
        self.lights.setAccessibleName("Conditions for sharing")
        self.leaves = text(faint=True)
        self.push = button("Push…", self._ask, primary=True)
        self.sure = button("Push now", self._push, primary=True)
        self.not_now = button("Not now", lambda: self._ask(False))
        self.progress = text()
        self.receipt = text()
        self.receipt.setAccessibleName("Receipt")
        self._asked = False
        layout = QVBoxLayout(self)
        layout.setSpacing(6)
        layout.addWidget(self.url)
        layout.addLayout(row(self.key, self.check))
        for widget in (self.lights, self.leaves, self.push):
            layout.addWidget(widget)
        layout.addLayout(row(self.sure, self.not_now))
        layout.addWidget(self.progress)
        layout.addWidget(self.receipt)

    @property
    def summary(self) -> str:
        """One line for the folded card."""
        receipt = self._controller.receipt
        return (
            "" if receipt is None else _receipt(receipt.before_timestamp, receipt.after_timestamp)
        )

    def refresh(self) -> None:
        """Show the lights, what would leave, and the receipt."""
        controller, offer = self._controller, self._controller.offer
        task = controller.engine.task
        self.check.setEnabled(task is None and controller.model is not None)
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
        self.progress.setVisible(task in (Task.CHECK, Task.PUSH))
        self.progress.setText(f"{task.value}…" if task is not None else "")
        self.receipt.setVisible(sent)
        self.receipt.setText(f"✓ {self.summary}" if sent else "")
        self._show_offer()

    def _show_offer(self) -> None:
        offer = self._controller.offer
        if offer is None:
            self.leaves.setText(
                f"Model: {self._controller.model or 'none'}. Checking sends nothing but the key."
            )
            return
        good, bad = look.green(self).name(), look.red(self).name()
        signs = {
            True: f'<span style="color:{good}">✔</span>',
            False: f'<span style="color:{bad}">✘</span>',
        }
        lines = [f"{signs[light.ok]} {escape(light.sentence)}" for light in offer.lights]
        self.lights.setText("<br>".join(lines))
        dice = f", its exam score {offer.dice:.2f}" if offer.dice is not None else ""
        self.leaves.setText(
            f"Leaves for {offer.server}: the weights of {offer.name} "
            f"({offer.size / 1e6:.1f} MB){dice}.\n"
            "Stays here: images, masks, names, paths, DICOM tags."
        )

    def _check(self) -> None:
        self._controller.check(self.url.text().strip(), self.key.text() or None)
        self.key.clear()

    def _ask(self, on: bool = True) -> None:
        self._asked = on
        self.refresh()

    def _push(self) -> None:
        self._asked = False
        self._controller.push()


def _receipt(before: str, after: str | None) -> str:
    if after is None:
        return f"Sent; the server had version {before} and will merge it later."
    return f"Merged: version {before} → {after}"
