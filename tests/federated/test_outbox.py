"""Nothing is lost on the way to a server, and nothing is sent twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from napari_dante.errors import ShareError, Uncertain, Unreachable
from napari_dante.federated import DafneClient, Item, Outbox, lookout, sharing
from napari_dante.federated.history import share_log, shares
from napari_dante.federated.lookout import follow, look
from napari_dante.federated.sharing import push_file, retry, send, send_due
from napari_dante.files import sha256
from napari_dante.model.dafne import DafneModel, read_dafne, to_dafne, write_dafne
from napari_dante.model.merging import prove_files, simulate
from tests.federated.conftest import until
from tests.federated.tiny import tiny_model
from tests.federated.wild import Wild

pytestmark = pytest.mark.xdist_group("outbox")  # what they share is made once

KEY = "s3cret-k3y"
NAME = "Tiny head"
SHARES = [round(0.1 * tenth, 1) for tenth in range(10)]


def padded(seed: int) -> DafneModel:
    """A model whose file is larger than what a socket swallows in one go."""
    model = to_dafne(tiny_model(seed))
    draw = torch.Generator().manual_seed(seed)
    return replace(model, weights=model.weights | {"big": torch.randn(2_000_000, generator=draw)})


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server's version ``1``, ours, and the version that comes of them."""
    folder = tmp_path_factory.mktemp("files")
    old, ours, other = padded(0), padded(1), padded(2)
    for name, model in {"old": old, "ours": ours}.items():
        write_dafne(folder / f"{name}.model", model)
    for name, update in {"merged": ours, "others": other}.items():
        weights = simulate(old.weights, update.weights)
        write_dafne(folder / f"{name}.model", replace(old, weights=weights))
    return folder


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "SEND_PAUSES", ())
    monkeypatch.setattr(lookout, "_POLL_SECONDS", (0.02, 0.02))


@pytest.fixture
def wild(files: Path) -> Iterator[Wild]:
    with Wild({"1": (files / "old.model").read_bytes()}).running() as server:
        yield server


@pytest.fixture
def client(wild: Wild) -> Iterator[DafneClient]:
    with DafneClient(wild.url, KEY, timeout=1.0) as client:
        yield client


def put(files: Path, wild: Wild, source: str = "f" * 64) -> Item:
    path = files / "ours.model"
    return Outbox().put(path, url=wild.url, name=NAME, base="1", source=source, dice=0.5)


def only() -> Item:
    (item,) = Outbox().items()
    return item


@pytest.mark.parametrize("share", SHARES)
def test_an_upload_cut_anywhere_waits_and_then_arrives_once(
    files: Path, wild: Wild, client: DafneClient, share: float
) -> None:
    """The last megabytes may be on their way when it breaks: then nobody can know."""
    item = put(files, wild)
    wild.plan["upload_model"] = [("cut-upload", share)]
    with pytest.raises((Unreachable, Uncertain)) as caught:
        send(client, Outbox(), item)
    surely_not = isinstance(caught.value, Unreachable)
    assert surely_not or share > 0.5
    assert sha256(Outbox().file(only())) == sha256(files / "ours.model")
    assert wild.kept == []
    if surely_not:
        assert only().state == "waiting"
        assert only().not_before > time.time()
        assert send(client, Outbox(), only()).state == "sent"
        assert wild.kept == [(files / "ours.model").read_bytes()]
    else:
        assert only().state == "unknown"
        assert send(client, Outbox(), only()).state == "unknown"
        assert wild.kept == []


@pytest.mark.parametrize("share", SHARES)
def test_a_download_cut_anywhere_is_begun_again_or_leaves_nothing(
    files: Path, wild: Wild, client: DafneClient, tmp_path: Path, share: float
) -> None:
    target = tmp_path / "got" / "it.model"
    wild.plan["get_model"] = [("cut", share)] * 3
    with pytest.raises(Unreachable, match="nothing was changed"):
        client.download(NAME, target)
    assert list(target.parent.iterdir()) == []
    wild.plan["get_model"] = [("cut", share)] * 2
    client.download(NAME, target)
    assert sha256(target) == sha256(files / "old.model")


UNSURE: list[Any] = [
    ("lost",),
    ("hang",),
    ("cut", 0.5),
    ("say", 500, b"<html>"),
    ("say", 502, b""),
    ("say", 504, {"message": "upload successful"}),
    ("say", 200, b"upload successful"),
    ("say", 200, {"message": "yes"}),
]


@pytest.mark.parametrize("plan", UNSURE, ids=str)
def test_what_nobody_knows_is_never_sent_again(
    files: Path, wild: Wild, client: DafneClient, plan: Any
) -> None:
    item = put(files, wild)
    wild.plan["upload_model"] = [plan]
    with pytest.raises(Uncertain, match="not known whether it arrived"):
        send(client, Outbox(), item)
    assert only().state == "unknown"
    sent = len(wild.seen)
    assert send(client, Outbox(), only()).state == "unknown"
    assert retry(client, Outbox(), only(), prove_files).outcome == "unknown"
    assert send_due(client, Outbox()) == []
    with pytest.raises(ShareError, match="not known whether they arrived"):
        put(files, wild)
    assert not any("upload" in path for path, _ in wild.seen[sent:])
    assert sha256(Outbox().file(only())) == sha256(files / "ours.model")


