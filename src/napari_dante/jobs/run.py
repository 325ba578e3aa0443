"""Run a job folder: read it, examine, teach, examine again, write what came out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_dante.adapt.data import to_grid
from napari_dante.adapt.events import Word
from napari_dante.adapt.feed import Feed, feed
from napari_dante.adapt.loop import Lesson
from napari_dante.adapt.monitor import Monitor
from napari_dante.adapt.patches import Grid
from napari_dante.adapt.recipe import recipe_to_json
from napari_dante.errors import DanteError, TeachError
from napari_dante.evaluate.exam import examine
from napari_dante.evaluate.overlap import dice
from napari_dante.evaluate.report import ExamReport, write_report
from napari_dante.evaluate.split import Split
from napari_dante.jobs.events import Event, Failed, Finished, Started, encode
from napari_dante.jobs.folder import CaseData, JobFolder
from napari_dante.jobs.start import Start, start_of
from napari_dante.model.file import Model, read_model, write_model
from napari_dante.model.segmenter import Segmenter, choose_device
from napari_dante.model.spec import ArchitectureSpec

__all__ = ["guarded", "run_job"]

OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")


def run_job(path: Path, poll: Callable[[bool], Word | None] = lambda wait: None) -> Iterator[Event]:
    """Run or resume the job in `path`; the last event is Finished or Failed.

    Every event is also a line of ``events.jsonl``. On success the folder holds
    ``best.safetensors``, ``before.npy``, ``after.npy`` and, when slices were set aside,
    ``exam.json``.

    Parameters
    ----------
    path
        A job folder.
    poll
        Returns the person's next word, or None; waits for one when called with True.
    """
    job = JobFolder(path)
    for event in guarded(_Run(job, poll).events()):
        if job.path.is_dir():
            with job.events.open("a") as stream:
                stream.write(encode(event) + "\n")
        yield event


def guarded(events: Iterator[Event]) -> Iterator[Event]:
    """Pass events on, and turn what can go wrong into one last Failed."""
    try:
        yield from events
    except DanteError as error:
        yield Failed(type(error).__name__.lower(), error.sentence, error.detail)
    except OSError as error:
        yield Failed("disk", "A file of this job could not be read or written.", repr(error.errno))
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not _is_out_of_memory(error):
            raise
        yield Failed(
            "memory",
            "There is not enough memory for this; the old model is unchanged. "
            "Close other programs or set batch=1.",
            type(error).__name__,
        )


def _is_out_of_memory(error: RuntimeError) -> bool:
    text = str(error).lower()
    return any(part in text for part in OUT_OF_MEMORY)


@dataclass(frozen=True)
class _Run:
    job: JobFolder
    poll: Callable[[bool], Word | None]

    @cached_property
    def device(self) -> torch.device:
        return choose_device(self.job.recipe().training.device)

    @cached_property
    def start(self) -> Start:
        return start_of(self.job, self.device)

    @property
    def spec(self) -> ArchitectureSpec:
        return self.start.model.spec

    @cached_property
    def cases(self) -> list[CaseData]:
        return self.job.cases()

    @property
    def case(self) -> CaseData:
        """The first case: the one that is examined and shown."""
        return self.cases[0]

    @cached_property
    def truth(self) -> NDArray[np.uint8]:
        return self.case.classes(self.spec)

    @cached_property
    def split(self) -> Split:
        return self.job.split()

    @cached_property
    def names(self) -> dict[int, str]:
        """What the first case marks: the rest cannot be examined on it."""
        marked = self.case.annotated(self.spec)
        numbered = enumerate(self.spec.labels, start=1)
        return {index: label.name for index, label in numbered if marked[index]}

    def events(self) -> Iterator[Event]:
        begin = time.monotonic()
        before = self._before()
        self.job.save_array("before.npy", before)
        segmenter = Segmenter(self.start.model, self.device)
        monitor = Monitor(self._grid(self.case, self.split.exam), self.spec, self.case.axis)
        food = self._feed(segmenter)
        scores = self._to_beat(before, monitor, food)
        lesson = self._lesson(segmenter, food, monitor)
        yield self._started(segmenter, lesson.trained, scores)
        yield from lesson.run()
        if not self.job.candidate.is_file():
            raise TeachError("Teaching ended before anything was learned; nothing changed.")
        self._finish(before)
        yield Finished(self.job.candidate.name, time.monotonic() - begin)

    def _before(self) -> NDArray[np.uint8]:
        """Return what was known before: the mask of the model, or nothing without one."""
        if self.start.base is None:
            return np.zeros(self.case.image.shape, np.uint8)
        segmenter = Segmenter(self.start.base, self.device)
        return segmenter.predict(np.asarray(self.case.image), self.case.spacing)

    def _grid(self, case: CaseData, slices: Sequence[int]) -> Grid:
        return to_grid(
            np.asarray(case.image),
            case.classes(self.spec),
            spacing=case.spacing,
            axis=case.axis,
            slices=slices,
            spec=self.spec,
        )

    def _feed(self, segmenter: Segmenter) -> Feed:
        first, *others = self.cases
        grids = [self._grid(first, self.split.learn)]
        grids += [self._grid(case, np.flatnonzero(case.trusted).tolist()) for case in others]
        recipe, patch, digest = self.start.recipe, self.spec.patch, self.start.digest or ""
        return feed(segmenter.network, recipe, grids, patch, self.job.features, digest)

    def _scores(self, monitor: Monitor, food: Feed) -> dict[str, float]:
        """Return the Dice of each structure that the first case marks, on the exam slices."""
        scores = monitor.dice(food.whole)
        return {name: scores[name] for name in self.names.values() if name in scores}

    def _lesson(self, segmenter: Segmenter, food: Feed, monitor: Monitor) -> Lesson:
        def save(weights: Mapping[str, torch.Tensor]) -> None:
            self._write({key: value.numpy() for key, value in weights.items()}, None)

        return Lesson(
            segmenter.network,
            self.start.recipe,
            draw=food.draw,
            forward=food.forward,
            examine=lambda: self._scores(monitor, food),
            save_best=save,
            checkpoint=self.job.last,
            poll=self.poll,
        )

    def _to_beat(
        self, before: NDArray[np.uint8], monitor: Monitor, food: Feed
    ) -> Mapping[str, float]:
        """Return the exam Dice of what was known before; empty where nothing was."""
        if self.start.base is None:
            return {}
        if self.start.configuration is None:
            return self._scores(monitor, food)
        old, new = (np.take(mask, self.split.exam, self.case.axis) for mask in (before, self.truth))
        found = {name: dice(old == value, new == value) for value, name in self.names.items()}
        return {name: score for name, score in found.items() if score is not None}

    def _started(self, segmenter: Segmenter, trained: int, scores: Mapping[str, float]) -> Started:
        chosen = self.start.configuration
        return Started(
            method=self.start.recipe.method,
            device=str(next(segmenter.network.parameters()).device),
            trained=trained,
            parameters=sum(weight.size for weight in self.start.model.weights.values()),
            axis=self.case.axis,
            learn=self.split.learn,
            exam=self.split.exam,
            dice=sum(scores.values()) / len(scores) if scores else None,
            note=chosen.sentence if chosen is not None else "",
        )

    def _write(self, weights: Mapping[str, NDArray[Any]], exam: ExamReport | None) -> None:
        start = self.start
        lineage = start.model.lineage.child(
            start.digest, recipe_to_json(start.recipe), exam.summary() if exam else None
        )
        write_model(self.job.candidate, Model(self.spec, weights, lineage))

    def _finish(self, before: NDArray[np.uint8]) -> None:
        """Examine the file that will be kept, not the network that was in memory."""
        best = read_model(self.job.candidate)
        segmenter = Segmenter(best, self.device)
        after = segmenter.predict(np.asarray(self.case.image), self.case.spacing)
        self.job.save_array("after.npy", after)
        report = None
        if self.split.exam:
            report = examine(
                before,
                after,
                self.truth,
                names=self.names,
                spacing=self.case.spacing,
                axis=self.case.axis,
                split=self.split,
            )
            write_report(self.job.exam, report)
        self._write(best.weights, report)
        self.job.last.unlink(missing_ok=True)
