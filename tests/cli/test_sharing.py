"""``serve``, ``pull`` and ``push`` on the loopback interface."""

from __future__ import annotations

import json
import os
import pickle
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_dante.adapt.recipe import LoRA
from napari_dante.cli import run
from napari_dante.errors import Unreachable
from napari_dante.federated import Outbox
from napari_dante.federated.history import share_log
from napari_dante.federated.server import app, create_app, first_key, publish
from napari_dante.jobs.folder import CaseData, JobFolder, create_job
from napari_dante.model.dafne import to_dafne
from napari_dante.model.file import read_model, write_model
from napari_dante.model.library import Library
from napari_dante.model.segmenter import Segmenter
from napari_dante.ui.samples import sample_path
from napari_dante.volume import open_volume
from tests.federated.conftest import ThreadMerging, running

KEY = "a-key-for-the-tests-only"
NAME = "brain-tissue-t1"
BETTER = {"before": 0.2, "after": 0.7, "slices": 2, "verdict": "better"}


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server process on an empty folder; yields its address."""
    monkeypatch.setenv("NAPARI_DANTE_API_KEY", KEY)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "napari_dante", "serve", "--data", str(tmp_path / "server")]
    with subprocess.Popen([*command, "--port", str(port)], stdout=subprocess.PIPE) as serving:
        _wait_until_it_listens(port, serving)
        yield f"http://127.0.0.1:{port}/"
        serving.terminate()
        assert serving.stdout is not None
        assert KEY.encode() not in serving.stdout.read()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The same in a thread; a process takes seconds to load what it publishes."""
    monkeypatch.setenv("NAPARI_DANTE_API_KEY", KEY)
    monkeypatch.setattr(app, "Merging", ThreadMerging)
    data = tmp_path / "server"
    publish(data, NAME, to_dafne(read_model(Library().resolve(NAME))))
    assert first_key(data) is None, "the administrator has the key of the environment"
    with running(create_app(data)) as url:
        yield f"{url}/"


