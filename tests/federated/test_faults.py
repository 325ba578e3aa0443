"""Real server processes that are killed, starved and cut off: nothing lost, nothing twice."""

from __future__ import annotations

import errno
import os
import signal
import socket
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from napari_dante.federated import DafneClient
from napari_dante.federated.server import add_user, merge, publish
from napari_dante.federated.server.door import WRONG_KEYS
from napari_dante.federated.server.merge import Merger
from napari_dante.federated.server.store import Store
from napari_dante.federated.server.uploads import ATTEMPTS, Upload, Uploads
from napari_dante.files import sha256
from napari_dante.model.dafne import DafneModel, read_dafne, to_dafne, write_dafne
from napari_dante.model.merging import average
from tests.federated.conftest import Site, until
from tests.federated.serving import Server, query
from tests.federated.test_round_trip import my_uploads, update_file
from tests.federated.tiny import tiny_model

NAME = "Tiny head"
UPDATES = 5


def weighty(model: DafneModel) -> DafneModel:
    """The same with so much ballast in it that a merge takes a while."""
    seed = int(next(iter(model.weights.values())).sum() * 1e6)
    ballast = torch.randn(4_000_000, generator=torch.Generator().manual_seed(seed))
    return replace(model, weights=model.weights | {"ballast": ballast})


def begun(data: Path) -> list[int]:
    """The upload that a merge is at, if it is at one."""
    found = query(data, "SELECT id FROM upload WHERE state = 'waiting' AND attempts > 0")
    return [number for (number,) in found]


def test_killed_in_the_middle_of_merges(tmp_path: Path) -> None:
    data = tmp_path / "server"
    first = weighty(to_dafne(tiny_model(0)))
    publish(data, NAME, first)
    key = add_user(data, "anna")
    sent = [weighty(to_dafne(tiny_model(seed))) for seed in range(1, UPDATES + 1)]
    for number, update in enumerate(sent):
        write_dafne(tmp_path / f"{number}.model", update)

    with Server(data) as server:
        with DafneClient(server.url, key) as client:
            for number in range(UPDATES):
                client.upload(NAME, tmp_path / f"{number}.model")
        until(lambda: begun(data))
        server.kill()
    (hit,) = begun(data)
    with Server(data) as server:
        until(lambda: [number for number in begun(data) if number > hit])
        server.kill()
    with Server(data) as server:
        until(lambda: query(data, "SELECT count(*) FROM version") == [(UPDATES + 1,)])
        with DafneClient(server.url, key) as client:
            info = client.info(NAME)
            client.download(NAME, tmp_path / "last.model")

    expected = first.weights
    for update in sent:
        expected = average(expected, update.weights, 0.5)
    for name, value in read_dafne(tmp_path / "last.model").weights.items():
        assert torch.equal(value, expected[name]), name
    assert len(info.timestamps) == UPDATES + 1
    assert query(data, "SELECT state, count(*) FROM upload GROUP BY state") == [("merged", UPDATES)]
    events = [event for (event,) in query(data, "SELECT event FROM audit")]
    assert events.count("merged") == UPDATES
    assert events.count("merge begun") == UPDATES + 2, "the broken attempts are on record"
    folder = data / "models" / NAME
    assert list((folder / "uploads").glob("*.model")) == []
    for stamp in info.timestamps:
        assert sha256(folder / f"{stamp}.model") == info.hashes[stamp]


def test_a_quiet_process_that_continues_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "server"
    publish(data, NAME, to_dafne(tiny_model(0)))
    key = add_user(data, "anna")
    write_dafne(tmp_path / "up.model", to_dafne(tiny_model(1)))
    monkeypatch.setenv("NAPARI_DANTE_API_KEY", key)
    with Server(data) as server:
        with DafneClient(server.url, key) as client:
            client.upload(NAME, tmp_path / "up.model")
        found = [guess(server.url, number) for number in range(WRONG_KEYS + 1)]
        assert found == [401] * WRONG_KEYS + [429], "where it comes from is not theirs to say"
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) in (0, -signal.SIGTERM)
    with Server(data) as again:
        until(lambda: query(data, "SELECT state FROM upload") == [("merged",)])
    log = "".join(server.log + again.log)
    assert key not in log
    assert "POST" not in log
    assert "anna" not in log
    assert "127.0.0.1 port" in log


def guess(url: str, number: int) -> int:
    said = {"x-forwarded-for": f"10.0.0.{number}"}
    body = {"api_key": f"guess {number}"}
    return httpx.post(f"{url}/get_available_models", json=body, headers=said).status_code


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    data = tmp_path / "server"
    first = publish(data, NAME, weighty(to_dafne(tiny_model(0))))
    key = add_user(data, "anna")
    path = tmp_path / "up.model"
    write_dafne(path, weighty(to_dafne(tiny_model(1))))
    with Server(data, largest=8_000_000) as server:
        answer = send(server.url, key, path)
        assert answer.status_code == 507
        assert answer.json() == {"message": "the server cannot store anything now"}
        with DafneClient(server.url, key) as client:
            assert client.info(NAME).latest == first
            client.download(NAME, tmp_path / "got.model")
    assert query(data, "SELECT count(*) FROM upload") == [(0,)]
    assert list((data / "models" / NAME / "uploads").iterdir()) == []
    with Server(data) as server:
        assert send(server.url, key, path).status_code == 200
        until(lambda: query(data, "SELECT state FROM upload") == [("merged",)])


