"""What runs beside the viewer, as generators of events that end in a result. Qt-free."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_dante.adapt.recipe import Recipe
from napari_dante.adapt.training import Device
from napari_dante.errors import JobError, ShareError
from napari_dante.evaluate.run_report import RunReport
from napari_dante.federated.client import DafneClient
from napari_dante.federated.credentials import ENVIRONMENT, api_key, remember_api_key
from napari_dante.federated.gate import Light, judge
from napari_dante.federated.sharing import Receipt, outbox_file, push_file
from napari_dante.files import save_array
from napari_dante.jobs.client import Worker
from napari_dante.jobs.cluster import run_on_cluster
from napari_dante.jobs.comparison import Comparison, compare
from napari_dante.jobs.events import Event, Failed
from napari_dante.jobs.folder import CaseData, JobFolder, create_job
from napari_dante.jobs.rehearsal import rehearsal
from napari_dante.jobs.reporting import report_of
from napari_dante.jobs.requests import Export, Import, Predict, Request, Teach
from napari_dante.model.file import read_header, read_model
from napari_dante.ui import casebook

__all__ = [
    "Cancelled",
    "Offer",
    "Proposal",
    "Taught",
    "WorkerDied",
    "check",
    "predict",
    "push",
    "teach",
]


_log = logging.getLogger("napari_dante")


class Cancelled(JobError):
    """The person ended the task; nothing changed."""


class WorkerDied(JobError):
    """The background process ended in the middle; the job can be resumed."""


class Proposal(NamedTuple):
    """What a model says of an image.

    Attributes
    ----------
    mask
        Class numbers, shape of the image (z, y, x).
    doubt
        How unsure it is of each slice across z, y and x.
    """

    mask: NDArray[np.uint8]
    doubt: tuple[NDArray[np.float64], ...]


@dataclass(frozen=True)
class Offer:
    """A model held against the server's current version.

    Attributes
    ----------
    name
        Of the model, here and on the server.
    server
        Host name.
    version
        The server's current version.
    lights
        The conditions for sharing.
    dice
        Mean Dice of the exam, which is sent along, or None.
    size
        Bytes of the model file here.
    key
        The API key that the server took.
    """

    url: str
    name: str
    server: str
    version: str
    model: Path
    lights: tuple[Light, ...]
    dice: float | None
    size: int
    key: str = field(repr=False)


@dataclass(frozen=True, eq=False)
class Taught:
    """What came of a lesson: its report, and both masks against the corrected slices."""

    report: RunReport
    comparison: Comparison


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
        yield from _run(worker, Predict(folder, str(model), spacing, device, doubt=True))
        mask = np.load(Path(folder) / "mask.npy", allow_pickle=False)
        doubt = np.load(Path(folder) / "doubt.npy", allow_pickle=False)
    return Proposal(mask, tuple(np.split(doubt, np.cumsum(image.shape)[:-1])))


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
    if executor:
        yield from _checked(run_on_cluster(executor, folder))
    else:
        yield from _run(worker, Teach(str(folder)))
    casebook.note(job, "examined")
    return Taught(report_of(job), compare(job))


def check(worker: Worker, url: str, key: str | None, model: Path) -> Generator[Event, None, Offer]:
    """Hold a model against the server's current version of it.

    Parameters
    ----------
    worker
        Reads the server's file.
    url, key
        Of the server; a key that is given is remembered once the server took it.
    model
        The model to share.

    Raises
    ------
    ShareError
        If there is no key, or the server refuses or is not there.
    JobError
        If the server's file cannot be read.
    """
    _, lineage = read_header(model)
    secret = _key(url, key)
    with tempfile.TemporaryDirectory(prefix="napari-dante-") as folder:
        theirs, ours = Path(folder) / "server.model", Path(folder) / "server.safetensors"
        with DafneClient(url, secret) as client:
            version = client.download(lineage.name, theirs)
            server = client.host
        if key:
            _remember(url, key)
        yield from _run(worker, Import(str(theirs), str(ours), lineage.name, version))
        exam = lineage.exam or {}
        lights = judge(read_model(model), read_model(ours), exam.get("verdict"))
    size = model.stat().st_size
    return Offer(url, lineage.name, server, version, model, lights, exam.get("after"), size, secret)


def push(worker: Worker, offer: Offer) -> Generator[Event, None, Receipt]:
    """Send what was offered: nothing but the weights, the name and one number.

    Raises
    ------
    ShareError
        If the server refuses or is not there; the file waits in the outbox.
    JobError
        If the file cannot be made.
    """
    out = outbox_file()
    with (
        tempfile.TemporaryDirectory(prefix="napari-dante-") as folder,
        DafneClient(offer.url, offer.key) as client,
    ):
        base = Path(folder) / "server.model"
        client.download(offer.name, base, offer.version)
        yield from _run(worker, Export(str(offer.model), str(out), str(base)))
        return push_file(client, offer.name, out, offer.dice)


def _key(url: str, given: str | None) -> str:
    key = given or api_key(url)
    if not key:
        raise ShareError(
            "This server needs your API key: enter it below the address of the server, or set "
            f"{ENVIRONMENT}."
        )
    return key


def _remember(url: str, key: str) -> None:
    """Keep a key that works; without a keyring it lasts as long as the window."""
    try:
        remember_api_key(url, key)
    except ShareError as error:
        _log.warning("The key was not kept: %s", error.detail)


def _run(worker: Worker, request: Request) -> Iterator[Event]:
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
