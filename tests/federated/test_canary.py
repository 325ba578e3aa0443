"""The bytes of every request of a whole loop: weights, a name and a number, nothing else."""

from __future__ import annotations

import getpass
import json
import re
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_dante.cli import run
from napari_dante.federated import Outbox, sharing
from napari_dante.model.dafne import to_dafne, write_dafne
from napari_dante.model.file import Model, read_model, write_model
from napari_dante.model.merging import simulate
from tests.federated.tiny import tiny_model
from tests.federated.wild import Wild

KEY = "s3cret-k3y-of-anna"
NAME = "Tiny head"
EXAM = {"before": 0.2, "after": 0.7, "slices": 2, "verdict": "better"}


@pytest.fixture
def wild(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wild]:
    monkeypatch.setenv("NAPARI_DANTE_API_KEY", KEY)
    monkeypatch.setattr(sharing, "SEND_PAUSES", ())
    write_dafne(tmp_path / "first.model", to_dafne(tiny_model(0)))
    with Wild({"100": (tmp_path / "first.model").read_bytes()}).running() as server:
        yield server


def better(model: Model) -> Model:
    weights = {
        key: value * np.float32(1.5) if value.dtype.kind == "f" else value
        for key, value in model.weights.items()
    }
    return replace(model, weights=weights, lineage=replace(model.lineage, exam=EXAM, cases=7))


def test_nothing_of_a_patient_leaves(
    wild: Wild, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = tmp_path / "Miller^Erika 1950-02-03"
    private.mkdir()
    monkeypatch.chdir(private)
    mine = private / "PATIENT-4711 Miller.safetensors"
    wild.plan["upload_model"] = [("say", 413, b""), ("lost",)]
    assert run(["pull", NAME, "--server", wild.url, "--out", str(mine)]) == 0
    write_model(mine, better(read_model(mine)), half=False)
    push = ["push", str(mine), "--server", wild.url, "--name", NAME]
    assert run(push) == 1, "refused"
    for _ in range(2):
        run(["outbox", "retry"])
    first = to_dafne(tiny_model(0))
    ours = to_dafne(better(tiny_model(0)))
    merged = replace(first, weights=simulate(first.weights, ours.weights))
    write_dafne(tmp_path / "second.model", merged)
    wild.publish("101", (tmp_path / "second.model").read_bytes())
    assert run(["outbox", "retry"]) == 0
    assert Outbox().items() == []
    assert run(["pull", NAME, "--server", wild.url, "--out", str(mine)]) == 0
    assert run(["receipts"]) == 0
    assert {"upload_model", "get_model", "info_model", "get_available_models"} == {
        path.rsplit("/", 1)[-1] for path, _ in wild.seen
    }
    private_words = ["Miller", "4711", "1950", str(tmp_path), "/home", getpass.getuser()]
    private_words += [word for word in (socket.gethostname(),) if len(word) > 3]
    for path, request in wild.seen:
        for word in private_words:
            assert word.encode() not in re.sub(rb"octet-stream\r\n\r\n.*", b"", request, flags=re.S)
            assert len(word) < 5 or word.encode() not in request, (path, word)
        _check_key(path, request)
        _check_fields(path, request)
    assert len([path for path, _ in wild.seen if "upload" in path]) == 2
    assert len(wild.kept) == 1


def _check_key(path: str, request: bytes) -> None:
    """The key stands once, in the body, as the field that the protocol has for it."""
    head, body = request.split(b"\r\n\r\n", 1)
    assert KEY.encode() not in head
    if path.startswith("GET"):
        assert KEY.encode() not in body
    elif "upload" in path:
        before = re.sub(rb"octet-stream\r\n\r\n.*", b"", body, flags=re.S)
        assert before.count(KEY.encode()) == body.count(KEY.encode()) == 1
        assert b'name="api_key"\r\n\r\n' + KEY.encode() + b"\r\n" in before
    else:
        assert json.loads(body)["api_key"] == KEY
        assert body.count(KEY.encode()) == 1


def _check_fields(path: str, request: bytes) -> None:
    """Nothing is sent that has no place in the protocol."""
    head, body = request.split(b"\r\n\r\n", 1)
    headers = {line.split(b":")[0].lower() for line in head.split(b"\r\n")[1:]}
    assert headers <= {
        b"host",
        b"accept",
        b"accept-encoding",
        b"connection",
        b"user-agent",
        b"content-length",
        b"content-type",
    }
    if path.startswith("POST") and "upload" not in path:
        assert set(json.loads(body)) <= {"api_key", "model_type", "timestamp"}
    elif path.startswith("POST"):
        start = re.sub(rb"octet-stream\r\n\r\n.*", b"", body, flags=re.S)
        assert set(re.findall(rb' name="(\w+)"', start)) == {
            b"api_key",
            b"model_type",
            b"original_hash",
            b"hash",
            b"chunk_index",
            b"total_chunks",
            b"filename",
            b"dice",
            b"model_binary",
        }
        for name in re.findall(rb'filename="([^"]*)"', start):
            assert re.fullmatch(rb"[0-9a-f-]{36}\.model", name)