def test_a_disk_that_is_full_while_merging(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = update_file(site, tmp_path / "up.model", tiny_model(1))
    with site.client() as client, closing(Store(site.data)) as store:
        with monkeypatch.context() as patched:
            patched.setattr(merge, "write_dafne", full)
            client.upload(NAME, path)
            until(lambda: my_uploads(site)[0]["reason"])
        (told,) = my_uploads(site)
        assert told["state"] == "waiting"
        assert told["reason"] == "The server could not merge it yet: OSError"
        assert client.info(NAME).latest == site.first
        assert Merger(store).step()
    assert my_uploads(site)[0]["state"] == "merged"
    assert my_uploads(site)[0]["reason"] == ""


def full(path: Path, model: DafneModel) -> None:
    path.write_bytes(b"half of")
    raise OSError(errno.ENOSPC, "No space left on device")


def send(url: str, key: str, path: Path) -> httpx.Response:
    data = {"api_key": key, "model_type": NAME}
    with path.open("rb") as stream:
        return httpx.post(
            f"{url}/upload_model", data=data, files={"model_binary": stream}, timeout=60
        )


def raw_upload(site: Site, path: Path) -> bytes:
    """The bytes of an upload as they go over the line."""
    request = httpx.Request(
        "POST",
        f"{site.url}/upload_model",
        data={"api_key": site.key, "model_type": NAME, "hash": sha256(path)},
        files={"model_binary": ("x", path.read_bytes())},
    )
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    return b"POST /upload_model HTTP/1.1\r\n" + head.encode() + b"\r\n" + request.read()


def cut(site: Site, data: bytes) -> None:
    url = httpx.URL(site.url)
    with socket.create_connection((url.host, url.port)) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass


def test_uploads_that_are_cut_off_at_every_tenth(site: Site, tmp_path: Path) -> None:
    path = update_file(site, tmp_path / "up.model", tiny_model(1))
    whole = raw_upload(site, path)
    for tenth in range(10):
        cut(site, whole[: len(whole) * tenth // 10])
    uploads = site.data / "models" / NAME / "uploads"
    until(lambda: list(uploads.iterdir()) == [])
    assert my_uploads(site) == []
    assert '"event": "upload' not in site.audit()
    # The whole of it, but nobody is there to hear the answer; so it is sent once more.
    url = httpx.URL(site.url)
    with socket.create_connection((url.host, url.port)) as connection:
        connection.sendall(whole)
    until(lambda: my_uploads(site))
    with site.client() as client:
        client.upload(NAME, path)
        until(lambda: my_uploads(site)[0]["state"] == "merged")
        client.upload(NAME, path)
        assert len(my_uploads(site)) == 1, "nothing is merged twice"
        assert len(client.info(NAME).timestamps) == 2
    assert site.audit().count('"event": "upload repeated"') == 2


def test_files_that_nobody_was_told_of_are_set_aside_at_the_start(tmp_path: Path) -> None:
    """What a server that was killed between a file and its row leaves."""
    data = tmp_path / "server"
    first = publish(data, NAME, to_dafne(tiny_model(0)))
    folder = data / "models" / NAME
    with closing(Store(data)) as store:
        uploads = Uploads(store)
        kept = [queued(uploads, content) for content in (b"merged", b"lost", b"waits")]
        with store.database.change() as change:
            change.execute("UPDATE upload SET state = 'merged' WHERE id = ?", (kept[0].id,))
        uploads.path(kept[1]).unlink()
        later = folder / f"{int(first) + 9}.model"
        later.write_bytes(b"never shown")
        (folder / "uploads" / "stranger.model").write_bytes(b"never answered")
        fresh, old = folder / ".version-1", folder / "uploads" / ".received-1"
        for path in (fresh, old):
            path.write_bytes(b"half")
        os.utime(old, (0, 0))
        uploads.settle()
        assert {path.name for path in folder.glob("*.model")} == {f"{first}.model"}
        assert later.with_suffix(".unfinished").read_bytes() == b"never shown"
        assert [path.name for path in (folder / "uploads").glob("*.model")] == [kept[2].file]
        assert fresh.exists(), "somebody may still be writing it"
        assert not old.exists()
        lost = uploads.get(kept[1].id)
        assert lost is not None
        assert lost.state == "quarantined"
        assert "send it again" in lost.reason
        events = [entry["event"] for entry in store.database.audit()]
        assert events.count("unfinished file set aside") == 2


def queued(uploads: Uploads, content: bytes) -> Upload:
    received = uploads.receive(NAME)
    received.write(content)
    received.finish()
    upload = uploads.add(NAME, "anna", received, None, None)
    assert upload is not None
    return upload


def test_an_update_that_breaks_the_server_each_time_is_given_up(site: Site) -> None:
    """Its attempts are counted before they are made, so it cannot do it for ever."""
    with closing(Store(site.data)) as store:
        uploads = Uploads(store)
        upload = queued(uploads, b"terrible")
        for _ in range(ATTEMPTS):
            assert uploads.begin(upload) is not None
        assert Merger(store).step()
        found: Any = uploads.get(upload.id)
        assert found.state == "quarantined"
        assert "broke down" in found.reason
        assert uploads.quarantine(found).read_bytes() == b"terrible"
