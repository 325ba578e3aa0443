"""Requests that mean harm: each is refused in words, none leaves a trace in the models."""

from __future__ import annotations

import base64
import json
import os
import pickle
import socket
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from napari_dante.federated.server import add_user, door
from napari_dante.federated.server.database import Database
from napari_dante.federated.server.users import Users
from napari_dante.model.dafne import to_dafne, write_dafne
from tests.federated.conftest import Site, until
from tests.federated.test_round_trip import my_uploads
from tests.federated.tiny import tiny_model

NAME = "Tiny head"
BOUNDARY = b"edge"


def part(name: str, value: bytes, extra: bytes = b"") -> bytes:
    head = b'Content-Disposition: form-data; name="' + name.encode() + b'"' + extra
    return b"--edge\r\n" + head + b"\r\n\r\n" + value + b"\r\n"


FILE = b'; filename="x"'
END = b"--edge--\r\n"


def post(site: Site, body: bytes, **headers: str) -> httpx.Response:
    kind = {"content-type": "multipart/form-data; boundary=edge"}
    return httpx.post(f"{site.url}/upload_model", content=body, headers=kind | headers, timeout=30)


def keyed(site: Site, *parts: bytes) -> bytes:
    return b"".join([part("api_key", site.key.encode()), part("model_type", NAME.encode()), *parts])


FORMS: dict[str, Callable[[Site], bytes]] = {
    "no form at all": lambda site: b"x" * 100_000,
    "empty": lambda site: b"",
    "file before the key": lambda site: part("model_binary", b"x", FILE) + keyed(site) + END,
    "no key": lambda site: (
        part("model_type", NAME.encode()) + part("model_binary", b"x", FILE) + END
    ),
    "no model": lambda site: (
        part("api_key", site.key.encode()) + part("model_binary", b"x", FILE) + END
    ),
    "no end": lambda site: keyed(site, part("model_binary", b"x", FILE)),
    "no file": lambda site: keyed(site) + END,
    "two files": lambda site: keyed(site, part("model_binary", b"x", FILE) * 2) + END,
    "another file": lambda site: keyed(site, part("shell", b"x", FILE)) + END,
    "a field twice": lambda site: keyed(site, part("api_key", b"other")) + END,
    "endless fields": lambda site: keyed(site, *(part(f"f{n}", b"x") for n in range(99))) + END,
    "an endless field": lambda site: keyed(site, part("dice", b"1" * 10_000)) + END,
    "endless headers": lambda site: (
        b"--edge\r\n" + b"X: y\r\n" * 10_000 + b"\r\nx\r\n" + keyed(site) + END
    ),
    "a path for a name": lambda site: (
        part("api_key", site.key.encode())
        + part("model_type", b"../../etc")
        + part("model_binary", b"x", FILE)
        + END
    ),
    "a header in a name": lambda site: (
        part("api_key", site.key.encode())
        + part("model_type", b"x\r\nSet-Cookie: a=b")
        + part("model_binary", b"x", FILE)
        + END
    ),
    "a nul in a name": lambda site: (
        part("api_key", site.key.encode())
        + part("model_type", b"Tiny head\0")
        + part("model_binary", b"x", FILE)
        + END
    ),
    "dice in words": lambda site: (
        keyed(site, part("dice", b"good"), part("model_binary", b"x", FILE)) + END
    ),
    "minus one case": lambda site: (
        keyed(site, part("cases", b"-1"), part("model_binary", b"x", FILE)) + END
    ),
    "a wrong hash": lambda site: (
        keyed(site, part("hash", b"0" * 64), part("model_binary", b"x", FILE)) + END
    ),
    "a piece of no whole": lambda site: (
        keyed(
            site,
            part("total_chunks", b"2"),
            part("chunk_index", b"1"),
            part("filename", b"../../../../x"),
            part("model_binary", b"x", FILE),
        )
        + END
    ),
    "a billion pieces": lambda site: (
        keyed(site, part("total_chunks", b"1" * 30), part("model_binary", b"x", FILE)) + END
    ),
}


@pytest.fixture
def untouched(site: Site) -> Any:
    """After the test the server answers as before, and its files are what they were."""
    files = sorted(path for path in site.data.rglob("*.model"))
    yield site
    with site.client() as client:
        assert client.info(NAME).timestamps == (site.first,)
    assert sorted(path for path in site.data.rglob("*.model")) == files
    assert '"event": "upload"' not in site.audit()


def test_forms_that_are_none(untouched: Site) -> None:
    for what, make in FORMS.items():
        response = post(untouched, make(untouched))
        assert 400 <= response.status_code <= 500, what
        assert isinstance(response.json()["message"], str), what
        assert "set-cookie" not in response.headers
    uploads = untouched.data / "models" / NAME / "uploads"
    assert [path for path in uploads.rglob("*") if path.is_file()] == []


LENGTHS = {
    b"Content-Length: 99999999999999": 413,
    b"Content-Length: 3000000000": 413,
    b"Content-Length: -1": 400,
    b"Transfer-Encoding: chunked": 411,
    b"Content-Length: 5\r\nTransfer-Encoding: chunked": 411,
}


def test_lengths_that_lie(untouched: Site) -> None:
    url = httpx.URL(untouched.url)
    for head, status in LENGTHS.items():
        for route in (b"/upload_model", b"/info_model"):
            with socket.create_connection((url.host, url.port), timeout=20) as connection:
                request = b"POST " + route + b" HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n"
                connection.sendall(request)
                assert int(connection.recv(4096).split()[1]) == status, head


