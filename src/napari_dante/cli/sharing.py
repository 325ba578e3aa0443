"""``pull`` and ``push``."""

from __future__ import annotations

import tempfile
from argparse import Namespace
from dataclasses import asdict, replace
from pathlib import Path

from napari_dante.cli.console import emit_json, progress, say
from napari_dante.errors import ShareError
from napari_dante.evaluate.report import ExamReport, read_report
from napari_dante.federated.client import DafneClient
from napari_dante.federated.credentials import ENVIRONMENT, api_key
from napari_dante.federated.gate import Light, fit_to_share, judge
from napari_dante.federated.outbox import Outbox
from napari_dante.federated.sharing import push_file
from napari_dante.files import sha256
from napari_dante.jobs.folder import JobFolder
from napari_dante.jobs.two_models import compare, merged
from napari_dante.model.dafne import from_dafne, read_dafne, to_dafne, write_dafne
from napari_dante.model.file import Model, read_model, write_model
from napari_dante.model.library import Library
from napari_dante.model.merging import prove_files
from napari_dante.model.segmenter import choose_device

__all__ = ["connect", "pull", "push"]

_SIGNS = {True: "ok ", False: "NO ", None: " - "}


def pull(options: Namespace) -> None:
    """Fetch a model; its code is never run, and what is worse replaces nothing unasked."""
    before = read_model(options.out) if options.out.exists() else None
    with connect(options.server) as client, tempfile.TemporaryDirectory() as folder:
        latest = client.info(options.name).latest
        if before is not None and before.lineage.server_timestamp == latest:
            say(f"{options.name}: the server has nothing newer than version {latest}.")
            return
        target = Path(folder) / "pulled.model"
        timestamp = client.download(options.name, target)
        model = from_dafne(read_dafne(target), options.name)
    if before is not None and options.job is not None:
        report = _examine(options.job, before, model)
        say(report.sentence)
        if report.verdict == "worse" and not options.even_if_worse:
            raise ShareError(
                "The server's version is worse on your exam slices, so the one here was kept; "
                "--even-if-worse takes it nevertheless."
            )
    lineage = replace(model.lineage, server_timestamp=timestamp)
    write_model(options.out, replace(model, lineage=lineage), half=False)
    say(f"{options.name}, version {timestamp} of the server.")


def push(options: Namespace) -> None:
    """Send the weights of a model, if they are fit to share."""
    path = Library().resolve(options.model)
    model = read_model(path)
    exam = read_report(options.exam).summary() if options.exam else model.lineage.exam
    with connect(options.server) as client, tempfile.TemporaryDirectory() as folder:
        current, packed = Path(folder) / "current.model", Path(folder) / "update.model"
        version = client.download(options.name, current)
        base = read_dafne(current)
        theirs = from_dafne(base, options.name)
        lights = _lights(options, model, theirs, exam["verdict"] if exam else None)
        write_dafne(packed, to_dafne(model, base=base))
        receipt = push_file(
            client,
            Outbox(),
            packed,
            prove_files,
            name=options.name,
            base=version,
            source=sha256(path),
            dice=exam["after"] if exam else None,
            cases=model.lineage.cases,
        )
    if options.json:
        emit_json(asdict(receipt) | {"lights": [asdict(light) for light in lights]})
    else:
        say(receipt.sentence if receipt.outcome == "merged" else f"Sent. {receipt.sentence}")


def _lights(
    options: Namespace, model: Model, theirs: Model, verdict: str | None
) -> tuple[Light, ...]:
    """Return the conditions for sharing, all of them met.

    Raises
    ------
    ShareError
        If one is not.
    """
    lights = judge(model, theirs, verdict)
    if options.job is not None and fit_to_share(lights):
        report = _examine(options.job, theirs, merged(theirs, model))
        lights = judge(model, theirs, verdict, report)
    if not options.json:
        for light in lights:
            say(f"{_SIGNS[light.ok]} {light.sentence}")
    if not fit_to_share(lights):
        reasons = " ".join(light.sentence for light in lights if light.ok is False)
        raise ShareError(f"Nothing was sent. {reasons}")
    return lights


def _examine(folder: Path, before: Model, after: Model) -> ExamReport:
    """Compare two models on the exam slices of a job folder.

    Raises
    ------
    ShareError
        If the job set no slice aside.
    """
    job = JobFolder(folder)

    def told(done: int, total: int) -> None:
        progress(f"window {done} of {total}", last=done == total)

    report = compare(job.case(), job.split(), before, after, choose_device("auto"), told)
    if report is None:
        raise ShareError("This job set no slice aside, so nothing can be examined on it.")
    return report


def connect(url: str) -> DafneClient:
    """Return access to a server with the key that is known for it.

    Raises
    ------
    ShareError
        If there is no key, or the server is not there.
    """
    key = api_key(url)
    if key is None:
        raise ShareError(
            f"There is no API key for this server: set the environment variable {ENVIRONMENT}."
        )
    return DafneClient(url, key)