def _wait_until_it_listens(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise AssertionError("the server did not start")


def test_pull_teach_push_and_the_server_has_a_new_version(
    process: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pulled = tmp_path / "pulled.safetensors"
    assert run(["pull", NAME, "--server", process, "--out", str(pulled)]) == 0
    model = read_model(pulled)
    assert model.lineage.server_timestamp
    better = tmp_path / "better.safetensors"
    weights = {key: value * np.float32(1.5) for key, value in model.weights.items()}
    lineage = replace(model.lineage, exam=BETTER)
    write_model(better, replace(model, weights=weights, lineage=lineage))
    capsys.readouterr()
    assert run(["push", str(better), "--server", process, "--name", NAME, "--json"]) == 0
    receipt = json.loads(capsys.readouterr().out)
    assert receipt["before_timestamp"] == model.lineage.server_timestamp
    assert int(receipt["after_timestamp"]) > int(receipt["before_timestamp"])
    assert (receipt["outcome"], receipt["exact"]) == ("merged", True)
    assert [light["name"] for light in receipt["lights"]] == ["weights", "layout", "exam", "merged"]
    assert run(["receipts", "--json"]) == 0
    (shared,) = json.loads(capsys.readouterr().out)["shared"]
    assert shared["receipt"]["after_timestamp"] == receipt["after_timestamp"]
    assert run(["receipts"]) == 0
    assert "50 % of it is yours" in capsys.readouterr().out
    assert run(["push", str(better), "--server", process, "--name", NAME]) == 1
    assert "already in version" in capsys.readouterr().err
    (line,) = share_log().read_text().splitlines()
    logged = json.loads(line)
    assert logged["model"] == NAME
    assert logged["base"] == receipt["before_timestamp"]
    assert KEY not in line
    assert str(tmp_path) not in line
    again = tmp_path / "again.safetensors"
    assert run(["pull", NAME, "--server", process, "--out", str(again)]) == 0
    sent = read_model(better).weights
    for key, value in read_model(again).weights.items():
        merged = model.weights[key] * np.float32(0.5) + sent[key] * np.float32(0.5)
        assert np.array_equal(value, merged), key


@pytest.mark.parametrize("exam", [None, {**BETTER, "verdict": "worse"}])
def test_what_is_not_proven_better_stays_here(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], exam: dict[str, object] | None
) -> None:
    pulled = tmp_path / "pulled.safetensors"
    run(["pull", NAME, "--server", server, "--out", str(pulled)])
    model = read_model(pulled)
    write_model(pulled, replace(model, lineage=replace(model.lineage, exam=exam)))
    assert run(["push", str(pulled), "--server", server, "--name", NAME]) == 1
    captured = capsys.readouterr()
    assert captured.out.count("NO ") == 1
    assert captured.err.startswith("Nothing was sent.")
    assert captured.err.count("\n") == 1
    assert not list((tmp_path / "server").rglob("uploads/*"))


def job_folder(folder: Path, model: Path) -> JobFolder:
    """A job on a part of a real head, whose labels are what `model` says."""
    volume = open_volume(sample_path("mni152_t1"))
    image, spacing = np.asarray(volume.array)[30:50], volume.geometry.spacing
    labels = Segmenter.from_file(model, "cpu").predict(image, spacing)
    names = {n: label.name for n, label in enumerate(read_model(model).spec.labels, start=1)}
    case = CaseData(image, labels, names, spacing, 0, np.ones(len(image), bool))
    return create_job(folder, model, [case], LoRA())


def test_push_and_pull_examine_on_the_slices_of_a_job(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pulled, job = tmp_path / "pulled.safetensors", tmp_path / "job"
    assert run(["pull", NAME, "--server", server, "--out", str(pulled)]) == 0
    assert run(["pull", NAME, "--server", server, "--out", str(pulled)]) == 0
    assert "nothing newer" in capsys.readouterr().out
    model = read_model(pulled)
    job_folder(job, pulled)
    ruined = tmp_path / "ruined.safetensors"
    weights = {key: value * np.float32(-3) for key, value in model.weights.items()}
    write_model(
        ruined, replace(model, weights=weights, lineage=replace(model.lineage, exam=BETTER))
    )
    push = ["push", str(ruined), "--server", server, "--name", NAME]
    status = run([*push, "--job", str(job)])
    out = capsys.readouterr()
    assert status == 1
    assert "Merged into the server's version it is worse" in out.err
    assert not list((tmp_path / "server").rglob("uploads/*.model"))
    assert Outbox().items() == []
    assert run(push) == 0, "nobody looked"
    before = pulled.read_bytes()
    pull = ["pull", NAME, "--server", server, "--out", str(pulled), "--job", str(job)]
    capsys.readouterr()
    assert run(pull) == 1
    assert "worse on your exam slices" in capsys.readouterr().err
    assert pulled.read_bytes() == before
    assert run([*pull, "--even-if-worse"]) == 0
    assert pulled.read_bytes() != before


def test_what_cannot_be_sent_waits_and_can_be_retried_and_dropped(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pulled = tmp_path / "pulled.safetensors"
    assert run(["pull", NAME, "--server", server, "--out", str(pulled)]) == 0
    model = read_model(pulled)
    weights = {key: value * np.float32(1.5) for key, value in model.weights.items()}
    write_model(
        pulled, replace(model, weights=weights, lineage=replace(model.lineage, exam=BETTER))
    )

    def refuse(*_: object) -> None:
        raise Unreachable("The connection broke.")

    with monkeypatch.context() as patched:
        patched.setattr("napari_dante.federated.sharing.SEND_PAUSES", ())
        patched.setattr("napari_dante.federated.client.DafneClient.upload", refuse)
        assert run(["push", str(pulled), "--server", server, "--name", NAME]) == 1
    capsys.readouterr()
    assert run(["outbox", "list"]) == 0
    out = capsys.readouterr().out
    assert "waiting" in out
    assert "The connection broke." in out
    (item,) = Outbox().items()
    assert run(["outbox", "retry", "nothing"]) == 1
    assert run(["outbox", "retry", item.id[:5]]) == 0
    capsys.readouterr()
    assert run(["outbox", "list", "--json"]) == 0
    for entry in json.loads(capsys.readouterr().out)["items"]:
        assert entry["state"] == "sent"
    for item in Outbox().items():
        assert run(["outbox", "drop", item.id]) == 0
    assert Outbox().items() == []


def test_a_server_that_is_down_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAPARI_DANTE_API_KEY", KEY)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/"
    target = tmp_path / "never.safetensors"
    for command in (
        ["pull", NAME, "--server", url, "--out", str(target)],
        ["push", NAME, "--server", url, "--name", NAME],
    ):
        assert run(command) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "does not answer" in error
        assert KEY not in error
    assert not target.exists()


def test_a_wrong_key_is_one_sentence(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAPARI_DANTE_API_KEY", "another-key")
    target = tmp_path / "never.safetensors"
    assert run(["pull", NAME, "--server", server, "--out", str(target)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "another-key" not in error
    assert not target.exists()


class _Attack:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch '{self.canary}'",)


def test_a_malicious_model_file_is_refused_and_nothing_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, canary = tmp_path / "evil.model", tmp_path / "canary"
    source.write_bytes(pickle.dumps({"model_id": "x", "weights": _Attack(canary)}, protocol=4))
    target = tmp_path / "never.safetensors"
    assert run(["model", "import", str(source), str(target)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not canary.exists()
    assert not target.exists()