def test_queries_are_short(untouched: Site) -> None:
    text = {"api_key": untouched.key, "message": "x" * 100_000}
    answer = httpx.post(f"{untouched.url}/log", json=text)
    assert (answer.status_code, answer.json()) == (413, {"message": "the request is too large"})
    long = {"api_key": untouched.key, "model_type": "x" * 300}
    assert httpx.post(f"{untouched.url}/info_model", json=long).status_code == 422
    for body in (b"", b"[", b"[" * 60_000, b'"x"', b"\xff\xfe", b'{"api_key": {"$ne": ""}}'):
        answer = httpx.post(f"{untouched.url}/get_available_models", content=body)
        assert answer.status_code == 422, body[:20]


WORDS = (
    "' OR 1=1 --",
    "x\r\nX-Evil: 1",
    "../../server.sqlite",
    "\ud800",
    "Tiny head\0",
    "%2e%2e",
)


def test_words_that_would_be_more(untouched: Site) -> None:
    def ask(route: str, **fields: str) -> httpx.Response:
        return httpx.post(f"{untouched.url}/{route}", content=json.dumps(fields).encode())

    for text in WORDS:
        named = {"api_key": untouched.key, "model_type": text, "timestamp": text}
        for route in ("info_model", "get_model", "evaluate_model", "my_uploads"):
            answer = ask(route, **named)
            assert "x-evil" not in answer.headers
            assert untouched.key not in answer.text
            if route in ("info_model", "get_model"):
                assert answer.status_code in (404, 422, 500), (route, text)
        for key in (text, text + untouched.key):
            answer = ask("get_available_models", api_key=key)
            assert answer.status_code in (401, 422, 429)


class _Attack:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch '{self.canary}'",)


def huge_shape(path: Path) -> bytes:
    """A file that says of its weights that they have 10^12 numbers."""
    weights = {"x": torch.arange(70_001.0)}
    write_dafne(path, replace(to_dafne(tiny_model(1)), weights=weights))
    size = b"J" + (70_001).to_bytes(4, "little")
    content = path.read_bytes()
    assert content.count(size + b"\x85") == 1
    return content.replace(size + b"\x85", b"\x8a\x06" + (10**12).to_bytes(6, "little") + b"\x85")


def test_files_that_would_run_or_burst_are_quarantined_in_words(site: Site, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    good = to_dafne(tiny_model(1))
    entries = {
        "model_id": good.model_id,
        "type": good.kind,
        "data_dimensionality": 3,
        "weights": dict(good.weights),
    }
    huge = b"\x80\x04\x8e" + (2**60).to_bytes(8, "little") + b"x."
    files = {
        "code": pickle.dumps(entries | {"weights": _Attack(canary)}, protocol=4),
        "code in metadata": pickle.dumps(
            entries | {"metadata": {"x": _Attack(canary)}}, protocol=4
        ),
        "huge length": huge,
        "deep": b"\x80\x04" + b"(" * 500_000 + b".",
        "empty": b"",
        "text": b"weights",
        "zip": b"PK\x03\x04" + bytes(100),
        "other weights": pickle.dumps(entries | {"weights": {"x": torch.zeros(5)}}, protocol=4),
        "huge shape": huge_shape(tmp_path / "huge.model"),
        "no weights": pickle.dumps(entries | {"weights": {}}, protocol=4),
    }
    with site.client() as client:
        for what, content in files.items():
            data = {"api_key": site.key, "model_type": NAME}
            answer = httpx.post(
                f"{site.url}/upload_model", data=data, files={"model_binary": ("x", content)}
            )
            assert answer.status_code == 200, what
        until(lambda: all(one["state"] == "quarantined" for one in my_uploads(site)))
        told = my_uploads(site)
        assert len(told) == len(files)
        assert all(one["reason"].endswith(".") for one in told)
        assert client.info(NAME).timestamps == (site.first,)
    assert not canary.exists()


def test_guessing_keys_is_slow_and_does_not_lock_others_out(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def status(key: str) -> int:
        body = {"api_key": key}
        return httpx.post(f"{site.url}/get_available_models", json=body).status_code

    assert status(site.key) == 200
    other = add_user(site.data, "ben")
    found = [status(f"guess {number}") for number in range(door.WRONG_KEYS + 3)]
    assert found == [401] * door.WRONG_KEYS + [429] * 3
    assert status(site.key) == 200, "who was right before is not locked out"
    assert status(other) == 429
    monkeypatch.setattr(door, "WINDOW", 0.0)
    assert status(other) == 200
    until(lambda: site.audit().count('"wrong key"') == door.WRONG_KEYS)
    trail = site.audit()
    assert "127.0.0.1" not in trail
    assert "guess" not in trail


def test_a_revoked_key_is_worthless_at_once(site: Site) -> None:
    body = {"api_key": site.key}
    assert httpx.post(f"{site.url}/get_available_models", json=body).status_code == 200
    with closing(Database(site.data)) as database:
        Users(database).revoke("anna")
    assert httpx.post(f"{site.url}/get_available_models", json=body).status_code == 401


def test_the_page_wants_a_key(site: Site) -> None:
    for header in ("", "Basic", "Basic !!!", "Basic Zm9v", "Bearer x", "Basic " + "A" * 5000):
        answer = httpx.get(f"{site.url}/", headers={"authorization": header})
        assert answer.status_code == 401
        assert "Tiny" not in answer.text


def test_no_method_but_those_that_are_meant(site: Site) -> None:
    credentials = base64.b64encode(f"x:{site.key}".encode()).decode()
    for method in ("PUT", "DELETE", "TRACE", "OPTIONS", "POST"):
        answer = httpx.request(
            method, f"{site.url}/", headers={"authorization": f"Basic {credentials}"}
        )
        assert answer.status_code == 405
    for route in ("docs", "openapi.json", "redoc", "server.sqlite", "models/", "static"):
        assert httpx.get(f"{site.url}/{route}").status_code == 404
