"""What runs beside the viewer, as generators of events that end in a result. Qt-free."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_dante.adapt.recipe import Recipe
from napari_dante.adapt.training import Device
from napari_dante.errors import DanteError, ForeignCode, JobError
from napari_dante.evaluate.run_report import RunReport
from napari_dante.evaluate.uncertainty import Doubt, read_doubt
from napari_dante.files import save_array
from napari_dante.jobs import casebook
from napari_dante.jobs.client import Worker
from napari_dante.jobs.cluster import run_on_cluster
from napari_dante.jobs.comparison import Comparison, compare
from napari_dante.jobs.events import Event, Failed
from napari_dante.jobs.folder import CaseData, JobFolder, create_job
from napari_dante.jobs.foreign_job import create_own_job
from napari_dante.jobs.outcome import Outcome, outcome_of
from napari_dante.jobs.rehearsal import rehearsal
from napari_dante.jobs.reporting import report_of
from napari_dante.jobs.requests import Predict, Request, Teach
from napari_dante.model.file import read_header
from napari_dante.model.spec import further_labels
from napari_dante.volume import Label

__all__ = ["Cancelled", "Proposal", "Taught", "WorkerDied", "ask", "predict", "teach", "teach_own"]


class Cancelled(JobError):
    """The person ended the task; nothing changed."""


class WorkerDied(JobError):
    """The background process ended in the middle; the job can be resumed."""


_KINDS: dict[str, type[DanteError]] = {
    "cancelled": Cancelled,
    "worker": WorkerDied,
    "cluster": WorkerDied,
    "foreigncode": ForeignCode,
}


class Proposal(NamedTuple):
    """What a model says of an image.

    Attributes
    ----------
    mask
        Class numbers, shape of the image (z, y, x).
    doubt
        How unsure it is of each slice across z, y and x; None where it does not tell.
    labels
        What the numbers 1, 2, … are.
    """

    mask: NDArray[np.uint8]
    doubt: Doubt | None
    labels: tuple[Label, ...]


@dataclass(frozen=True, eq=False)
class Taught:
    """What came of a lesson: its report, both masks against the corrected slices, the model."""

    report: RunReport
    comparison: Comparison
    outcome: Outcome


def predict(
    worker: Worker,
    image: NDArray[Any],
    spacing: tuple[float, float, float],
    model: Path,
    device: Device,
) -> Generator[Event, None, Proposal]:
    """Predict an image (z, y, x).

    Raises
    ------
    JobError
        If it fails, is cancelled or the process dies.
    """
    with tempfile.TemporaryDirectory(prefix="napari-dante-") as folder:
        save_array(Path(folder) / "image.npy", image)
        yield from ask(worker, Predict(folder, str(model), spacing, device, doubt=True))
        mask = np.load(Path(folder) / "mask.npy", allow_pickle=False)
        named = Path(folder) / "labels.json"
        if named.is_file():
            return Proposal(mask, None, further_labels((), json.loads(named.read_text())))
        doubt = read_doubt(Path(folder) / "doubt.npy", image.shape)
    return Proposal(mask, doubt, read_header(model)[0].labels)


def teach(
    worker: Worker,
    folder: Path,
    model: Path,
    cases: Sequence[CaseData],
    new_labels: Sequence[str],
    recipe: Recipe,
    executor: str,
    exam_fraction: float,
) -> Generator[Event, None, Taught]:
    """Make a job folder, or go on with the one that is there, and return what came of it.

    It runs in the worker, or on the Dask cluster whose address `executor` is. Slices that
    an earlier lesson on the same image was examined on stay its exam. The first case is
    the one that is examined; of the others, such slices are left out.

    Raises
    ------
    TeachError
        If there is nothing to learn from.
    JobError
        If it fails, is cancelled or the process dies.
    """
    job = JobFolder(folder)
    if not (folder / "job.json").is_file():
        job = create_job(
            folder,
            model,
            [cases[0], *map(casebook.without_exam, cases[1:])],
            recipe,
            exam_fraction,
            new_labels=new_labels,
            earlier=rehearsal(model),
            frozen_exam=casebook.frozen(cases[0]),
        )
    return (yield from _run(worker, job, executor))


def teach_own(
    worker: Worker,
    folder: Path,
    model: Path,
    case: CaseData,
    name: str,
    executor: str,
    exam_fraction: float,
) -> Generator[Event, None, Taught]:
    """Let the code inside a file learn, as :func:`teach` does with models of ours.

    Raises
    ------
    UnsafeFile
        If nobody has allowed that code to run.
    TeachError
        If there is nothing to learn from.
    JobError
        If it fails, is cancelled or the process dies.
    """
    job = JobFolder(folder)
    if not (folder / "job.json").is_file():
        frozen = casebook.frozen(case)
        job = create_own_job(folder, model, [case], exam_fraction, frozen, name)
    return (yield from _run(worker, job, executor))


def _run(worker: Worker, job: JobFolder, executor: str) -> Generator[Event, None, Taught]:
    if executor:
        yield from _checked(run_on_cluster(executor, job.path))
    else:
        yield from ask(worker, Teach(str(job.path)))
    casebook.note(job, "examined")
    return Taught(report_of(job), compare(job), outcome_of(job))


def ask(worker: Worker, request: Request) -> Iterator[Event]:
    """Pass on the events of a request to the worker.

    Raises
    ------
    JobError
        If it fails, is cancelled or the process dies.
    """
    return _checked(worker.run(request))


def _checked(events: Iterator[Event]) -> Iterator[Event]:
    """Pass events on; a failure becomes an exception."""
    for event in events:
        if not isinstance(event, Failed):
            yield event
            continue
        raise _KINDS.get(event.kind, JobError)(event.sentence, event.detail)
