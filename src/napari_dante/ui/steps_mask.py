"""The first three cards: open an image, let a model propose a mask, correct it."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QInputDialog,
    QListWidget,
    QMenu,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_dante.errors import TeachError
from napari_dante.evaluate.split import Split
from napari_dante.jobs.events import Event, Progress
from napari_dante.model.library import number_of
from napari_dante.ui.cards import ProgressRow, button, row, text
from napari_dante.ui.controller import Controller
from napari_dante.ui.labelbox import LabelBox
from napari_dante.ui.layers import VIEWS
from napari_dante.ui.modelbox import ModelBox
from napari_dante.ui.samples import SAMPLES, sample_path
from napari_dante.ui.states import SliceState, Task
from napari_dante.ui.strip import SliceStrip
from napari_dante.ui.words import counted
from napari_dante.volume.open import VolumeInfo

__all__ = ["CorrectStep", "OpenStep", "PredictStep"]

_LEGEND = (
    "Hatched: the model is unsure. Orange: corrected. Green: approved. Blue: kept for the exam. "
)
_HINT = (
    "Keys: 2 paint, 1 erase, 4 fill, [ ] brush size, Q W structure, Ctrl+Z undo. "
    "Mouse: wheel slices, Ctrl+wheel zoom, right-drag window."
)
_TIMES = " \N{MULTIPLICATION SIGN} "
FILES = (
    "Images (*.nii *.nii.gz *.hdr *.img *.mgh *.mgz *.nrrd *.nhdr *.dcm *.ima DICOMDIR *.zip)"
    ";;All files (*)"
)


class OpenStep(QWidget):
    """Files, folders, samples, and which of the open images one works on."""

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self.samples = QPushButton("Try a sample")
        self.samples.setMenu(self._sample_menu())
        self.series = QListWidget()
        self.series.setAccessibleName("Series in this folder")
        self.series.setMaximumHeight(110)
        self.series.itemActivated.connect(lambda _: self._choose_series())
        self.series.itemClicked.connect(lambda _: self._choose_series())
        self.image = QComboBox()
        self.image.setAccessibleName("Image to work on")
        self.image.activated.connect(self._choose_image)
        self.about = text(faint=True)
        layout = QVBoxLayout(self)
        layout.setSpacing(6)
        files = button("Open file…", self._ask_file), button("Open folder…", self._ask_folder)
        layout.addLayout(row(*files))
        layout.addWidget(self.samples)
        for widget in (self.series, self.image, self.about):
            layout.addWidget(widget)

    @property
    def summary(self) -> str:
        """One line for the folded card."""
        session = self._controller.session
        return session.image.name if session is not None else ""

    def refresh(self) -> None:
        """Show what is open."""
        controller = self._controller
        sessions, session = controller.sessions, controller.session
        self.image.clear()
        self.image.addItems([one.image.name for one in sessions])
        self.image.setVisible(bool(sessions))
        if session is None:
            self.about.setText(
                "A NIfTI file or a DICOM folder; dropping it on the viewer works too."
            )
        else:
            self.image.setCurrentIndex(sessions.index(session))
            shape = _TIMES.join(str(size) for size in session.geometry.shape)
            spacing = _TIMES.join(f"{step:.3g}" for step in session.geometry.spacing)
            self.about.setText(
                f"{shape} voxels of {spacing} mm, stored {session.geometry.orientation}"
            )
        self._show_series()

    def _show_series(self) -> None:
        series = self._controller.series
        self.series.setVisible(series is not None)
        if series is not None and self.series.count() != len(series.volumes):
            self.series.clear()
            self.series.addItems([_series_line(volume) for volume in series.volumes])
        elif series is None:
            self.series.clear()

    def _choose_series(self) -> None:
        series = self._controller.series
        if series is not None:
            chosen = series.volumes[self.series.currentRow()]
            self._controller.open_volume(series.path, chosen.id)

    def _choose_image(self, index: int) -> None:
        self._controller.choose_image(self._controller.sessions[index])

    def _sample_menu(self) -> QMenu:
        menu = QMenu(self)
        for key, title in SAMPLES.items():
            menu.addAction(title).triggered.connect(
                lambda _=False, key=key, title=title: self._controller.open_volume(
                    sample_path(key), name=title
                )
            )
        return menu

    def _ask_file(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Open an image", "", FILES)
        if path:
            self._controller.open_volume(Path(path))

    def _ask_folder(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Open a DICOM folder")
        if path:
            self._controller.open_volume(Path(path))


def _series_line(volume: VolumeInfo) -> str:
    shape = _TIMES.join(str(size) for size in volume.shape)
    name = volume.description or volume.modality
    return f"{name}: {shape}, {volume.spacing[2]:.3g} mm slices ({volume.id})"


class PredictStep(QWidget):
    """Which model, what it knows, and the button."""

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self.model = QComboBox()
        self.model.setAccessibleName("Model")
        self.model.textActivated.connect(controller.choose_model)
        self.about = text(faint=True)
        self.file = ModelBox(controller)
        self.predict = button("Predict", controller.predict, primary=True)
        self.adopt = button("Correct the open mask", controller.adopt)
        self.restore = button("Restore", controller.restore)
        self.progress = ProgressRow()
        self.progress.cancelled.connect(controller.cancel)
        layout = QVBoxLayout(self)
        layout.setSpacing(6)
        for widget in (
            *(self.model, self.about, self.restore),
            *(self.predict, self.adopt, self.progress, self.file),
        ):
            layout.addWidget(widget)

    @property
    def summary(self) -> str:
        """One line for the folded card."""
        return self._controller.model or ""

    def refresh(self) -> None:
        """Show the models and whether one can be asked."""
        controller = self._controller
        self.model.clear()
        self.model.addItems(controller.models)
        self.model.setCurrentText(controller.model or "")
        self.about.setText(self._about())
        self.file.refresh()
        running = controller.engine.task is Task.PREDICT
        if running and self.progress.isHidden():
            self.progress.begin()
        self.progress.setVisible(running)
        self.predict.setVisible(not running)
        session = controller.session
        fresh = session is not None and session.tracker is None and bool(session.masks())
        self.adopt.setVisible(fresh and not running)
        saved = session.saved if session is not None and session.tracker is None else None
        self.restore.setVisible(saved is not None and not running)
        if saved is not None:
            self.restore.setText(f"Restore {len(saved[1].slices)} corrected slices")
        free = controller.engine.task is None
        self.predict.setEnabled(
            free and controller.session is not None and controller.model is not None
        )

    def take(self, event: Event) -> None:
        """Show how far the prediction is."""
        if isinstance(event, Progress) and self._controller.engine.task is Task.PREDICT:
            self.progress.show_step(event.step, event.total, "")

    def _about(self) -> str:
        header = self._controller.header
        if self._controller.model is None:
            return "There is no model on this computer yet."
        if self._controller.runs_own_code:
            return (
                "Runs by the code inside its file, which you trusted, apart and without the "
                "network. It proposes masks and learns from corrections; it cannot be shared here."
            )
        if header is None:
            return "This model cannot be read; choose another one."
        spec, lineage = header
        number = number_of(self._controller.library.resolve(self._controller.model))
        labels = ", ".join(label.name for label in spec.labels)
        exam = lineage.exam or {}
        after = exam.get("after")
        taught = f" Taught here: mean Dice {after:.2f} in its exam." if after is not None else ""
        card = lineage.card
        made = f" For: {card.about()}. {card.scores()}." if card is not None else ""
        return f"Version {number} of {lineage.created[:10]}. Finds {labels}.{made}{taught}"


class CorrectStep(QWidget):
    """The slice strip, what to correct next, and with which structure."""

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self.count = text()
        self.strip = SliceStrip()
        self.strip.chosen.connect(self._go_to)
        self.label = LabelBox()
        self.label.chosen.connect(self._paint_with)
        self.label.wanted.connect(self._add_structure)
        self.lock = QPushButton("Lock")
        self.lock.setCheckable(True)
        self.lock.setToolTip("A locked structure can grow; no tool takes anything from it.")
        self.lock.clicked.connect(self._lock)
        self.approve = button("Approve slice (A)", self._approve)
        self.next = button("Next suggested (N)", self._next)
        self.next.setToolTip(
            "The slice where the model is most unsure, far from what is corrected already. "
            "Shift+N goes back."
        )
        self.fill = button("Fill between slices (I)", self._fill)
        self.fill.setToolTip(
            "Fills the chosen structure between the corrected or approved slices that show it."
        )
        self.hint = text(faint=True)
        layout = QVBoxLayout(self)
        layout.setSpacing(6)
        layout.addWidget(self.count)
        layout.addWidget(self.strip)
        layout.addLayout(row(self.approve, self.next))
        layout.addLayout(row(text("Paint"), self.label, self.lock))
        layout.addWidget(self.fill)
        layout.addWidget(self.hint)

    @property
    def summary(self) -> str:
        """One line for the folded card."""
        states = self._controller.session.states if self._controller.session is not None else []
        approved, edited = states.count(SliceState.APPROVED), states.count(SliceState.EDITED)
        return f"{approved} approved, {edited} edited" if approved + edited else ""

    def refresh(self) -> None:
        """Show what was corrected and which slice is on the screen."""
        session = self._controller.session
        tracker = session.tracker if session is not None else None
        self.setEnabled(tracker is not None)
        if session is None or tracker is None:
            self.strip.show_states([], 0)
            self.count.setText("Nothing to correct yet.")
            return
        states, current = session.states, tracker.current
        split, doubt = self._split(), session.doubt
        exam = split.exam if split is not None else ()
        self.strip.show_states(states, current, () if doubt is None else doubt.tolist(), exam)
        locked = session.locks.values if session.locks is not None else frozenset()
        value = tracker.layer.selected_label
        self.label.show_table(session.table, value, locked)
        self.lock.setEnabled(value in session.table)
        self.lock.setChecked(value in locked)
        self.fill.setEnabled(value in session.table)
        self.count.setText(_counted(states, split))
        view = VIEWS[tracker.record.axis]
        approved = states[current] is SliceState.APPROVED
        verb = "Take back" if approved else f"Approve {current}"
        self.approve.setText(f"{verb} (A)")
        self.approve.setEnabled(tracker.on_axis)
        self.hint.setText(
            _LEGEND + _HINT
            if tracker.on_axis
            else f"Corrections are counted on {view} slices: strokes in this view are kept, "
            f"but only {view} slices can be approved. Click the strip to go back."
        )

    def _split(self) -> Split | None:
        try:
            return self._controller.split
        except TeachError:
            return None

    def _go_to(self, index: int) -> None:
        session = self._controller.session
        if session is not None and session.tracker is not None:
            session.tracker.go_to(index)

    def _paint_with(self, value: int) -> None:
        session = self._controller.session
        if session is not None and session.labels is not None:
            self._controller.viewer.layers.selection.active = session.labels
            session.labels.selected_label = value
            session.labels.mode = "paint"

    def _add_structure(self) -> None:
        name, said = QInputDialog.getText(
            self, "New structure", "Name of the structure that the model shall learn:"
        )
        value = self._controller.add_structure(name) if said else None
        if value is not None:
            self._paint_with(value)
        self.refresh()

    def _lock(self) -> None:
        session = self._controller.session
        if session is not None and session.locks is not None and session.labels is not None:
            session.locks.toggle(session.labels.selected_label)
        self.refresh()

    def _next(self) -> None:
        if self._controller.session is not None:
            self._controller.session.go_on(1)

    def _fill(self) -> None:
        if self._controller.session is not None:
            self._controller.session.fill_between()

    def _approve(self) -> None:
        session = self._controller.session
        if session is not None and session.tracker is not None:
            session.tracker.toggle_approval()


def _counted(states: list[SliceState], split: Split | None) -> str:
    """Say what a lesson would use, and what is still to be looked at."""
    approved, edited = states.count(SliceState.APPROVED), states.count(SliceState.EDITED)
    changed = states.count(SliceState.CHANGED)
    open_ones = f" {counted(changed, 'slice')} changed, to be approved." if changed else ""
    if not approved + edited:
        return f"No slice to learn from yet: correct or approve a few.{open_ones}"
    done = f"{counted(approved + edited, 'slice')}: {approved} approved, {edited} edited"
    if split is None:
        return f"{done}.{open_ones}"
    use = f"{len(split.learn)} to learn from, {len(split.exam)} for the exam"
    left = f", {len(split.gap)} between them left out" if split.gap else ""
    return f"{done}; {use}{left}.{open_ones}"
