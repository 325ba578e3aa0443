"""The flow from an image to a shared model; the panel shows it, tests and the demo drive it."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

from napari_dante.adapt.events import Word
from napari_dante.adapt.recipe import RECIPES, Recipe
from napari_dante.errors import DanteError, TeachError
from napari_dante.evaluate.run_report import RunReport
from napari_dante.evaluate.split import Split, split_slices
from napari_dante.jobs import casebook
from napari_dante.jobs.case import CaseData
from napari_dante.jobs.cases import CaseBook
from napari_dante.jobs.cluster import tell_cluster
from napari_dante.jobs.events import Event
from napari_dante.jobs.folder import new_job_folder
from napari_dante.jobs.foreign_job import NO_NEW
from napari_dante.jobs.outcome import Outcome
from napari_dante.model.library import Library
from napari_dante.model.trust import trust
from napari_dante.ui import work
from napari_dante.ui.compare import Overlays
from napari_dante.ui.lesson import Lesson
from napari_dante.ui.plan import Plan
from napari_dante.ui.session import Session
from napari_dante.ui.sharer import Sharer
from napari_dante.ui.states import Step, Task

if TYPE_CHECKING:
    from napari.viewer import Viewer

__all__ = ["Controller"]


class Controller(Sharer):
    """What a person works on and what they can do next: the desk, lessons and sharing."""

    taught = Signal(object)
    kept = Signal(object)
    discarded = Signal()

    def __init__(
        self, viewer: Viewer, library: Library | None = None, parent: QObject | None = None
    ) -> None:
        self.lesson: Lesson | None = None
        self.report: RunReport | None = None
        self.method = next(iter(RECIPES))
        self.plan = Plan()
        self._kept_at: tuple[Session, bytes] | None = None
        self._laid: list[Overlays] = []
        super().__init__(viewer, library, parent)
        laid = self._laid
        self.destroyed.connect(lambda: _take_away(laid))

    @property
    def step(self) -> Step:
        """The card that comes next."""
        if self.session is None:
            return Step.OPEN
        if self.lesson is not None:
            return Step.RESULT if self.lesson.taught else Step.TEACH
        if self.session.tracker is None:
            return Step.PREDICT
        return Step.SHARE if self._kept_at == self._standing() else Step.CORRECT

    @property
    def split(self) -> Split | None:
        """Which slices a lesson would learn from and be examined on.

        Raises
        ------
        TeachError
            If there is not enough to learn from.
        """
        tracker = self.session.tracker if self.session is not None else None
        if tracker is None:
            return None
        record, volume = tracker.record, self.session.volume if self.session else None
        frozen = CaseBook().frozen(volume, record.axis) if volume is not None else ()
        trusted = record.trusted(tracker.layer.data)
        return split_slices(trusted, self.plan.exam_fraction, frozen=frozen)

    def _standing(self) -> tuple[Session, bytes] | None:
        session = self.session
        if session is None or session.tracker is None:
            return None
        tracker = session.tracker
        return session, tracker.record.trusted(tracker.layer.data).tobytes()

    def recipe(self) -> Recipe:
        """Return how to teach, on the chosen device.

        Raises
        ------
        TeachError
            If a value under Advanced is out of range.
        """
        recipe = self.plan.recipe(self.method)
        return replace(recipe, training=replace(recipe.training, device=self.settings.device))

    @property
    def new_structures(self) -> tuple[str, ...]:
        """What the mask names and the chosen model does not know."""
        known, session = self.known, self.session
        if known is None or session is None:
            return ()
        return tuple(name for name in session.names.values() if name not in known)

    @property
    def others(self) -> list[Session]:
        """The other open images that were corrected for the same structures."""
        return [
            one
            for one in self.sessions
            if one is not self.session
            and self.session is not None
            and one.names == self.session.names
            and one.has_trusted
        ]

    def add_structure(self, name: str) -> int | None:
        """Add a structure to the mask; return its label value, None when it is refused."""
        if self.session is None:
            return None
        try:
            value = self.session.add_structure(name)
        except TeachError as error:
            self._refuse(error)
            return None
        self._later()
        return value

    def teach(self) -> None:
        """Teach the chosen model from the corrected slices, or go on after a break."""
        before = self.lesson
        lesson = before or self._new_lesson()
        try:
            case = lesson.session.case() if lesson is not None else None
            if lesson is None or case is None:
                raise TeachError("There is no proposal to correct yet: press Predict first.")
            events = (
                self._own_events(lesson, case) if lesson.own_code else self._events(lesson, case)
            )
        except TeachError as error:
            self._refuse(error)
            return
        self.lesson, self._kept_at = lesson, None

        def done(result: work.Taught) -> None:
            self.judge(lesson, result)

        if not self._run(Task.TEACH, events, done):
            self.lesson = before

    def _events(self, lesson: Lesson, case: CaseData) -> Generator[Event, None, work.Taught]:
        return work.teach(
            self.engine.worker,
            lesson.folder,
            lesson.model,
            [case, *self._other_cases()],
            [name for name in self.new_structures if name in case.structures()],
            self.recipe(),
            self.settings.executor,
            self.plan.exam_fraction,
        )

    def _own_events(self, lesson: Lesson, case: CaseData) -> Generator[Event, None, work.Taught]:
        new = [name for name in self.new_structures if name in case.structures()]
        if new:
            raise TeachError(f"{NO_NEW}, and does not know '{new[0]}'.")
        return work.teach_own(
            self.engine.worker,
            lesson.folder,
            lesson.model,
            case,
            self.model or "",
            self.settings.executor,
            self.plan.exam_fraction,
        )

    def _other_cases(self) -> list[CaseData]:
        cases = [one.case() for one in self.others] if self.plan.others else []
        return [case for case in cases if case is not None]

    def judge(self, lesson: Lesson, result: work.Taught) -> None:
        """Let a person look at what came of a lesson, and decide."""
        session, comparison = lesson.session, result.comparison
        overlays = Overlays(self.viewer, session, lesson.job, comparison, self._later)
        self.lesson = replace(lesson, result=result, overlays=overlays)
        self._laid[:] = [overlays]
        self.report = result.report
        self.taught.emit(result.report.exam)

    def pause(self) -> None:
        """Pause the lesson, or go on with it."""
        self._say("resume" if self.engine.paused else "pause")

    def stop(self) -> None:
        """End the lesson early and keep the best so far."""
        self._say("stop")

    def cancel(self) -> None:
        """End what runs without a result."""
        self._say("cancel")

    def _say(self, word: Word) -> None:
        """Pass a word on to where the task runs."""
        if self.engine.task is Task.TEACH and self.settings.executor and self.lesson is not None:
            tell_cluster(self.lesson.folder, word)
        else:
            self.engine.control(word)

    def preview(self, on: bool) -> None:
        """Show the taught model's mask instead of the present one, or end that."""
        lesson = self.lesson
        if lesson is None or lesson.overlays is None or lesson.result is None:
            return
        lesson.overlays.let_go()
        if on:
            lesson.session.preview(lesson.job.mask("after"), lesson.result.outcome.spec)
        else:
            lesson.session.end_preview()
        self._later()

    def keep(self) -> None:
        """Make the taught model the current version and show its mask where nobody corrected."""
        lesson = self.lesson
        if lesson is None or lesson.result is None:
            return
        outcome = lesson.result.outcome
        try:
            kept = self._keep(lesson.job.candidate, outcome)
            mask, doubt = lesson.job.mask("after"), lesson.job.doubt()
        except DanteError as error:
            self._refuse(error)
            return
        casebook.note(lesson.job, "kept", lesson.session.volume)
        self._end_overlays(lesson)
        lesson.session.propose(mask, outcome.spec, doubt)
        self._finds[kept] = tuple(label.name for label in outcome.spec.labels)
        self.model = outcome.lineage.name
        self._end_lesson()
        self._kept_at = self._standing()
        self.offer, self.receipt = None, None
        self.kept.emit(kept)

    def _keep(self, candidate: Path, outcome: Outcome) -> Path:
        """Make a file the next version of its model.

        A person's word for code holds for what the same code has learned: for the very file
        that the lesson found to differ in nothing but its weights.
        """
        if outcome.digest is None:
            return self.library.keep(candidate)
        kept = self.shelf.keep(candidate, outcome.digest, outcome.lineage)
        trust(outcome.digest)
        return kept

    def discard(self) -> None:
        """Drop the taught model, or the unfinished lesson."""
        if self.lesson is None or self.engine.task is Task.TEACH:
            return
        self._end_overlays(self.lesson)
        self._end_lesson()
        self.discarded.emit()

    def _end_overlays(self, lesson: Lesson) -> None:
        if lesson.overlays is not None:
            lesson.overlays.close()
        lesson.session.end_preview()

    def _end_lesson(self) -> None:
        """Forget the lesson with its folder, which holds a copy of the patient's image."""
        if self.lesson is not None:
            shutil.rmtree(self.lesson.folder, ignore_errors=True)
        self.lesson = None
        self._later()

    def _new_lesson(self) -> Lesson | None:
        model = self._model_file()
        if self.session is None or self.session.tracker is None or model is None:
            return None
        return Lesson(self.session, new_job_folder(), model)

    def choose_method(self, method: str) -> None:
        """Teach by the recipe `method`."""
        self.method = method
        self._later()

    def choose_plan(self, plan: Plan) -> None:
        """Teach by what was set under Advanced."""
        self.plan = plan
        self._later()

    def go_back(self, version: Path) -> None:
        """Make another version of the chosen model the current one; none is lost."""
        if self.model is None:
            return
        try:
            (self.shelf if self.runs_own_code else self.library).use(self.model, version)
        except DanteError as error:
            self._refuse(error)
            return
        self.choose_model(self.model)

    def _ended(self, task: Task | None, error: DanteError) -> None:
        """Forget a lesson that ended without a result, unless it can be resumed."""
        if task is Task.TEACH and not isinstance(error, work.WorkerDied):
            self._end_lesson()
        super()._ended(task, error)


def _take_away(laid: list[Overlays]) -> None:
    for overlays in laid:
        overlays.close()
