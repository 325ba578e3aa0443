"""What the client does when the other side is not as it should be."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from napari_dante.errors import ModelError, ShareError, Uncertain
from napari_dante.federated import DafneClient, api_key, remember_api_key
from napari_dante.federated import client as client_module
from napari_dante.federated.address import base_url, followed
from tests.federated.conftest import Site

KEY = "s3cret-k3y-that-nobody-sees"
Answer = tuple[int, Any]
BLOB = b"weights" * 1000
DIGEST = hashlib.sha256(BLOB).hexdigest()
INFO = {"latest_timestamp": "7", "hashes": {"7": DIGEST}, "timestamps": ["7"]}
PROBE = {"fastapi": (405, {"detail": "Method Not Allowed"}), "php": (401, {"message": "invalid"})}


class Cut(bytes):
    """An answer that breaks off before its announced end."""


class Fake:
    """A server on a real socket that answers as it is told and remembers everything."""

    def __init__(self, answers: dict[str, Answer | Callable[[bytes], Answer]]) -> None:
        self.answers = answers
        self.seen: list[tuple[str, str, bytes]] = []

    @contextmanager
    def running(self) -> Any:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                fake.seen.append((self.command, self.path, body))
                answer = fake.answers[f"{self.command} {self.path.rsplit('/', 1)[-1]}"]
                status, content = answer(body) if callable(answer) else answer
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("location", content)
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                missing = 99 if isinstance(data, Cut) else 0
                self.send_header("content-length", str(len(data) + missing))
                self.end_headers()
                self.wfile.write(data)

            do_GET = _answer
            do_POST = _answer

            def log_message(self, *_: object) -> None:
                """Stay quiet."""

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            server.daemon_threads = True
            thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_port}/api"
            finally:
                server.shutdown()
                thread.join()


def fake(flavour: str = "fastapi", **answers: Any) -> Fake:
    table: dict[str, Any] = {f"POST {route}": answer for route, answer in answers.items()}
    return Fake({"GET get_available_models": PROBE[flavour]} | table)


def field(body: bytes, name: str) -> str:
    found = re.search(rb'name="' + name.encode() + rb'"\r\n\r\n(.*?)\r\n', body)
    assert found, name
    return found[1].decode()


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ShareError, match=r"127\.0\.0\.1 does not answer; nothing was sent or lost"):
        DafneClient(f"http://127.0.0.1:{port}", KEY)


def test_an_unknown_host() -> None:
    with pytest.raises(ShareError, match="does not answer; nothing was sent"):
        DafneClient("https://no-such-host.invalid/", KEY, timeout=5)


def test_a_silent_server() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(ShareError, match=r"broke\. Nothing was sent or lost"),
    ):
        DafneClient(f"http://127.0.0.1:{listener.getsockname()[1]}", KEY, timeout=0.2)


@pytest.mark.parametrize(
    "answer", [(200, {"models": []}), (404, b"<html>"), (405, b"no"), (401, 3)]
)
def test_another_kind_of_server(answer: Answer) -> None:
    with (
        Fake({"GET get_available_models": answer}).running() as url,
        pytest.raises(ShareError, match="does not answer like a Dafne server"),
    ):
        DafneClient(url, KEY)


@pytest.mark.parametrize(
    "url",
    [
        "http://www.dafne.network/api",
        "http://192.168.1.2/api",
        "ftp://localhost/",
        "localhost:8000",
        "",
        "https://user:pw@host/",
        "https://host/?api_key=x",
        "https://[::1",
    ],
)
def test_addresses_that_are_refused(url: str) -> None:
    with pytest.raises(ShareError):
        base_url(url)


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("https://host/api", "https://host/api/"),
        ("https://host/api//", "https://host/api/"),
        (" http://127.0.0.1:80/x/ ", "http://127.0.0.1/x/"),
        ("http://[::1]:9", "http://[::1]:9/"),
        ("http://localhost:8000", "http://localhost:8000/"),
    ],
)
def test_addresses_end_in_one_slash(url: str, base: str) -> None:
    assert str(base_url(url)) == base


@pytest.mark.parametrize(
    ("old", "new", "allowed"),
    [
        ("https://a/api/", "https://a/new/", True),
        ("http://localhost/api/", "https://localhost/api/", True),
        ("https://a/api/", "https://b/api/", False),
        ("https://a/api/", "http://a/api/", False),
        ("https://a/api/", "https://a:444/api/", False),
        ("http://localhost:1/", "http://localhost:2/", False),
        ("https://a/api/", "https://a.evil.org/api/", False),
    ],
)
def test_where_a_redirect_may_lead(old: str, new: str, allowed: bool) -> None:
    new_url = base_url("https://x").join(new + "get_available_models")
    if allowed:
        assert str(followed(base_url(old), new_url, "get_available_models")) == new
    else:
        with pytest.raises(ShareError):
            followed(base_url(old), new_url, "get_available_models")


def test_the_key_does_not_follow_to_another_server() -> None:
    with fake(get_available_models=(200, {"models": ["A"]})).running() as other:
        target = other.replace("127.0.0.1", "localhost")
        first = Fake({"GET get_available_models": (302, f"{target}/get_available_models")})
        with first.running() as url, pytest.raises(ShareError, match="sends its visitors on"):
            DafneClient(url, KEY)
    assert all(KEY.encode() not in body for _, _, body in first.seen)


def test_a_redirect_on_the_same_server_is_followed_before_the_key() -> None:
    server = fake(get_available_models=(200, {"models": ["A", "log.txt", "a_b", 3]}))
    probes = iter([(301, "/api/v2/get_available_models"), PROBE["php"]])
    server.answers["GET get_available_models"] = lambda _: next(probes)
    with server.running() as url, DafneClient(url, KEY) as client:
        assert client.models() == ["A"]
    assert [(method, path) for method, path, _ in server.seen] == [
        ("GET", "/api/get_available_models"),
        ("GET", "/api/v2/get_available_models"),
        ("POST", "/api/v2/get_available_models"),
    ]


def test_a_redirect_of_a_question_is_not_followed() -> None:
    server = fake(get_available_models=(307, "/elsewhere"))
    with (
        server.running() as url,
        DafneClient(url, KEY) as client,
        pytest.raises(ShareError, match="has moved"),
    ):
        client.models()


def test_download_is_verified_and_atomic(tmp_path: Path) -> None:
    server = fake(info_model=(200, INFO), get_model=(200, BLOB))
    target = tmp_path / "t.model"
    with server.running() as url, DafneClient(url, KEY) as client:
        assert client.download("A", target) == "7"
        assert target.read_bytes() == BLOB
        assert json.loads(server.seen[-1][2])["timestamp"] == "7"
        server.answers["POST get_model"] = (200, BLOB + b"!")
        target.unlink()
        with pytest.raises(ShareError, match="not the one that the server announced"):
            client.download("A", target)
        with pytest.raises(ShareError, match="no version 8"):
            client.download("A", target, "8")
        server.answers["POST get_model"] = (500, {"message": "invalid model - not found"})
        with pytest.raises(ShareError, match="refused"):
            client.download("A", target)
    assert list(tmp_path.iterdir()) == []


def test_a_download_that_breaks_off_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "t.model"
    target.write_bytes(b"old")
    with (
        fake(info_model=(200, INFO), get_model=(200, Cut(BLOB))).running() as url,
        DafneClient(url, KEY) as client,
        pytest.raises(ShareError, match="download was given up"),
    ):
        client.download("A", target)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    "answer",
    [
        {"hashes": {}, "latest_timestamp": "7"},
        {"hashes": {"7": DIGEST.upper()}, "latest_timestamp": "7"},
        {"hashes": {"../7": DIGEST}, "latest_timestamp": "../7"},
        {"hashes": {"7": DIGEST}, "latest_timestamp": 7},
        [1],
        None,
    ],
)
def test_nonsense_about_a_model(answer: Any) -> None:
    with (
        fake(info_model=(200, answer)).running() as url,
        DafneClient(url, KEY) as client,
        pytest.raises(ShareError, match="does not answer like"),
    ):
        client.info("A")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((401, {"message": "invalid access code"}), "does not accept this API key"),
        ((403, {"message": "x"}), "gives no access to 'A'"),
        ((413, b""), "larger than the server"),
        ((500, {"message": "invalid model type"}), "refused what concerns 'A'"),
        ((200, [{"message": "Communication error during upload"}, 500]), "refused"),
        ((500, b"<html>"), "did not say"),
        ((502, {"message": "x"}), "did not say"),
        ((200, {"message": "chunk received"}), "did not say"),
        ((200, b"upload successful"), "did not say"),
        ((201, {"message": "upload successful"}), "did not say"),
    ],
)
def test_only_the_exact_answer_is_success(tmp_path: Path, answer: Answer, words: str) -> None:
    path = tmp_path / "x.model"
    path.write_bytes(BLOB)
    with (
        fake(upload_model=answer).running() as url,
        DafneClient(url, KEY) as client,
        pytest.raises(ShareError, match=words) as caught,
    ):
        client.upload("A", path)
    assert isinstance(caught.value, Uncertain) == (words == "did not say")


def test_an_upload_names_nobody_and_is_verified_twice(tmp_path: Path) -> None:
    path = tmp_path / "Miller.model"
    path.write_bytes(BLOB)
    server = fake(upload_model=(200, {"message": "upload successful"}))
    with server.running() as url, DafneClient(url, KEY) as client:
        client.upload("A", path, 0.75)
    (body,) = [body for method, _, body in server.seen if method == "POST"]
    assert b"Miller" not in body
    assert field(body, "original_hash") == field(body, "hash") == DIGEST
    assert field(body, "dice") == "0.75"
    assert field(body, "total_chunks") == "1"
    assert re.fullmatch(r"[0-9a-f-]{36}\.model", field(body, "filename"))
    assert BLOB in body


@pytest.mark.parametrize(("flavour", "pieces"), [("fastapi", 1), ("php", 3)])
def test_only_the_php_server_gets_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flavour: str, pieces: int
) -> None:
    monkeypatch.setattr(client_module, "CHUNK", 3000)
    path = tmp_path / "x.model"
    path.write_bytes(BLOB)

    def answer(body: bytes) -> Answer:
        last = int(field(body, "chunk_index")) == int(field(body, "total_chunks")) - 1
        return 200, {"message": "upload successful" if last else "chunk received"}

    server = fake(flavour, upload_model=answer)
    with server.running() as url, DafneClient(url, KEY) as client:
        client.upload("A", path)
    bodies = [body for method, _, body in server.seen if method == "POST"]
    assert [field(body, "chunk_index") for body in bodies] == [str(n) for n in range(pieces)]
    assert len({field(body, "filename") for body in bodies}) == 1
    assert {field(body, "original_hash") for body in bodies} == {DIGEST}
    sent = b"".join(re.findall(rb"octet-stream\r\n\r\n(.*?)\r\n--", b"".join(bodies), re.DOTALL))
    assert sent == BLOB


def test_pieces_reach_our_server_whole(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "CHUNK", 3000)
    path = tmp_path / "x.model"
    path.write_bytes(BLOB)
    with site.client() as client:
        client._wire.flavour = "php"
        client.upload("Tiny head", path)
    assert any(f'"sha256": "{DIGEST}"' in line for line in site.audit().splitlines())


@pytest.mark.parametrize("name", ["", "../x", "a_b", "a,b", "x" * 65])
def test_impossible_names_are_never_sent(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.model"
    path.write_bytes(BLOB)
    server = fake()
    with server.running() as url, DafneClient(url, KEY) as client:
        for action in (
            lambda: client.info(name),
            lambda: client.download(name, path),
            lambda: client.upload(name, path),
        ):
            with pytest.raises(ModelError):
                action()
    assert len(server.seen) == 1


def test_an_empty_file_is_not_sent(tmp_path: Path) -> None:
    path = tmp_path / "x.model"
    path.touch()
    with (
        fake().running() as url,
        DafneClient(url, KEY) as client,
        pytest.raises(ShareError, match="empty"),
    ):
        client.upload("A", path)


def test_the_key_is_never_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """A server that echoes the key cannot bring it into a log, an error or a repr."""
    caplog.set_level(logging.DEBUG)
    path = tmp_path / "x.model"
    path.write_bytes(BLOB)
    echo = (500, {"message": f"bad key {KEY}"})
    server = fake(info_model=echo, upload_model=echo, get_available_models=(401, KEY))
    shown: list[str] = []
    with server.running() as url, DafneClient(url, KEY) as client:
        shown += [repr(client), repr(vars(client)), repr(vars(client._wire))]
        for action in (
            client.models,
            lambda: client.info("A"),
            lambda: client.upload("A", path),
        ):
            with pytest.raises(ShareError) as caught:
                action()
            error = caught.value
            shown += [error.sentence, error.detail, *traceback.format_exception(error)]
            assert error.__cause__ is None
    assert any(KEY.encode() in body for _, _, body in server.seen)
    assert all(KEY not in path for _, path, _ in server.seen)
    assert KEY not in "".join(shown) + caplog.text + "".join(capfd.readouterr())


def test_a_wrong_key(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with (
        DafneClient(site.url, KEY) as client,
        pytest.raises(ShareError, match="does not accept this API key"),
    ):
        client.models()
    assert KEY not in caplog.text + site.audit()


def test_the_environment_comes_before_the_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    import keyring
    from keyring.backends.fail import Keyring as NoKeyring
    from keyring.backends.null import Keyring as NullKeyring

    class Memory(NullKeyring):  # type: ignore[misc]
        kept: dict[tuple[str, str], str] = {}  # noqa: RUF012

        def get_password(self, service: str, user: str) -> str | None:
            return self.kept.get((service, user))

        def set_password(self, service: str, user: str, password: str) -> None:
            self.kept[service, user] = password

    before = keyring.get_keyring()
    try:
        keyring.set_keyring(Memory())
        monkeypatch.delenv("NAPARI_DANTE_API_KEY", raising=False)
        assert api_key("https://a.org/api") is None
        remember_api_key("https://a.org/api", KEY)
        assert Memory.kept == {("napari-dante", "a.org"): KEY}
        assert api_key("https://a.org/other/") == KEY
        assert api_key("https://b.org/") is None
        monkeypatch.setenv("NAPARI_DANTE_API_KEY", "from outside")
        assert api_key("https://a.org/api") == "from outside"
        monkeypatch.delenv("NAPARI_DANTE_API_KEY")
        keyring.set_keyring(NoKeyring())
        assert api_key("https://a.org/api") is None
        with pytest.raises(ShareError, match="NAPARI_DANTE_API_KEY"):
            remember_api_key("https://a.org/api", KEY)
    finally:
        keyring.set_keyring(before)


def test_the_viewers_side_is_free_of_torch() -> None:
    heavy = "{'torch', 'monai', 'fastapi', 'uvicorn'} & set(sys.modules)"
    program = f"import sys, napari_dante.federated; sys.exit(str({heavy}) if {heavy} else 0)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_an_error_does_not_carry_the_request() -> None:
    """The library's own error holds the request, and with it the key."""
    with fake().running() as url:
        client = DafneClient(url, KEY)
    with client, pytest.raises(ShareError, match="nothing was sent or lost") as caught:
        client.models()
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
