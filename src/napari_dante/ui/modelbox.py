"""A button for model files from elsewhere, and the question that some of them need."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtWidgets import QFileDialog, QVBoxLayout, QWidget

from napari_dante.ui.cards import button, row, text
from napari_dante.ui.states import Task
from napari_dante.ui.taker import Taker

__all__ = ["ModelBox"]

FILES = "Models (*.safetensors *.model);;All files (*)"


class ModelBox(QWidget):
    """Open a model file; where it holds code, what is known of it and the decision."""

    def __init__(self, controller: Taker) -> None:
        super().__init__()
        self._controller = controller
        self.open = button("Open a model file…", self._ask)
        self.question = text()
        self.question.setAccessibleName("Whether to trust this file")
        self.trust = button("Trust this file", controller.trust_model)
        self.leave = button("Do not use it", controller.leave_model)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.open)
        layout.addWidget(self.question)
        layout.addLayout(row(self.trust, self.leave))

    def refresh(self) -> None:
        """Show the question while a file waits for an answer."""
        controller = self._controller
        foreign, task = controller.foreign, controller.engine.task
        for widget in (self.question, self.trust, self.leave):
            widget.setVisible(foreign is not None)
        self.question.setText(foreign.sentence if foreign is not None else "")
        self.open.setEnabled(task is None)
        self.open.setText("Reading it…" if task is Task.TAKE else "Open a model file…")
        self.trust.setEnabled(task is None)

    def _ask(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Open a model", "", FILES)
        if path:
            self._controller.open_model(Path(path))
