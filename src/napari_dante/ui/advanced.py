"""What can be set before a lesson by those who want to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from qtpy.QtWidgets import QCheckBox, QFormLayout, QLineEdit, QVBoxLayout, QWidget

from napari_dante.ui.cards import button, text
from napari_dante.ui.controller import Controller
from napari_dante.ui.plan import EXAM, Plan, default_of, options_of

__all__ = ["Advanced"]

_TITLES = {
    "minutes": "At most minutes",
    "steps": "Steps",
    "learning_rate": "Learning rate",
    "rank": "Rank",
    "seed": "Seed",
}
_NO_LIMIT = "no limit"


class Advanced(QWidget):
    """Options of the chosen method; what is left empty is as the method has it."""

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self.auto = text(
            "Automatic sets steps, learning rate and rank itself; choose a method above to set "
            "them.",
            faint=True,
        )
        self.fields: Mapping[str, QLineEdit] = {name: _field(_TITLES[name]) for name in _TITLES}
        self.exam = _field("Slices for the exam, per cent")
        self.exam.setPlaceholderText(f"{EXAM:.0%}")
        self.rehearse = QCheckBox("Rehearse earlier cases")
        self.rehearse.setChecked(True)
        self.rehearse.toggled.connect(lambda _: self._set())
        self.reset = button("As the method has it", self._reset)
        self._form = QFormLayout()
        self._form.setContentsMargins(0, 0, 0, 0)
        for name, field in self.fields.items():
            self._form.addRow(_TITLES[name], field)
        self._form.addRow("Exam", self.exam)
        for field in (*self.fields.values(), self.exam):
            field.textEdited.connect(lambda _: self._set())
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addWidget(self.auto)
        layout.addLayout(self._form)
        layout.addWidget(self.rehearse)
        layout.addWidget(self.reset)

    def refresh(self) -> None:
        """Show the options that the chosen method has."""
        method, plan = self._controller.method, self._controller.plan
        known = options_of(method)
        self.auto.setVisible(method == "auto")
        self.rehearse.setVisible(method != "scratch")
        for name, field in self.fields.items():
            field.setVisible(name in known)
            self._form.labelForField(field).setVisible(name in known)
            if name in known:
                default = default_of(method, name)
                field.setPlaceholderText(_NO_LIMIT if name == "minutes" else default)
        self.reset.setVisible(plan != Plan(others=plan.others))

    def _set(self) -> None:
        options = {name: field.text() for name, field in self.fields.items() if field.text()}
        plan = self._controller.plan
        rehearse = self.rehearse.isChecked()
        self._controller.choose_plan(
            replace(plan, options=options, exam=self.exam.text(), rehearse=rehearse)
        )

    def _reset(self) -> None:
        for field in (*self.fields.values(), self.exam):
            field.clear()
        self.rehearse.setChecked(True)
        self._set()


def _field(name: str) -> QLineEdit:
    field = QLineEdit()
    field.setAccessibleName(name)
    return field
