"""``serve`` and what is done to a server: users, rights, models, versions, TLS."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from napari_dante.cli import run
from napari_dante.cli.serve_parser import RIGHTS, RULES
from napari_dante.federated.server import create_app, publish, rules, users
from napari_dante.federated.server.database import Database
from napari_dante.federated.server.users import Users
from napari_dante.model.dafne import to_dafne, write_dafne
from napari_dante.model.file import write_model
from tests.federated.conftest import running, until
from tests.federated.tiny import tiny_model

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "server"
    publish(folder, "Tiny head", to_dafne(tiny_model(0)))
    publish(folder, "Other", to_dafne(tiny_model(1)))
    return folder


def serve(data: Path, *words: str) -> int:
    return run(["serve", *words, "--data", str(data)])


def key_of(capsys: Capture) -> str:
    return capsys.readouterr().out.split()[-1]


def ask(url: str, route: str, key: str, **fields: str) -> httpx.Response:
    return httpx.post(f"{url}/{route}", json={"api_key": key} | fields)


def test_the_words_of_the_command_line_are_those_of_the_server() -> None:
    assert RULES == rules.RULES
    assert RIGHTS == users.RIGHTS


def test_users_may_do_what_they_were_given(data: Path, capsys: Capture, tmp_path: Path) -> None:
    assert serve(data, "user", "add", "anna") == 0
    anna = key_of(capsys)
    assert serve(data, "user", "add", "ben", "--model", "Other", "--read-only") == 0
    ben = key_of(capsys)
    write_dafne(tmp_path / "up.model", to_dafne(tiny_model(3)))

    def upload(key: str, name: str) -> int:
        fields = {"api_key": key, "model_type": name}
        content = {"model_binary": ("x", (tmp_path / "up.model").read_bytes())}
        return httpx.post(f"{url}/upload_model", data=fields, files=content).status_code

    with running(create_app(data)) as url:
        assert ask(url, "get_available_models", anna).json()["models"] == ["Other", "Tiny head"]
        assert ask(url, "get_available_models", ben).json()["models"] == ["Other"]
        assert ask(url, "info_model", ben, model_type="Other").status_code == 200
        for route in ("info_model", "get_model", "my_uploads"):
            for name in ("Tiny head", "Nowhere"):
                answer = ask(url, route, ben, model_type=name, timestamp="1")
                assert answer.status_code == 403
                assert answer.json() == {"message": "access denied for this model"}
        assert upload(ben, "Other") == 403
        assert upload(ben, "Tiny head") == 403
        assert serve(data, "user", "allow", "ben", "Tiny head", "upload") == 0
        assert serve(data, "user", "allow", "anna", "Other", "none") == 0
        assert upload(ben, "Tiny head") == 200
        assert upload(anna, "Other") == 403
        assert ask(url, "get_available_models", anna).json()["models"] == ["Tiny head"]
        assert serve(data, "user", "revoke", "ben") == 0
        assert ask(url, "get_available_models", ben).status_code == 401
        assert serve(data, "user", "add", "ben") == 0
        again = key_of(capsys)
        assert again != ben
        assert ask(url, "get_available_models", again).json()["models"] == ["Other", "Tiny head"]
    capsys.readouterr()
    assert serve(data, "user", "list", "--json") == 0
    listed = json.loads(capsys.readouterr().out)["users"]
    assert [(user["name"], user["rights"]) for user in listed] == [
        ("anna", {"*": "upload", "Other": "none"}),
        ("ben", {"Other": "read", "Tiny head": "upload"}),
    ]


def test_what_cannot_be_is_one_sentence(data: Path, tmp_path: Path, capsys: Capture) -> None:
    for words in (
        ("user", "revoke", "nobody"),
        ("user", "allow", "nobody", "all", "read"),
        ("user", "add", "a b"),
        ("user", "add", "carl", "--model", "../x"),
        ("model", "rollback", "Tiny head", "1"),
        ("model", "rule", "Nowhere", "half"),
        ("model", "add", "Tiny head", str(tmp_path / "server" / "nothing.model")),
    ):
        assert serve(data, *words) == 1, words
        assert capsys.readouterr().err.count("\n") == 1, words
    assert serve(tmp_path / "typo", "user", "list") == 1
    assert "no server in this folder" in capsys.readouterr().err
    assert not (tmp_path / "typo").exists()
    for wrong in (["serve"], ["serve", "user", "list"], ["serve", "user", "--data", str(data)]):
        with pytest.raises(SystemExit) as ended:
            run(wrong)
        assert ended.value.code == 2


def test_models_are_added_ruled_and_rolled_back(
    data: Path, tmp_path: Path, capsys: Capture
) -> None:
    write_model(tmp_path / "new.safetensors", tiny_model(2, "New"))
    write_dafne(tmp_path / "new.model", to_dafne(tiny_model(2)))
    assert (
        run(["serve", "--data", str(data), "model", "add", "A", str(tmp_path / "new.model")]) == 0
    )
    assert serve(data, "model", "add", "B", str(tmp_path / "new.safetensors")) == 0
    first = capsys.readouterr().out.split()[-1].rstrip(".")
    assert serve(data, "model", "rule", "B", "examined") == 0
    assert serve(data, "model", "rollback", "B", first) == 0
    capsys.readouterr()
    assert serve(data, "model", "list", "--json") == 0
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)["models"]}
    assert set(found) == {"A", "B", "Other", "Tiny head"}
    assert found["B"]["rule"] == "examined"
    assert [one["origin"] for one in found["B"]["versions"]] == ["published", "rollback"]
    assert serve(data, "audit") == 0
    events = [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()]
    assert events[-4:] == ["published", "rule", "rolled back", "rollback"]
    assert serve(data, "model", "list") == 0
    assert "B: merged by the rule 'examined'" in capsys.readouterr().out


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_tls_by_flags(data: Path, tmp_path: Path, capsys: Capture) -> None:
    cert, private = tmp_path / "cert.pem", tmp_path / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *subject]
    subprocess.run(
        [*make, "-keyout", str(private), "-out", str(cert)], check=True, capture_output=True
    )
    assert serve(data, "--certfile", str(cert)) == 1
    assert "both a certificate and its private key" in capsys.readouterr().err
    assert serve(data, "--certfile", str(private), "--keyfile", str(private)) == 1
    assert capsys.readouterr().err.count("\n") == 1
    with closing(Database(data)) as database:
        key = Users(database).add("anna")
    port = free_port()
    command = [sys.executable, "-m", "napari_dante", "serve", "--data", str(data)]
    options = ["--port", str(port), "--certfile", str(cert), "--keyfile", str(private)]
    with subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL) as process:
        try:
            url = f"https://localhost:{port}"
            trusted = httpx.Client(verify=ssl.create_default_context(cafile=str(cert)))
            with trusted as client:

                def answers() -> bool:
                    assert process.poll() is None
                    try:
                        return client.get(f"{url}/get_available_models").status_code == 405
                    except httpx.TransportError:
                        return False

                until(answers)
                answer = client.post(f"{url}/get_available_models", json={"api_key": key})
                assert answer.json() == {"models": ["Other", "Tiny head"]}
            with pytest.raises(httpx.TransportError):
                httpx.get(f"{url}/get_available_models")
        finally:
            process.terminate()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
