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
from torch import nn

from napari_dante.adapt.adapters import adapter_of
from napari_dante.adapt.events import Word
from napari_dante.adapt.feed import Feed, feed
from napari_dante.adapt.loop import Lesson
from napari_dante.adapt.monitor import Monitor
from napari_dante.adapt.recipe import recipe_to_json
from napari_dante.adapt.step import is_out_of_memory
from napari_dante.errors import DanteError, TeachError
from napari_dante.evaluate.report import ExamReport, write_report
from napari_dante.evaluate.split import Split
from napari_dante.evaluate.uncertainty import write_doubt
from napari_dante.jobs.before import Before, class_dice, look_before
from napari_dante.jobs.case import CaseData
from napari_dante.jobs.earlier import EarlierCase, dice, retained
from napari_dante.jobs.events import Event, Failed, Finished, Started, encode
from napari_dante.jobs.exam import examine_case
from napari_dante.jobs.folder import JobFolder
from napari_dante.jobs.foreign_lesson import OwnLesson
from napari_dante.jobs.grids import case_grid
from napari_dante.jobs.start import Start, start_of
from napari_dante.model.file import Model, read_model, write_model
from napari_dante.model.lora_file import write_adapter
from napari_dante.model.low_rank import LowRank
from napari_dante.model.segmenter import Segmenter, choose_device
from napari_dante.model.spec import ArchitectureSpec

__all__ = ["guarded", "run_job"]


def run_job(path: Path, poll: Callable[[bool], Word | None] = lambda wait: None) -> Iterator[Event]:
    """Run or resume the job in `path`; the last event is Finished or Failed.

    Every event is also a line of ``events.jsonl``. On success the folder holds
    ``best.safetensors``, ``before.npy``, ``after.npy``, when slices were set aside
    ``exam.json``, and after LoRA ``adapter.safetensors``. For a model that runs by its own
    code it is ``best.model`` and ``own.json``.

    Parameters
    ----------
    path
        A job folder.
    poll
        Returns the person's next word, or None; waits for one when called with True.
    """
    job = JobFolder(path)
    lesson = OwnLesson(job, poll) if job.own_code else _Run(job, poll)
    for event in guarded(lesson.events()):
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
        if not is_out_of_memory(error):
            raise
        yield Failed("memory", _memory_sentence(error), type(error).__name__)


def _memory_sentence(error: BaseException) -> str:
    if isinstance(error, torch.OutOfMemoryError):
        return (
            "The graphics card has not enough memory for this; the old model is unchanged. "
            "Close what else uses it, or choose the device 'cpu' in the preferences."
        )
    return (
        "There is not enough memory for this; the old model is unchanged. "
        "Close other programs and try again."
    )