def test_a_lost_answer_is_settled_by_the_next_version(
    files: Path, wild: Wild, client: DafneClient
) -> None:
    wild.plan["upload_model"] = [("lost",)]
    with pytest.raises(Uncertain):
        send(client, Outbox(), put(files, wild))
    wild.publish("2", (files / "merged.model").read_bytes())
    receipt = retry(client, Outbox(), only(), prove_files)
    assert (receipt.outcome, receipt.after_timestamp, receipt.exact) == ("merged", "2", True)
    assert Outbox().items() == []
    assert len(wild.kept) == 1
    (shared,) = shares()
    assert shared.answer == "unknown"
    assert shared.receipt == receipt


@pytest.mark.parametrize(
    "plan",
    [
        ("say", 401, {"message": "invalid access code"}),
        ("say", 403, {"message": "x"}),
        ("say", 413, b""),
        ("say", 500, {"message": "invalid model type"}),
        ("say", 200, [{"message": "Communication error during upload"}, 500]),
        ("say", 307, b"http://localhost:1/upload_model"),
        ("say", 302, b"/elsewhere"),
    ],
    ids=str,
)
def test_a_refused_file_waits_with_the_reason(
    files: Path, wild: Wild, client: DafneClient, plan: Any
) -> None:
    item = put(files, wild)
    wild.plan["upload_model"] = [plan]
    with pytest.raises(ShareError) as caught:
        send(client, Outbox(), item)
    assert (only().state, only().reason) == ("waiting", caught.value.sentence)
    assert send(client, Outbox(), only()).state == "sent"
    assert len(wild.kept) == 1
    assert [shared.answer for shared in shares()] == ["refused", "received"]


def test_pauses_grow(files: Path, wild: Wild, client: DafneClient) -> None:
    put(files, wild)
    pauses = []
    for _ in range(12):
        wild.plan["upload_model"] = [("cut-upload", 0.5)]
        with pytest.raises(Unreachable):
            send(client, Outbox(), only())
        pauses.append(only().not_before - time.time())
    assert only().tries == 12
    for first, second in pairwise(pauses):
        assert second == pytest.approx(min(2 * first, 6 * 3600), rel=0.05)
    assert send_due(client, Outbox()) == []
    assert only().state == "waiting", "it is not due yet"
    Outbox().save(replace(only(), not_before=0))
    assert send_due(client, Outbox()) == []
    assert only().state == "sent"


def test_patience_bridges_a_short_break(
    files: Path, wild: Wild, client: DafneClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "SEND_PAUSES", (0.0, 0.0))
    wild.plan["upload_model"] = [("cut-upload", 0.3), ("cut-upload", 0.6)]
    assert send(client, Outbox(), put(files, wild)).state == "sent"
    assert wild.kept == [(files / "ours.model").read_bytes()]


