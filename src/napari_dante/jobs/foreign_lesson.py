"""A lesson of a model that only its own code can run: that code learns, and is examined."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_dante.adapt.events import Word
from napari_dante.adapt.loop import Cancelled
from napari_dante.errors import JobError, TeachError
from napari_dante.evaluate.report import write_report
from napari_dante.evaluate.split import Split
from napari_dante.files import atomic_path, sha256
from napari_dante.jobs.before import class_dice
from napari_dante.jobs.case import CaseData
from napari_dante.jobs.events import Adjusted, Elapsed, Event, Finished, Started
from napari_dante.jobs.exam import examine_case
from napari_dante.jobs.folder import JobFolder
from napari_dante.jobs.foreign import NOT_CUT, ForeignMask, learn_apart, segment_apart
from napari_dante.jobs.foreign_job import OWN_CODE
from napari_dante.jobs.outcome import Outcome, write_outcome
from napari_dante.model.dafne import DafneModel, read_dafne, write_dafne
from napari_dante.model.dafne_frame import Frame
from napari_dante.model.dafne_update import same_but_weights, with_weights
from napari_dante.model.file import Lineage
from napari_dante.model.spec import Structures, further_labels
from napari_dante.model.trust import check_trusted
from napari_dante.volume import default_label
from napari_dante.volume.geometry import VIEWS

__all__ = ["OwnLesson"]

T = TypeVar("T")

NOTE = "The file's own code decides how it learns."
_MOST_LABELS = 255


@dataclass(frozen=True)
class OwnLesson:
    """A job folder that :func:`napari_dante.jobs.foreign_job.create_own_job` has written.

    Parameters
    ----------
    job
        The folder.
    poll
        Returns the person's next word, or None. Foreign code cannot wait and has no best so
        far: it can be cancelled, nothing else.
    """

    job: JobFolder
    poll: Callable[[bool], Word | None]

    @cached_property
    def base(self) -> DafneModel:
        """The model to teach, as data."""
        return read_dafne(self.job.base)

    @cached_property
    def case(self) -> CaseData:
        """What is learned from and examined."""
        return self.job.case()

    @cached_property
    def split(self) -> Split:
        """Which of its slices are which."""
        return self.job.split()

    def events(self) -> Iterator[Event]:
        """Teach and examine; the last event is Finished.

        The new file is there once all is done, and not before.

        Raises
        ------
        UnsafeFile
            If nobody has allowed the code of this file to run.
        TeachError
            If the file cannot learn, or not this, or if it was cancelled.
        ModelError, JobError
            If the code fails or answers nonsense.
        """
        begin, digest = time.monotonic(), self._allowed()
        _check_can_learn(self.base, self.case)
        first = yield from self._segmented(self.job.base, digest, "predicting")
        case = _named(self.case, first.names)
        _check_known(case, first.names)
        self.job.save_array("before.npy", first.classes)
        if not first.network_cut:
            yield Adjusted(0, NOT_CUT)
        spec = Structures(further_labels((), first.names))
        yield self._started(class_dice(first.classes, case, self.split.exam, spec))
        lesson = case.cut(self.split.learn)
        learning = learn_apart(self.job.base, digest, lesson, lesson.classes(spec), first.names)
        weights = yield from self._watched(learning, "learning")
        learned = with_weights(self.base, weights)
        with atomic_path(self.job.candidate) as candidate:
            write_dafne(candidate, learned)
            # What runs next, and what may run later, is what was allowed to run.
            if not same_but_weights(self.base, read_dafne(candidate)):
                raise JobError("The lesson changed more of this file than its weights.")
            taught = sha256(candidate)
            second = yield from self._segmented(candidate, taught, "examining")
            self._examine(case, first, second, taught)
        yield Finished(self.job.candidate.name, time.monotonic() - begin)

    def _allowed(self) -> str:
        digest = check_trusted(self.job.base)
        if digest != self.job.base_hash():
            raise JobError("This job is damaged.")
        return digest

    def _segmented(
        self, model: Path, digest: str, doing: str
    ) -> Generator[Event, None, ForeignMask]:
        image, spacing = np.asarray(self.case.image), self.case.spacing
        return self._watched(segment_apart(model, digest, image, spacing), doing)

    def _watched(self, running: Generator[float, None, T], doing: str) -> Generator[Event, None, T]:
        """Tell each second what goes on, and end it when the person says so."""
        told = -1
        with closing(running):
            while True:
                try:
                    seconds = next(running)
                except StopIteration as end:
                    result: T = end.value
                    return result
                if self.poll(False) == "cancel":
                    raise Cancelled("The lesson was cancelled; nothing changed.")
                if int(seconds) > told:
                    told = int(seconds)
                    yield Elapsed(f"{doing} with the file's own code", seconds)

    def _started(self, dice: Mapping[str, float]) -> Started:
        size = sum(weight.numel() for weight in self.base.weights.values())
        return Started(
            method=OWN_CODE,
            device="cpu",
            trained=size,
            parameters=size,
            axis=self.case.axis,
            learn=self.split.learn,
            exam=self.split.exam,
            dice=float(np.mean(list(dice.values()))) if dice else None,
            note=NOTE,
        )

    def _examine(
        self, case: CaseData, first: ForeignMask, second: ForeignMask, taught: str
    ) -> None:
        """Write the new mask, the exam and the history of the file whose SHA-256 is `taught`."""
        names = tuple(dict.fromkeys((*first.names, *second.names)))
        spec = Structures(further_labels((), names))
        after = _numbered(second, names)
        self.job.save_array("after.npy", after)
        report = examine_case(case, self.split, spec, first.classes, after, ())
        if report is not None:
            write_report(self.job.exam, report)
        lineage = Lineage(self.job.own_name, str(self.base.model_id)).child(
            self.job.base_hash(), {"method": OWN_CODE}, report.summary() if report else None, 1
        )
        write_outcome(self.job, Outcome(spec, lineage, taught))


def _check_can_learn(model: DafneModel, case: CaseData) -> None:
    """Refuse what would fail, before anything runs."""
    if model.sources.get("incremental_learn_function") is None:
        raise TeachError(
            "This model file holds no code to learn with: it can predict, but not be taught."
        )
    axis = Frame.of(model.metadata, case.spacing).axes[2]
    if axis != case.axis:
        raise TeachError(
            f"This model learns from {VIEWS[axis]} slices, but {VIEWS[case.axis]} ones were "
            f"corrected: correct {VIEWS[axis]} slices."
        )


def _check_known(case: CaseData, names: Sequence[str]) -> None:
    """Refuse new structures, before anything is learned."""
    unknown = next((name for name in case.structures() if name not in names), None)
    if unknown is not None:
        known = f"it finds {', '.join(names)}" if names else "it finds nothing in this image"
        raise TeachError(
            f"The model does not know '{unknown}', {known}; and a model that runs by its own "
            "code cannot learn new structures. Rename the label or remove it from the "
            "corrected slices."
        )


def _named(case: CaseData, names: Sequence[str]) -> CaseData:
    """Return a case in which values that nobody has named count as the model's own numbers."""
    own = dict(enumerate(names, start=1))
    return replace(
        case,
        names={
            value: own.get(value, name) if name == default_label(value).name else name
            for value, name in case.names.items()
        },
    )


def _numbered(mask: ForeignMask, names: Sequence[str]) -> NDArray[np.uint8]:
    """Return a mask (z, y, x) whose numbers 1, 2, … are `names`."""
    if len(names) > _MOST_LABELS:
        raise JobError("The code of this model names too many structures.")
    numbers = np.array([0, *(names.index(name) + 1 for name in mask.names)], np.uint8)
    return numbers[mask.classes]
