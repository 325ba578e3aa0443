"""``pull`` and ``push``."""

from __future__ import annotations

import tempfile
from argparse import Namespace
from dataclasses import asdict, replace
from pathlib import Path

from napari_dante.cli.console import emit_json, say
from napari_dante.errors import ShareError
from napari_dante.evaluate.report import read_report
from napari_dante.federated.client import DafneClient
from napari_dante.federated.credentials import ENVIRONMENT, api_key
from napari_dante.federated.gate import fit_to_share, judge
from napari_dante.federated.sharing import outbox_file, push_file
from napari_dante.model.dafne import from_dafne, read_dafne, to_dafne, write_dafne
from napari_dante.model.file import read_model, write_model
from napari_dante.model.library import Library

__all__ = ["pull", "push"]


def pull(options: Namespace) -> None:
    """Fetch a model; its code is never run."""
    with _client(options.server) as client, tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "pulled.model"
        timestamp = client.download(options.name, target)
        model = from_dafne(read_dafne(target), options.name)
    lineage = replace(model.lineage, server_timestamp=timestamp)
    write_model(options.out, replace(model, lineage=lineage), half=False)
    say(f"{options.name}, version {timestamp} of the server.")


def push(options: Namespace) -> None:
    """Send the weights of a model, if they are fit to share."""
    model = read_model(Library().resolve(options.model))
    exam = read_report(options.exam).summary() if options.exam else model.lineage.exam
    with _client(options.server) as client, tempfile.TemporaryDirectory() as folder:
        current = Path(folder) / "current.model"
        client.download(options.name, current)
        base = read_dafne(current)
        lights = judge(model, from_dafne(base, options.name), exam["verdict"] if exam else None)
        if not fit_to_share(lights):
            reasons = " ".join(light.sentence for light in lights if not light.ok)
            raise ShareError(f"Nothing was sent. {reasons}")
        packed = outbox_file()
        write_dafne(packed, to_dafne(model, base=base))
        receipt = push_file(client, options.name, packed, exam["after"] if exam else None)
    if options.json:
        emit_json(asdict(receipt))
    elif receipt.after_timestamp is None:
        say("The server has the weights; it has not merged them yet.")
    else:
        say(f"Merged: version {receipt.before_timestamp} → {receipt.after_timestamp}.")


def _client(url: str) -> DafneClient:
    key = api_key(url)
    if key is None:
        raise ShareError(
            f"There is no API key for this server: set the environment variable {ENVIRONMENT}."
        )
    return DafneClient(url, key)
