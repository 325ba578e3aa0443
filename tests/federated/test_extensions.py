"""What our server takes beyond Dafne's protocol, and that nobody else is given it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from napari_dante.cli import run
from napari_dante.errors import ShareError
from napari_dante.federated import DafneClient, Outbox, lookout, push_file
from napari_dante.federated.history import Receipt, shares
from napari_dante.federated.sharing import retry
from napari_dante.files import sha256
from napari_dante.model.dafne import read_dafne, to_dafne, write_dafne
from napari_dante.model.merging import prove_files
from tests.federated.conftest import Site, until
from tests.federated.serving import query
from tests.federated.test_round_trip import my_uploads, update_file
from tests.federated.tiny import tiny_model
from tests.federated.wild import Wild

NAME = "Tiny head"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookout, "_POLL_SECONDS", (0.05, 0.05))


@pytest.fixture
def wild(tmp_path: Path) -> Iterator[Wild]:
    write_dafne(tmp_path / "first.model", to_dafne(tiny_model(0)))
    with Wild({"1": (tmp_path / "first.model").read_bytes()}).running() as server:
        yield server


def push(client: DafneClient, path: Path, seconds: float = 20.0) -> Receipt:
    return push_file(
        client,
        Outbox(),
        path,
        prove_files,
        name=NAME,
        base=client.info(NAME).latest,
        cases=3,
        merge_seconds=seconds,
    )


def broken(site: Site, path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An update that every server should refuse."""
    good = read_dafne(update_file(site, path, tiny_model(1)))
    weights = {
        key: torch.full_like(value, torch.nan) if value.is_floating_point() else value
        for key, value in good.weights.items()
    }
    with monkeypatch.context() as patched:
        patched.setattr(torch, "isfinite", lambda value: torch.ones(1))
        write_dafne(path, replace(good, weights=weights))
    return path


def test_our_server_is_told_how_many_images_were_taught(site: Site, tmp_path: Path) -> None:
    path = update_file(site, tmp_path / "update.model", tiny_model(1))
    with site.client() as client:
        assert push(client, path).outcome == "merged"
    assert query(site.data, "SELECT cases FROM upload") == [(3,)]
    assert [shared.cases for shared in shares()] == [3]


def test_dafnes_servers_get_nothing_that_they_do_not_know(wild: Wild, tmp_path: Path) -> None:
    update = tmp_path / "update.model"
    write_dafne(update, to_dafne(tiny_model(1), read_dafne(tmp_path / "first.model")))
    with DafneClient(wild.url, "key") as client:
        assert push(client, update, seconds=0.2).outcome == "unknown"
        (item,) = Outbox().items()
        assert item.cases == 3
        assert retry(client, Outbox(), item, prove_files).outcome == "unknown"
    assert len(wild.kept) == 1
    assert not any(path.endswith("my_uploads") for path, _ in wild.seen)
    assert not any(b'name="cases"' in request for _, request in wild.seen)
    assert [shared.cases for shared in shares()] == [None], "what did not leave is not noted"


def test_a_refusal_is_told_with_its_reason(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = broken(site, tmp_path / "bad.model", monkeypatch)
    with site.client() as client:
        receipt = push(client, path)
        (told,) = my_uploads(site)
        assert receipt.outcome == "refused"
        assert receipt.reason == told["reason"] != ""
        assert told["reason"] in receipt.sentence
        assert client.fate(NAME, "0" * 64) is None
    assert Outbox().items() == [], "there is nothing left to do for it"
    assert run(["receipts"]) == 0
    assert told["reason"] in capsys.readouterr().out


def test_a_refusal_is_found_later_too(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = broken(site, tmp_path / "bad.model", monkeypatch)
    with site.client() as client:
        with monkeypatch.context() as patched:
            patched.setattr(DafneClient, "fate", lambda *_: None)
            assert push(client, path, seconds=0.0).outcome == "unknown"
        (item,) = Outbox().items()
        until(lambda: my_uploads(site)[0]["state"] == "quarantined")
        assert retry(client, Outbox(), item, prove_files).outcome == "refused"
    assert Outbox().items() == []


@pytest.mark.parametrize(
    "answer",
    [
        "no",
        [],
        {},
        {"uploads": 3},
        {"uploads": [3, {"sha256": 4}]},
        {"uploads": [{"sha256": "DIGEST"}]},
        {"uploads": [{"sha256": "DIGEST", "state": ["rejected"], "reason": 3}]},
        {"uploads": [{"sha256": "DIGEST", "state": "exploded", "reason": "x"}]},
    ],
)
def test_nonsense_about_an_upload_says_nothing(wild: Wild, tmp_path: Path, answer: Any) -> None:
    update = tmp_path / "update.model"
    write_dafne(update, to_dafne(tiny_model(1), read_dafne(tmp_path / "first.model")))
    if isinstance(answer, dict) and answer.get("uploads") and answer["uploads"] != 3:
        answer = {"uploads": [_with(one, sha256(update)) for one in answer["uploads"]]}
    with DafneClient(wild.url, "key") as client:
        info = client.info(NAME)
        told = {
            "hashes": dict(info.hashes),
            "latest_timestamp": info.latest,
            "extensions": ["my_uploads", 3],
        }
        wild.plan["info_model"] = [("say", 200, told)] * 9
        wild.plan["my_uploads"] = [("say", 200, answer)] * 9
        assert push(client, update, seconds=0.1).outcome == "unknown"
    assert len(Outbox().items()) == 1


def _with(upload: Any, digest: str) -> Any:
    if not isinstance(upload, dict) or upload.get("sha256") != "DIGEST":
        return upload
    return upload | {"sha256": digest}


def test_what_a_server_says_is_shown_as_one_plain_line(wild: Wild) -> None:
    upload = {"sha256": "a", "state": "rejected", "reason": "bad\n\x1b[31m\u202e" + "x" * 900}
    wild.plan["my_uploads"] = [("say", 200, {"uploads": [upload]}), ("say", 403, {"message": "no"})]
    with DafneClient(wild.url, "key") as client:
        fate = client.fate(NAME, "a")
        assert fate is not None
        assert fate.refused
        assert fate.reason.isprintable()
        assert len(fate.reason) <= 300
        with pytest.raises(ShareError):
            client.fate(NAME, "a")