def test_two_uploads_are_not_in_one_second(
    files: Path, wild: Wild, client: DafneClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server of Dafne's would keep only one of them, and praise both."""
    monkeypatch.setattr(sharing, "APART", 1.1)
    send(client, Outbox(), put(files, wild))
    other = Outbox().put(
        files / "others.model", url=wild.url, name=NAME, base="1", source="e" * 64, dice=None
    )
    begin = time.monotonic()
    send(client, Outbox(), other)
    assert time.monotonic() - begin > 1
    assert len(wild.kept) == 2


def test_a_server_that_went_on_is_not_sent_what_was_checked_before(
    files: Path, wild: Wild, client: DafneClient
) -> None:
    item = put(files, wild)
    wild.publish("2", (files / "others.model").read_bytes())
    with pytest.raises(ShareError, match="newer version"):
        send(client, Outbox(), item)
    assert wild.kept == []
    assert "newer version" in only().reason


def test_weights_that_are_not_merged_are_said_so_and_looked_for_again(
    files: Path, wild: Wild, client: DafneClient
) -> None:
    sent = send(client, Outbox(), put(files, wild))
    assert look(client, Outbox(), sent, prove_files).outcome == "unknown"
    wild.publish("2", (files / "others.model").read_bytes())
    receipt = look(client, Outbox(), only(), prove_files)
    assert (receipt.outcome, receipt.after_timestamp) == ("not merged", "2")
    assert only().state == "sent"
    fetched = len(wild.seen)
    assert look(client, Outbox(), only(), prove_files).outcome == "not merged"
    assert not any("get_model" in path for path, _ in wild.seen[fetched:]), "searched already"
    second = read_dafne(files / "others.model")
    ours = read_dafne(files / "ours.model")
    third = replace(second, weights=simulate(second.weights, ours.weights))
    write_dafne(files / "third.model", third)
    wild.publish("3", (files / "third.model").read_bytes())
    receipt = look(client, Outbox(), only(), prove_files)
    assert (receipt.outcome, receipt.after_timestamp) == ("merged", "3")
    assert [line["outcome"] for line in _receipts()] == ["not merged", "merged"]


def _receipts() -> list[dict[str, Any]]:
    log = share_log().with_name("receipts.jsonl")
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_a_version_that_cannot_be_read_proves_nothing(
    files: Path, wild: Wild, client: DafneClient
) -> None:
    sent = send(client, Outbox(), put(files, wild))
    wild.publish("2", b"no model")
    receipt = look(client, Outbox(), sent, prove_files)
    assert (receipt.outcome, receipt.after_timestamp) == ("unknown", "2")
    del wild.versions["1"]
    wild.publish("2", (files / "merged.model").read_bytes())
    assert look(client, Outbox(), only(), prove_files).outcome == "unknown", "its base is gone"


def test_two_merges_from_one_version_are_both_found(
    files: Path, wild: Wild, client: DafneClient
) -> None:
    sent = send(client, Outbox(), put(files, wild))
    wild.publish("2", (files / "others.model").read_bytes())
    wild.publish("3", (files / "merged.model").read_bytes())
    assert look(client, Outbox(), sent, prove_files).after_timestamp == "3"


def test_merged_weights_are_not_pushed_again(files: Path, wild: Wild, client: DafneClient) -> None:
    wild_version = (files / "merged.model").read_bytes()
    source = "a" * 64

    def push(base: str) -> Any:
        return push_file(
            client, Outbox(), files / "ours.model", prove_files, name=NAME, base=base,
            source=source, merge_seconds=0.0,
        )  # fmt: skip

    assert push("1").outcome == "unknown"
    wild.publish("2", wild_version)
    assert follow(client, Outbox(), only(), prove_files).outcome == "merged"
    with pytest.raises(ShareError, match="already in version 2"):
        push("2")
    assert len(wild.kept) == 1


def test_an_outbox_item_that_was_tampered_with_is_not_sent(
    files: Path, wild: Wild, client: DafneClient
) -> None:
    item = put(files, wild)
    path = Outbox().file(item)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ShareError, match="damaged"):
        send(client, Outbox(), item)
    assert wild.kept == []


def test_half_written_and_foreign_folders_are_no_items(files: Path, wild: Wild) -> None:
    item = put(files, wild)
    root = Outbox()._root
    (root / ".new-x").mkdir()
    (root / "empty").mkdir()
    (root / "stray.model").write_bytes(b"x")
    for name, text in {
        "list": "[]",
        "cut": '{"id": "cut", "na',
        "state": json.dumps({"id": 3}),
    }.items():
        (root / name).mkdir()
        (root / name / "item.json").write_text(text)
    assert Outbox().items() == [item]
    Outbox().drop(item)
    assert Outbox().items() == []
    with pytest.raises(ShareError, match="no longer"), Outbox().held(item):
        pass


PROGRAM = """
import sys
from napari_dante.federated import DafneClient, Outbox
from napari_dante.federated.sharing import send
with DafneClient(sys.argv[1], "s3cret-k3y", timeout=60) as client:
    (item,) = Outbox().items()
    send(client, Outbox(), item)
"""


def test_a_killed_program_leaves_what_it_was_sending_as_unknown(
    files: Path, wild: Wild, client: DafneClient
) -> None:
    item = put(files, wild)
    wild.plan["upload_model"] = [("hang",)]
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, wild.url], env=dict(os.environ))
    with process:
        until(lambda: any("upload" in path for path, _ in wild.seen), 60)
        assert only().state == "sending"
        for action in (
            lambda: send(client, Outbox(), item),
            lambda: Outbox().drop(item),
        ):
            with pytest.raises(ShareError, match="another window"):
                action()
        process.send_signal(signal.SIGKILL)
    assert only().state == "unknown"
    assert "program ended" in only().reason
    assert send(client, Outbox(), only()).state == "unknown"
    assert sha256(Outbox().file(only())) == item.sha256
    uploads = [path for path, _ in wild.seen if "upload" in path]
    assert len(uploads) == 1


def test_a_download_that_hangs_or_drips_wrong_bytes_ends(
    files: Path, wild: Wild, tmp_path: Path
) -> None:
    with DafneClient(wild.url, KEY, timeout=0.3) as client:
        for plan in (
            ("hang",),
            ("say", 500, b""),
            ("say", 200, b"wrong"),
            ("say", 302, b"http://localhost:1/"),
        ):
            wild.plan["get_model"] = [plan] * 3
            with pytest.raises(ShareError):
                client.download(NAME, tmp_path / "x.model")
    assert list(tmp_path.glob("x*")) == []
