"""What runs beside the viewer to share a model, as generators of events. Qt-free."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from platformdirs import user_data_path

from napari_dante.errors import ShareError
from napari_dante.evaluate.report import ExamReport, read_report
from napari_dante.evaluate.split import Split
from napari_dante.federated.client import DafneClient
from napari_dante.federated.credentials import ENVIRONMENT, api_key, remember_api_key
from napari_dante.federated.gate import Light, fit_to_share, judge
from napari_dante.federated.history import Receipt
from napari_dante.federated.lookout import Finding, Prover
from napari_dante.federated.outbox import Outbox
from napari_dante.federated.sharing import push_file, retry
from napari_dante.files import sha256
from napari_dante.jobs.client import Worker
from napari_dante.jobs.events import Event
from napari_dante.jobs.folder import CaseData, write_case
from napari_dante.jobs.requests import Compare, Export, Import, Prove
from napari_dante.model.file import read_header, read_model
from napari_dante.ui.work import ask

__all__ = ["Exam", "News", "Offer", "check", "look", "push", "retry_all"]

_log = logging.getLogger("napari_dante")


@dataclass(frozen=True)
class Exam:
    """Corrected slices on this computer that a model can be examined on."""

    case: CaseData
    split: Split


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
    cases
        How many images it was taught, where it is sent along: only to servers that take it.
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
    cases: int | None
    size: int
    key: str = field(repr=False)


@dataclass(frozen=True)
class News:
    """A version of the server that is newer than the model here.

    Attributes
    ----------
    name, version
        Of the model, and which version of the server it is.
    file
        The model file, not in the library yet.
    report
        Exam of the model here and of the newer one; None where there was nothing to
        examine them on.
    """

    name: str
    version: str
    file: Path
    report: ExamReport | None


def check(
    worker: Worker, url: str, key: str | None, model: Path, exam: Exam | None
) -> Generator[Event, None, Offer]:
    """Hold a model against the server's current version of it.

    Parameters
    ----------
    worker
        Reads the server's file, and examines what the server would make of the two.
    url, key
        Of the server; a key that is given is remembered once the server took it.
    model
        The model to share.
    exam
        What to examine on, or None.

    Raises
    ------
    ShareError
        If there is no key, or the server refuses or is not there.
    JobError
        If the server's file cannot be read, or it was cancelled.
    """
    _, lineage = read_header(model)
    secret = _key(url, key)
    with tempfile.TemporaryDirectory(prefix="napari-dante-") as folder:
        theirs, ours = Path(folder) / "server.model", Path(folder) / "server.safetensors"
        with DafneClient(url, secret) as client:
            version = client.download(lineage.name, theirs)
            server, takes = client.host, client.info(lineage.name).extensions
        if key:
            _remember(url, key)
        yield from ask(worker, Import(str(theirs), str(ours), lineage.name, version))
        verdict = (lineage.exam or {}).get("verdict")
        candidate, base = read_model(model), read_model(ours)
        lights = judge(candidate, base, verdict)
        if fit_to_share(lights):
            report = yield from _compare(worker, Path(folder), ours, model, exam, merge=True)
            lights = judge(candidate, base, verdict, report)
        else:
            # What would become of it is not asked of a model that is not fit.
            lights = tuple(light for light in lights if light.name != "merged")
    dice, size = (lineage.exam or {}).get("after"), model.stat().st_size
    cases = lineage.cases if "cases" in takes else None
    return Offer(url, lineage.name, server, version, model, lights, dice, cases, size, secret)


def push(worker: Worker, offer: Offer) -> Generator[Event, None, Receipt]:
    """Send what was offered: nothing but the weights, the name and a number or two.

    Raises
    ------
    ShareError
        If the server refuses or is not there; the file waits in the outbox.
    JobError
        If the file cannot be made.
    """
    with (
        tempfile.TemporaryDirectory(prefix="napari-dante-") as folder,
        DafneClient(offer.url, offer.key) as client,
    ):
        base, update = Path(folder) / "server.model", Path(folder) / "update.model"
        client.download(offer.name, base, offer.version)
        yield from ask(worker, Export(str(offer.model), str(update), str(base)))
        return push_file(
            client,
            Outbox(),
            update,
            _prover(worker),
            name=offer.name,
            base=offer.version,
            source=sha256(offer.model),
            dice=offer.dice,
            cases=offer.cases,
        )


def retry_all(worker: Worker) -> Generator[Event, None, tuple[str, ...]]:
    """Send what waits and look for what was sent; return one sentence for each item."""
    yield from ()
    outbox, told = Outbox(), []
    for item in outbox.items():
        try:
            with DafneClient(item.url, _key(item.url, None)) as client:
                told.append(retry(client, outbox, item, _prover(worker)).sentence)
        except ShareError as error:
            told.append(error.sentence)
    return tuple(told)


def look(
    worker: Worker,
    url: str,
    key: str | None,
    model: Path,
    known: Sequence[Path],
    exam: Exam | None,
) -> Generator[Event, None, News | None]:
    """Fetch the server's version of a model if it is new here, and examine it.

    Nothing in the library changes.

    Parameters
    ----------
    worker, url, key, exam
        See :func:`check`.
    model
        The model here.
    known
        All its versions here.

    Returns
    -------
    News or None
        None where the server's version is one of `known`.

    Raises
    ------
    ShareError, JobError
        See :func:`check`.
    """
    spec, lineage = read_header(model)
    with tempfile.TemporaryDirectory(prefix="napari-dante-") as folder:
        theirs = Path(folder) / "server.model"
        with DafneClient(url, _key(url, key)) as client:
            latest = client.info(lineage.name).latest
            if latest in {read_header(path)[1].server_timestamp for path in known}:
                return None
            client.download(lineage.name, theirs, latest)
        if key:
            _remember(url, key)
        file = user_data_path("napari-dante") / "pulled.safetensors"
        yield from ask(worker, Import(str(theirs), str(file), lineage.name, latest))
        if read_header(file)[0].labels != spec.labels:
            exam = None
        report = yield from _compare(worker, Path(folder), model, file, exam)
    return News(lineage.name, latest, file, report)


def _compare(
    worker: Worker,
    folder: Path,
    before: Path,
    after: Path,
    exam: Exam | None,
    *,
    merge: bool = False,
) -> Generator[Event, None, ExamReport | None]:
    """Examine two models; None where there is nothing that both can be examined on."""
    known = {label.name for label in read_header(before)[0].labels}
    if exam is None or not exam.split.exam or not known.issuperset(exam.case.structures()):
        return None
    write_case(folder, exam.case)
    yield from ask(
        worker,
        Compare(
            str(folder), str(before), str(after), exam.split.exam, exam.split.learn, merge=merge
        ),
    )
    return read_report(folder / "exam.json")


def _prover(worker: Worker) -> Prover:
    """Return the arithmetic, which the worker does."""

    def prove(old: Path, update: Path, after: Path) -> Finding | None:
        with tempfile.TemporaryDirectory(prefix="napari-dante-") as folder:
            out = Path(folder) / "proof.json"
            for _ in ask(worker, Prove(str(old), str(update), str(after), str(out))):
                pass
            found = json.loads(out.read_text())
        return None if found is None else (found[0], found[1])

    return prove


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
