"""The versions of the chosen model as a timeline, and what was taught on this computer."""

from __future__ import annotations

from qtpy.QtCore import QRectF, QSize, Qt
from qtpy.QtGui import QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_dante.adapt.recipe import RECIPES
from napari_dante.jobs.cases import CaseBook, Taught
from napari_dante.jobs.foreign_job import OWN_CODE
from napari_dante.model.library import Version
from napari_dante.ui import look
from napari_dante.ui.cards import button, text
from napari_dante.ui.controller import Controller
from napari_dante.ui.drawer import Drawer

__all__ = ["History"]

_OTHERS = {OWN_CODE: "By its own code"}


class History(Drawer):
    """A line from the first version to the last; any of them can be used again."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._shown: tuple[Version, ...] = ()
        self._rows = QVBoxLayout()
        self._rows.setSpacing(0)
        self.cases = text(faint=True)
        body = QWidget()
        layout = QVBoxLayout(body)
        layout.setContentsMargins(6, 0, 6, 0)
        layout.setSpacing(6)
        layout.addLayout(self._rows)
        layout.addWidget(self.cases)
        super().__init__("History", body)
        self.opened.connect(self._fill)
        controller.kept.connect(lambda _: self.refresh())

    @property
    def rows(self) -> list[_Row]:
        """One for each version, the newest first."""
        items = (self._rows.itemAt(index).widget() for index in range(self._rows.count()))
        return [item for item in items if isinstance(item, _Row)]

    def refresh(self) -> None:
        """Show the chosen model, where somebody looks."""
        if self.is_open:
            self._fill()

    def _fill(self) -> None:
        controller = self._controller
        versions = controller.versions
        busy = controller.lesson is not None or controller.engine.task is not None
        if versions != self._shown:
            self._shown = versions
            self._clear()
            for version in reversed(versions):
                self._rows.addWidget(_Row(version, versions, controller))
        for row in self.rows:
            row.use.setEnabled(not busy)
        lineage = versions[-1].lineage if versions else None
        lessons = CaseBook().taught(lineage.model_id) if lineage is not None else ()
        self.cases.setText(_counted(lessons))

    def _clear(self) -> None:
        for row in self.rows:
            self._rows.removeWidget(row)
            row.hide()
            row.deleteLater()


class _Row(QWidget):
    """One version: its place on the line, its words, and a way back to it."""

    def __init__(
        self, version: Version, versions: tuple[Version, ...], controller: Controller
    ) -> None:
        super().__init__()
        self.version = version
        self.words = QLabel(_words(version, _is_left(version, versions)))
        self.words.setTextFormat(Qt.TextFormat.PlainText)
        self.words.setWordWrap(True)
        self.words.setContentsMargins(0, 4, 0, 4)
        self.use = button("Use", lambda: controller.go_back(version.path))
        self.use.setAccessibleName(f"Use version {version.number}")
        self.use.setVisible(not version.current and version.lineage is not None)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addWidget(_Dot(version, versions))
        layout.addWidget(self.words, 1)
        layout.addWidget(self.use)


class _Dot(QWidget):
    """A full dot for the version in use, an empty one for the others, on one line."""

    def __init__(self, version: Version, versions: tuple[Version, ...]) -> None:
        super().__init__()
        self._version = version
        self._newest, self._oldest = version is versions[-1], version is versions[0]
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Expanding)

    def sizeHint(self) -> QSize:
        """Return the width of the line."""
        return QSize(18, 20)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the dot and its part of the line."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        middle, top, bottom = self.height() / 2, 0.0, float(self.height())
        painter.setPen(QPen(look.faint(self, 110), 1.5))
        if not self._newest:
            painter.drawLine(9, int(top), 9, int(middle - 5))
        if not self._oldest:
            painter.drawLine(9, int(middle + 5), 9, int(bottom))
        painter.setPen(QPen(look.green(self), 1.8))
        if self._version.current:
            painter.setBrush(look.green(self))
        painter.drawEllipse(QRectF(4, middle - 5, 10, 10))
        painter.end()


def _is_left(version: Version, versions: tuple[Version, ...]) -> bool:
    """Whether a person went back from this version to an earlier one."""
    return any(one.current and one.number < version.number for one in versions)


def _words(version: Version, left: bool) -> str:
    lineage = version.lineage
    if lineage is None:
        return f"Version {version.number} cannot be read."
    state = ", in use" if version.current else ", rolled back" if left else ""
    lines = [f"Version {version.number}{state} · {lineage.created[:10]}"]
    if lineage.recipe is not None:
        method = lineage.recipe.get("method")
        kind = RECIPES.get(str(method))
        how = kind.title if kind is not None else _OTHERS.get(str(method), "another method")
        known = version.parent is not None
        source = f"version\N{NO-BREAK SPACE}{version.parent}" if known else "another model"
        lines.append(f"{how}, from {source}")
    exam = lineage.exam or {}
    before, after = exam.get("before"), exam.get("after")
    if before is not None and after is not None:
        lines.append(f"Exam: Dice {before:.2f} → {after:.2f}, {exam.get('verdict')}")
    elif lineage.recipe is None:
        lines.append("As it came" if version.number == 0 else "From a server or a file")
    return "\n".join(lines)


def _counted(lessons: tuple[Taught, ...]) -> str:
    if not lessons:
        return "No case was taught to this model on this computer yet."
    cases = "1 case" if len(lessons) == 1 else f"{len(lessons)} cases"
    lines = [
        f"{one.date}: {len(one.learn)} slices learned, {len(one.exam)} kept for the exam"
        for one in lessons
    ]
    return "\n".join([f"{cases} taught to this model here:", *lines])
