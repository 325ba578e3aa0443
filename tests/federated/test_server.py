"""The server's answers, code for code, to well-meaning and other clients."""

from __future__ import annotations

import hashlib
import json
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from napari_dante.errors import ShareError
from napari_dante.federated.server import add_user, chunks, first_key, limits, receiving
from napari_dante.federated.server.database import Database
from napari_dante.federated.server.users import Users
from tests.federated.conftest import Site, until

BLOB = b"no model" * 500
DIGEST = hashlib.sha256(BLOB).hexdigest()


def post(site: Site, route: str, **fields: Any) -> httpx.Response:
    return httpx.post(f"{site.url}/{route}", json={"api_key": site.key} | fields)


def send(site: Site, blob: bytes | None = BLOB, **fields: str) -> httpx.Response:
    data = {"api_key": site.key, "model_type": "Tiny head"} | fields
    files = None if blob is None else {"model_binary": ("x", blob)}
    return httpx.post(f"{site.url}/upload_model", data=data, files=files)


def user_of(data: Path, key: str) -> str | None:
    with closing(Database(data)) as database:
        users = Users(database)
        return users.owner(users.hash(key))


def answer(response: httpx.Response) -> tuple[int, Any]:
    return response.status_code, response.json()


def test_the_probe_tells_the_flavour(site: Site) -> None:
    assert answer(httpx.get(f"{site.url}/get_available_models")) == (
        405,
        {"detail": "Method Not Allowed"},
    )


@pytest.mark.parametrize(
    ("route", "fields"),
    [
        ("get_available_models", {}),
        ("info_model", {"model_type": "Tiny head"}),
        ("get_model", {"model_type": "Tiny head", "timestamp": "1"}),
        ("evaluate_model", {"model_type": "Tiny head", "timestamp": "1"}),
        ("log", {"message": "x"}),
    ],
)
def test_every_route_asks_for_the_key(site: Site, route: str, fields: dict[str, str]) -> None:
    refused = (401, {"message": "invalid access code"})
    assert answer(post(site, route, api_key="wrong", **fields)) == refused
    assert answer(send(site, api_key="wrong")) == refused
    assert httpx.post(f"{site.url}/{route}", json=fields).status_code == 422


def test_the_answers_of_the_contract(site: Site) -> None:
    assert answer(post(site, "get_available_models")) == (200, {"models": ["Tiny head"]})
    info = post(site, "info_model", model_type="Tiny head").json()
    assert info["latest_timestamp"] == site.first
    assert info["timestamps"] == [site.first]
    assert info["hash"] == info["hashes"][site.first]
    assert info["model_type"] == "DynamicTorchModel"
    assert info["dimensionality"] == "3"
    assert info["categories"] == [["grey 'matter'", "white"]]
    got = post(site, "get_model", model_type="Tiny head", timestamp=site.first)
    assert hashlib.sha256(got.content).hexdigest() == info["hash"]
    assert got.headers["content-length"] == str(len(got.content))
    version = {"model_type": "Tiny head", "timestamp": site.first}
    assert answer(post(site, "evaluate_model", **version)) == (
        200,
        {"message": "starting evaluation successful"},
    )
    assert post(site, "get_model", model_type="Tiny head", timestamp=7).status_code == 422
    assert answer(post(site, "log", message="Miller\n1")) == (200, {"message": "ok"})
    assert "Miller" not in site.audit()


@pytest.mark.parametrize("name", ["None", "../models/Tiny head", "Tiny head/../Tiny head", ".", ""])
def test_no_path_leads_out(site: Site, name: str) -> None:
    assert post(site, "info_model", model_type=name).status_code == 404
    missing = (500, {"message": "invalid model - not found"})
    assert answer(post(site, "get_model", model_type=name, timestamp=site.first)) == missing
    assert answer(send(site, model_type=name)) == (500, {"message": "invalid model type"})
    for timestamp in (f"../Tiny head/{site.first}", "", "٣", site.first + "/"):
        version = {"model_type": "Tiny head", "timestamp": timestamp}
        assert answer(post(site, "get_model", **version)) == missing


def test_uploads_are_verified(site: Site) -> None:
    uploads = site.data / "models" / "Tiny head" / "uploads"
    damaged = (500, {"message": "Communication error during upload"})
    for wrong in ("0" * 64, DIGEST.upper(), "é"):
        assert answer(send(site, original_hash=wrong)) == damaged
        assert answer(send(site, hash=wrong)) == damaged
    assert list(uploads.glob("*.model")) == []
    assert answer(send(site, blob=None)) == (400, {"message": "file upload error"})
    assert send(site, dice="abc").status_code == 422
    good: tuple[dict[str, Any], ...] = (
        {"original_hash": DIGEST},
        {"hash": DIGEST},
        {"dice": "nan"},
    )
    for extra in good:
        assert answer(send(site, **extra)) == (200, {"message": "upload successful"})


