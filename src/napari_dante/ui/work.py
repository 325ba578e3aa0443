"""What runs beside the viewer, as generators of events that end in a result. Qt-free."""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dante.adapt.recipe import Device, Recipe
from napari_dante.errors import JobError
from napari_dante.evaluate.report import ExamReport
from napari_dante.files import save_array
from napari_dante.jobs.client import Worker
from napari_dante.jobs.cluster import run_on_cluster
from napari_dante.jobs.events import Event, Failed
from napari_dante.jobs.folder import CaseData, JobFolder, create_job
from napari_dante.jobs.rehearsal import rehearsal
from napari_dante.jobs.requests import Predict, Request, Teach

__all__ = ["Cancelled", "WorkerDied", "ask", "predict", "teach"]


class Cancelled(JobError):
    """The person ended the task; nothing changed."""


class WorkerDied(JobError):
    """The background process ended in the middle; the job can be resumed."""


def predict(
    worker: Worker,
    image: NDArray[Any],
    spacing: tuple[float, float, float],
    model: Path,
    device: Device,
) -> Generator[Event, None, NDArray[np.uint8]]:
    """Predict an image (z, y, x) and return class numbers of the same shape.

    Raises
    ------
    JobError
        If it fails, is cancelled or the process dies.
    """
    with tempfile.TemporaryDirectory(prefix="napari-dante-") as folder:
        save_array(Path(folder) / "image.npy", image)
        yield from ask(worker, Predict(folder, str(model), spacing, device))
        mask: NDArray[np.uint8] = np.load(Path(folder) / "mask.npy", allow_pickle=False)
    return mask


def teach(
    worker: Worker,
    folder: Path,
    model: Path,
    cases: Sequence[CaseData],
    new_labels: Sequence[str],
    recipe: Recipe,
    executor: str,
) -> Generator[Event, None, ExamReport | None]:
    """Make a job folder, or go on with the one that is there, and return its exam.

    It runs in the worker, or on the Dask cluster whose address `executor` is.

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
            folder, model, cases, recipe, new_labels=new_labels, earlier=rehearsal(model)
        )
    if executor:
        yield from _checked(run_on_cluster(executor, folder))
    else:
        yield from ask(worker, Teach(str(folder)))
    return job.report() if job.exam.is_file() else None


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
        kind = {"cancelled": Cancelled, "worker": WorkerDied, "cluster": WorkerDied}.get(
            event.kind, JobError
        )
        raise kind(event.sentence, event.detail)
