"""Client and server over a real socket: list, download, upload, merge."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from napari_dante.errors import ModelError
from napari_dante.federated import DafneClient, Outbox, Receipt, push_file
from napari_dante.federated.server import publish
from napari_dante.files import sha256
from napari_dante.model.dafne import DafneModel, from_dafne, read_dafne, to_dafne, write_dafne
from napari_dante.model.file import Model
from napari_dante.model.merging import prove_files
from tests.federated.conftest import Site, until
from tests.federated.tiny import tiny_model


def update_file(site: Site, path: Path, model: Model, **change: Any) -> Path:
    base = read_dafne(site.data / "models" / "Tiny head" / f"{site.first}.model")
    write_dafne(path, replace(to_dafne(model, base), **change))
    return path


def push(client: DafneClient, path: Path, dice: float | None = None) -> Receipt:
    base = client.info("Tiny head").latest
    return push_file(
        client,
        Outbox(),
        path,
        prove_files,
        name="Tiny head",
        base=base,
        dice=dice,
        merge_seconds=20,
    )


def quarantined(site: Site) -> list[Path]:
    return sorted((site.data / "models" / "Tiny head" / "quarantine").glob("*.model"))


def my_uploads(site: Site) -> list[dict[str, Any]]:
    query = {"api_key": site.key, "model_type": "Tiny head"}
    found: list[dict[str, Any]] = httpx.post(f"{site.url}/my_uploads", json=query).json()["uploads"]
    return found


def test_list_inform_download(site: Site, tmp_path: Path) -> None:
    (site.data / "models" / "log.txt").write_text("x")
    with site.client() as client:
        assert client.models() == ["Tiny head"]
        info = client.info("Tiny head")
        target = tmp_path / "got" / "head.model"
        assert client.download("Tiny head", target) == site.first
    assert info.timestamps == (site.first,)
    assert info.latest == site.first
    assert sha256(target) == info.hashes[site.first]
    model = from_dafne(read_dafne(target), "Tiny head")
    for key, value in tiny_model(0).weights.items():
        np.testing.assert_array_equal(model.weights[key], value)


def test_the_merge_is_bit_exact(site: Site, tmp_path: Path) -> None:
    sent = update_file(site, tmp_path / "up.model", tiny_model(1))
    with site.client() as client:
        receipt = push(client, sent, 0.8)
        assert receipt.before_timestamp == site.first
        assert receipt.after_timestamp is not None
        assert (receipt.outcome, receipt.share, receipt.exact) == ("merged", 0.5, True)
        client.download("Tiny head", tmp_path / "after.model")
    merged = read_dafne(tmp_path / "after.model")
    assert merged.timestamp == int(receipt.after_timestamp)
    old, new = tiny_model(0).weights, tiny_model(1).weights
    for key, value in merged.weights.items():
        kind = old[key].dtype
        half = np.asarray(old[key] * kind.type(0.5)) if kind.kind == "f" else old[key] // 2
        other = np.asarray(new[key] * kind.type(0.5)) if kind.kind == "f" else new[key] // 2
        np.testing.assert_array_equal(value.numpy(), half + other)
    assert any(kind.dtype.kind == "i" and kind % 2 for kind in old.values())
    assert sent.exists(), "the file is the person's own"


def test_only_weights_survive_a_merge(site: Site, tmp_path: Path) -> None:
    sent = update_file(
        site, tmp_path / "up.model", tiny_model(1), metadata={"evil": 1}, sources={}, extra={"x": 1}
    )
    with site.client() as client:
        push(client, sent)
        client.download("Tiny head", tmp_path / "after.model")
    first = read_dafne(site.data / "models" / "Tiny head" / f"{site.first}.model")
    merged = read_dafne(tmp_path / "after.model")
    assert merged.metadata == first.metadata
    assert merged.sources == first.sources
    assert merged.extra == first.extra


def bad_updates() -> dict[str, DafneModel]:
    good = to_dafne(tiny_model(1))
    key = next(iter(good.weights))
    nan = good.weights[key].clone()
    nan.view(-1)[0] = torch.nan
    return {
        "shape": replace(good, weights=good.weights | {key: torch.zeros(1)}),
        "missing key": replace(good, weights={k: v for k, v in good.weights.items() if k != key}),
        "extra key": replace(good, weights=good.weights | {"more": torch.zeros(1)}),
        "integers": replace(good, weights=good.weights | {key: nan.nan_to_num().long()}),
        "nan": replace(good, weights=good.weights | {key: nan}),
        "other identity": replace(good, model_id="other"),
        "uuid identity": replace(good, model_id=uuid.UUID(str(good.model_id))),
        "kind": replace(good, kind="DynamicTorchFLAREModel"),
        "2D": replace(good, dimensionality=2),
        "delta": replace(good, is_delta=True),
    }


def test_bad_updates_are_put_aside_and_block_nothing(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = update_file(site, tmp_path / "good.model", tiny_model(1))
    faults = bad_updates()
    with site.client() as client:
        for fault, bad in faults.items():
            with monkeypatch.context() as patched:
                patched.setattr(torch, "isfinite", lambda value: torch.ones(1))
                write_dafne(tmp_path / f"{fault}.model", bad)
            client.upload("Tiny head", tmp_path / f"{fault}.model")
        receipt = push(client, good)
        assert receipt.after_timestamp is not None
        assert len(client.info("Tiny head").timestamps) == 2
    sent = {sha256(tmp_path / f"{fault}.model") for fault in faults}
    assert {sha256(path) for path in quarantined(site)} == sent
    told = my_uploads(site)
    assert [one["state"] for one in told] == ["merged", *["quarantined"] * len(faults)]
    assert all(bool(one["reason"]) == (one["state"] == "quarantined") for one in told)
    assert list((site.data / "models" / "Tiny head" / "uploads").glob("*.model")) == []


def test_an_upload_that_is_no_model_is_put_aside(site: Site, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    evil = tmp_path / "evil.model"
    evil.write_bytes(b"cos\nsystem\n(Vtouch " + str(canary).encode() + b"\ntR.")
    with site.client() as client:
        client.upload("Tiny head", evil)
        until(lambda: quarantined(site))
        assert client.info("Tiny head").latest == site.first
    assert not canary.exists()


def test_versions_within_one_second_are_apart(site: Site, tmp_path: Path) -> None:
    with site.client() as client:
        for seed in range(1, 5):
            client.upload(
                "Tiny head", update_file(site, tmp_path / f"{seed}.model", tiny_model(seed))
            )
        until(lambda: len(client.info("Tiny head").timestamps) == 5)
        stamps = [int(stamp) for stamp in client.info("Tiny head").timestamps]
        assert stamps == sorted(set(stamps))
        for stamp in stamps:
            client.download("Tiny head", tmp_path / f"{stamp}.model", str(stamp))


def test_publish_takes_a_name_once(site: Site) -> None:
    with pytest.raises(ModelError, match="already"):
        publish(site.data, "Tiny head", to_dafne(tiny_model()))
    for name in ("../x", "a_b", "", "log.txt"):
        with pytest.raises(ModelError, match="cannot be the name"):
            publish(site.data, name, to_dafne(tiny_model()))


def test_nobody_learns_of_people(site: Site, tmp_path: Path) -> None:
    sent = update_file(site, tmp_path / "Mrs Miller 1950.model", tiny_model(1))
    with site.client() as client:
        push(client, sent, 0.9)
    everything = " ".join(str(path) for path in site.data.rglob("*")) + site.audit()
    assert "Miller" not in everything
    assert site.key not in everything
    events = [json.loads(line)["event"] for line in site.audit().splitlines()]
    assert events == ["user added", "rights", "published", "upload", "merge begun", "merged"]
