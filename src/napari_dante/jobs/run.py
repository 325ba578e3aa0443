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
from napari_dante.adapt.data import to_grid
from napari_dante.adapt.events import Word
from napari_dante.adapt.feed import Feed, feed, starting_model
from napari_dante.adapt.loop import Lesson
from napari_dante.adapt.monitor import Monitor
from napari_dante.adapt.patches import Grid
from napari_dante.adapt.recipe import Recipe, recipe_to_json
from napari_dante.adapt.step import is_out_of_memory
from napari_dante.adapt.stopping import Look
from napari_dante.errors import DanteError, TeachError
from napari_dante.evaluate.exam import examine
from napari_dante.evaluate.report import ExamReport, write_report
from napari_dante.evaluate.split import Split
from napari_dante.jobs.earlier import EarlierCase, dice, retained
from napari_dante.jobs.events import Event, Failed, Finished, Started, encode
from napari_dante.jobs.folder import CaseData, JobFolder
from napari_dante.model.file import Model, read_model, write_model
from napari_dante.model.lora_file import write_adapter
from napari_dante.model.low_rank import LowRank
from napari_dante.model.segmenter import Segmenter, choose_device

__all__ = ["guarded", "run_job"]


def run_job(path: Path, poll: Callable[[bool], Word | None] = lambda wait: None) -> Iterator[Event]:
    """Run or resume the job in `path`; the last event is Finished or Failed.

    Every event is also a line of ``events.jsonl``. On success the folder holds
    ``best.safetensors``, ``before.npy``, ``after.npy``, when slices were set aside
    ``exam.json``, and after LoRA ``adapter.safetensors``.

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
        if not is_out_of_memory(error):
            raise
        yield Failed(
            "memory",
            "There is not enough memory for this; the old model is unchanged. "
            "Close other programs or set batch=1.",
            type(error).__name__,
        )


@dataclass(frozen=True)
class _Run:
    job: JobFolder
    poll: Callable[[bool], Word | None]

    @cached_property
    def recipe(self) -> Recipe:
        return self.job.recipe()

    @cached_property
    def base(self) -> Model:
        return read_model(self.job.base)

    @cached_property
    def start(self) -> Model:
        """The base as the recipe needs it; it predicts the same."""
        return starting_model(self.base, self.recipe)

    @cached_property
    def cases(self) -> list[CaseData]:
        return self.job.cases()

    @property
    def case(self) -> CaseData:
        """The first case: the one that is examined and shown."""
        return self.cases[0]

    @cached_property
    def truth(self) -> NDArray[np.uint8]:
        return self.case.classes(self.base.spec)

    @cached_property
    def split(self) -> Split:
        return self.job.split()

    @cached_property
    def earlier(self) -> list[EarlierCase]:
        return [EarlierCase.of(case, self.base.spec) for case in self.job.earlier()]

    @cached_property
    def names(self) -> dict[int, str]:
        return {index: label.name for index, label in enumerate(self.base.spec.labels, start=1)}

    def events(self) -> Iterator[Event]:
        begin = time.monotonic()
        digest = self.job.base_hash()
        device = choose_device(self.recipe.training.device)
        segmenter = Segmenter(self.start, device)
        before = segmenter.predict(np.asarray(self.case.image), self.case.spacing)
        self.job.save_array("before.npy", before)
        monitor = Monitor(self._grid(self.case, self.split.exam), self.base.spec, self.case.axis)
        food = self._feed(segmenter, digest)
        first = monitor.look(food.whole)
        known = dice(self.earlier, food.whole)
        lesson = self._lesson(segmenter, food, monitor, digest)
        yield self._started(segmenter, lesson.trained, first)
        yield from lesson.run()
        if not self.job.candidate.is_file():
            raise TeachError("Teaching ended before anything was learned; nothing changed.")
        self._finish(before, known, device, digest)
        yield Finished(self.job.candidate.name, time.monotonic() - begin)

    def _grid(self, case: CaseData, slices: Sequence[int]) -> Grid:
        return to_grid(
            np.asarray(case.image),
            case.classes(self.base.spec),
            spacing=case.spacing,
            axis=case.axis,
            slices=slices,
            spec=self.base.spec,
        )

    def _feed(self, segmenter: Segmenter, digest: str) -> Feed:
        first, *others = self.cases
        grids = [self._grid(first, self.split.learn)]
        grids += [self._grid(case, np.flatnonzero(case.trusted).tolist()) for case in others]
        patch = self.base.spec.patch
        earlier = [case.rehearsed for case in self.earlier]
        return feed(
            segmenter.network, self.recipe, grids, patch, self.job.features, digest, earlier
        )

    def _lesson(self, segmenter: Segmenter, food: Feed, monitor: Monitor, digest: str) -> Lesson:
        def save(weights: Mapping[str, torch.Tensor]) -> None:
            if isinstance(self.recipe, LowRank) and self.start is self.base:
                adapter = adapter_of(segmenter.network, self.recipe, digest)
                write_adapter(self.job.adapter, adapter)
            self._write({key: value.numpy() for key, value in weights.items()}, digest, None)

        return Lesson(
            segmenter.network,
            self.recipe,
            draw=food.draw,
            rehearse=food.rehearse,
            forward=food.forward,
            examine=lambda: monitor.look(food.whole),
            save_best=save,
            checkpoint=self.job.last,
            poll=self.poll,
            teacher=self._teacher(segmenter.device),
        )

    def _teacher(self, device: torch.device) -> nn.Module | None:
        """Return the old network, where the recipe holds the new one to it."""
        if self.recipe.training.distillation == 0:
            return None
        return Segmenter(self.base, device).network

    def _started(self, segmenter: Segmenter, trained: int, look: Look) -> Started:
        return Started(
            method=self.recipe.method,
            device=str(segmenter.device),
            trained=trained,
            parameters=sum(weight.size for weight in self.start.weights.values()),
            axis=self.case.axis,
            learn=self.split.learn,
            exam=self.split.exam,
            dice=look.mean if look.dice else None,
        )

    def _write(
        self, weights: Mapping[str, NDArray[Any]], digest: str, exam: ExamReport | None
    ) -> None:
        lineage = self.base.lineage.child(
            digest, recipe_to_json(self.recipe), exam.summary() if exam else None
        )
        write_model(self.job.candidate, Model(self.start.spec, weights, lineage))

    def _finish(
        self,
        before: NDArray[np.uint8],
        known: Sequence[Mapping[str, float]],
        device: torch.device,
        digest: str,
    ) -> None:
        """Examine the file that will be kept, not the network that was in memory."""
        best = read_model(self.job.candidate)
        segmenter = Segmenter(best, device)
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
                earlier=retained(known, dice(self.earlier, segmenter.network)),
            )
            write_report(self.job.exam, report)
        self._write(best.weights, digest, report)
        self.job.last.unlink(missing_ok=True)