def piece(site: Site, index: int, total: int, blob: bytes, **fields: str) -> tuple[int, Any]:
    numbers = {"chunk_index": str(index), "total_chunks": str(total), "filename": "../f"}
    return answer(send(site, blob, hash=DIGEST, **numbers | fields))


def test_pieces_are_put_together(site: Site) -> None:
    kept = (200, {"message": "chunk received"})
    cut = len(BLOB) // 2
    other = add_user(site.data, "ben")
    assert piece(site, 0, 2, BLOB[:cut]) == kept
    assert piece(site, 0, 2, BLOB[:cut]) == kept
    assert piece(site, 0, 2, b"another's", api_key=other) == kept
    assert piece(site, 1, 2, BLOB[cut:]) == (200, {"message": "upload successful"})
    missing = (500, {"message": "missing chunk 0"})
    assert piece(site, 1, 2, BLOB[cut:]) == missing
    assert piece(site, 1, 2, b"", api_key=other)[0] == 500
    assert piece(site, -1, 2, BLOB)[0] == 422
    quarantine = site.data / "models" / "Tiny head" / "quarantine"
    until(lambda: list(quarantine.glob("*.model")))
    assert [path.read_bytes() for path in quarantine.glob("*.model")] == [BLOB]
    leftovers = site.data / "models" / "Tiny head" / "uploads" / ".chunks"
    assert list(leftovers.iterdir()) == []


def test_what_is_never_completed_does_not_fill_the_disk(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "MOST_UNFINISHED", 3)
    for number in range(5):
        assert piece(site, 0, 2, b"x", filename=f"{number}")[0] == 200
    leftovers = site.data / "models" / "Tiny head" / "uploads" / ".chunks"
    assert len(list(leftovers.iterdir())) == 3
    assert piece(site, 1, 2, b"y", filename="0") == (500, {"message": "missing chunk 0"})


def test_the_process_that_answers_imports_neither_torch_nor_monai() -> None:
    code = (
        "import sys, napari_dante.federated.server, napari_dante.cli.serving\n"
        "print(sorted({'torch', 'monai', 'napari'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_too_large_is_refused_before_it_is_read(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_FORM", 0)
    monkeypatch.setattr(chunks, "MAX_UPLOAD", 100)
    assert answer(send(site))[0] == 413
    monkeypatch.undo()
    monkeypatch.setattr(chunks, "MAX_UPLOAD", 100)
    assert piece(site, 0, 2, BLOB)[0] == 413
    monkeypatch.undo()
    monkeypatch.setattr(receiving, "_MORE", 0)
    assert answer(send(site, b"x" * 10**6))[0] == 413, "many times the model"


def test_images_are_refused_unseen(site: Site) -> None:
    response = httpx.post(
        f"{site.url}/upload_data",
        data={"api_key": site.key},
        files={"data_binary": ("x.npz", b"image" * 100_000)},
    )
    assert answer(response) == (403, {"message": "this server takes weights only"})
    assert not any(b"imageimage" in path.read_bytes() for path in site.data.rglob("*.*"))


def test_keys_are_kept_as_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NAPARI_DANTE_API_KEY", raising=False)
    key = first_key(tmp_path)
    assert key is not None
    assert first_key(tmp_path) is None
    assert user_of(tmp_path, key) == "admin"
    other = add_user(tmp_path, "ben")
    assert user_of(tmp_path, other) == "ben"
    assert user_of(tmp_path, "") is None
    for path in tmp_path.iterdir():
        kept = path.read_bytes() if path.is_file() else b""
        assert key.encode() not in kept
        assert other.encode() not in kept
    assert stat.S_IMODE((tmp_path / "server.sqlite").stat().st_mode) == 0o600
    again = add_user(tmp_path, "ben")
    assert user_of(tmp_path, other) is None
    assert user_of(tmp_path, again) == "ben"
    for user in ("", "a b", "../x", "x" * 33):
        with pytest.raises(ShareError):
            add_user(tmp_path, user)


def test_the_key_from_outside_is_registered_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAPARI_DANTE_API_KEY", "from outside")
    assert first_key(tmp_path) is None
    assert user_of(tmp_path, "from outside") == "admin"
    monkeypatch.setenv("NAPARI_DANTE_API_KEY", "another")
    assert first_key(tmp_path) is None
    assert user_of(tmp_path, "another") is None


def test_the_audit_trail_is_one_object_a_line(site: Site) -> None:
    send(site)
    send(site, api_key="wrong key")
    post(site, "get_model", model_type="Tiny head", timestamp=site.first)
    until(lambda: "quarantined" in site.audit() and "download" in site.audit())
    entries = [json.loads(line) for line in site.audit().splitlines()]
    assert {entry["event"] for entry in entries} == {
        *("user added", "rights", "published", "upload", "merge begun", "quarantined"),
        *("wrong key", "download"),
    }
    assert site.key not in site.audit()
    upload = next(entry for entry in entries if entry["event"] == "upload")
    assert upload["user"] == "anna"
    assert upload["sha256"] == DIGEST