@dataclass(frozen=True)
class _Run:
    job: JobFolder
    poll: Callable[[bool], Word | None]

    @cached_property
    def device(self) -> torch.device:
        return choose_device(self.job.recipe().training.device)

    @cached_property
    def before(self) -> Before:
        return look_before(self.job, self.device)

    @cached_property
    def start(self) -> Start:
        return start_of(self.job, self.before, self.device)

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
    def split(self) -> Split:
        return self.job.split()

    @cached_property
    def earlier(self) -> list[EarlierCase]:
        if self.start.base is None:
            return []
        return [EarlierCase.of(case, self.spec) for case in self.job.earlier()]

    def events(self) -> Iterator[Event]:
        begin = time.monotonic()
        self.job.save_array("before.npy", self.before.mask)
        predicting = time.monotonic() - begin
        segmenter = Segmenter(self.start.model, self.device)
        exam = case_grid(self.case, self.split.exam, self.spec)
        monitor = Monitor(exam, self.spec, self.case.axis)
        food = self._feed(segmenter)
        ahead = time.monotonic()
        known = dice(self.earlier, food.whole)
        earlier, ahead = time.monotonic() - ahead, time.monotonic()
        to_beat = self._to_beat(monitor, food)
        look = time.monotonic() - ahead
        lesson = self._lesson(segmenter, food, monitor, look, predicting + earlier)
        yield self._started(segmenter, lesson.trained, to_beat)
        yield from lesson.run()
        if not self.job.candidate.is_file():
            raise TeachError("Teaching ended before anything was learned; nothing changed.")
        self._finish(known)
        yield Finished(self.job.candidate.name, time.monotonic() - begin)

    def _feed(self, segmenter: Segmenter) -> Feed:
        first, *others = self.cases
        grids = [case_grid(first, self.split.learn, self.spec)]
        grids += [
            case_grid(case, np.flatnonzero(case.trusted).tolist(), self.spec) for case in others
        ]
        return feed(
            segmenter.network,
            self.start.recipe,
            grids,
            self.spec.patch,
            self.job.features,
            self.start.digest or "",
            [case.rehearsed for case in self.earlier],
        )

    def _lesson(
        self, segmenter: Segmenter, food: Feed, monitor: Monitor, look: float, rest: float
    ) -> Lesson:
        recipe, digest = self.start.recipe, self.start.digest

        def save(weights: Mapping[str, torch.Tensor]) -> None:
            if isinstance(recipe, LowRank) and self.start.unchanged and digest is not None:
                write_adapter(self.job.adapter, adapter_of(segmenter.network, recipe, digest))
            self._write({key: value.numpy() for key, value in weights.items()}, None)

        return Lesson(
            segmenter.network,
            recipe,
            draw=food.draw,
            rehearse=food.rehearse,
            forward=food.forward,
            examine=lambda: monitor.look(food.whole),
            save_best=save,
            checkpoint=self.job.last,
            poll=self.poll,
            teacher=self._teacher(),
            look_seconds=look,
            rest_seconds=rest,
        )

    def _teacher(self) -> nn.Module | None:
        """Return the old network, where the recipe holds the new one to it."""
        recipe, base = self.start.recipe, self.start.base
        if recipe.training.distillation == 0 or base is None:
            return None
        return Segmenter(base, self.device).network

    def _to_beat(self, monitor: Monitor, food: Feed) -> float | None:
        """Return the exam Dice of what was known before; None where nothing was."""
        if self.start.base is None or not self.split.exam:
            return None
        if self.start.configuration is None:
            look = monitor.look(food.whole)
            return look.mean if look.dice else None
        scores = class_dice(self.before.mask, self.case, self.split.exam, self.start.base.spec)
        return float(np.mean(list(scores.values()))) if scores else None

    def _started(self, segmenter: Segmenter, trained: int, to_beat: float | None) -> Started:
        return Started(
            method=self.start.recipe.method,
            device=str(segmenter.device),
            trained=trained,
            parameters=sum(weight.size for weight in self.start.model.weights.values()),
            axis=self.case.axis,
            learn=self.split.learn,
            exam=self.split.exam,
            dice=to_beat,
            note=self.start.note,
        )

    def _write(self, weights: Mapping[str, NDArray[Any]], exam: ExamReport | None) -> None:
        start = self.start
        lineage = start.model.lineage.child(
            start.digest,
            recipe_to_json(start.recipe),
            exam.summary() if exam else None,
            len(self.cases),
        )
        write_model(self.job.candidate, Model(self.spec, weights, lineage))

    def _finish(self, known: Sequence[Mapping[str, float]]) -> None:
        """Examine the file that will be kept, not the network that was in memory."""
        best = read_model(self.job.candidate)
        segmenter = Segmenter(best, self.device)
        image, spacing = np.asarray(self.case.image), self.case.spacing
        found = segmenter.analyse(image, spacing, entropy=True)
        after = found.classes
        self.job.save_array("after.npy", after)
        if found.entropy is not None:
            write_doubt(self.job.path / "doubt.npy", found.entropy)
        kept = retained(known, dice(self.earlier, segmenter.network))
        report = examine_case(self.case, self.split, self.spec, self.before.mask, after, kept)
        if report is not None:
            write_report(self.job.exam, report)
        self._write(best.weights, report)
        self.job.last.unlink(missing_ok=True)
