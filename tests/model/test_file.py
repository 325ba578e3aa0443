"""Model files come back as they were, and nothing else passes for one."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from napari_dante.errors import ModelError
from napari_dante.model.card import Card
from napari_dante.model.file import Lineage, Model, check_name, read_header, read_model, write_model
from napari_dante.model.library import Library
from napari_dante.model.spec import ArchitectureSpec


def test_round_trip(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "m.v2.safetensors"
    write_model(path, model, half=False)
    back = read_model(path)
    assert back.spec == model.spec
    assert back.lineage == model.lineage
    assert back.weights.keys() == model.weights.keys()
    assert all(np.array_equal(back.weights[key], model.weights[key]) for key in model.weights)
    assert read_header(path) == (model.spec, model.lineage)


def test_half_precision_is_stable_and_half_the_size(model: Model, tmp_path: Path) -> None:
    full, once, twice = (tmp_path / f"{name}.safetensors" for name in ("full", "once", "twice"))
    write_model(full, model, half=False)
    write_model(once, model)
    write_model(twice, read_model(once))
    assert once.read_bytes() == twice.read_bytes()
    assert once.stat().st_size < 0.8 * full.stat().st_size


@pytest.mark.parametrize("half", [True, False])
def test_every_weight_keeps_its_shape(model: Model, tmp_path: Path, half: bool) -> None:
    """Batch normalisation counts in a number without axes."""
    view = np.arange(12, dtype=np.float32).reshape(4, 3).T[::2]
    weights = {"count": np.array(7), "view": view}
    path = tmp_path / "shapes.safetensors"
    write_model(path, replace(model, weights=weights), half=half)
    read = read_model(path).weights
    assert {key: value.shape for key, value in read.items()} == {"count": (), "view": (2, 4)}
    assert read["count"] == 7
    assert np.array_equal(read["view"], view)


def test_equal_weights_are_stored_once_and_read_apart(model: Model, tmp_path: Path) -> None:
    large = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float16).astype(np.float32)
    one, three = (tmp_path / f"{name}.safetensors" for name in ("one", "three"))
    write_model(one, replace(model, weights={"a": large}))
    write_model(three, replace(model, weights={"a": large, "b": large.copy(), "c": large + 1}))
    assert three.stat().st_size - one.stat().st_size < 1.1 * large.size * 2
    read = read_model(three).weights
    assert read.keys() == {"a", "b", "c"}
    assert np.array_equal(read["a"], large)
    assert np.array_equal(read["a"], read["b"])
    assert not np.shares_memory(read["a"], read["b"])


def test_a_copy_of_nothing_is_a_damaged_file(tmp_path: Path, model: Model) -> None:
    header = {
        "spec": model.spec.to_json(),
        "lineage": asdict(model.lineage),
        "copies": {"b": "not there"},
    }
    path = tmp_path / "m.safetensors"
    metadata = {"napari_dante": json.dumps(header)}
    save_file({"a": np.zeros(2, np.float32)}, path, metadata=metadata)
    with pytest.raises(ModelError, match="damaged"):
        read_model(path)


def test_a_card_comes_back_and_does_not_outlive_teaching(model: Model, tmp_path: Path) -> None:
    card = Card("head", "any contrast", "two tissues", {"T1": 0.875, "T2": 0.8})
    lineage = replace(model.lineage, card=card)
    path = tmp_path / "m.safetensors"
    write_model(path, replace(model, lineage=lineage))
    assert read_header(path)[1] == lineage
    assert card.scores() == "Dice of two tissues: T1 0.88, T2 0.80"
    assert lineage.child("0" * 64, {"method": "lora"}, None).card is None


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])
def test_numbers_that_a_file_cannot_hold_are_refused(
    model: Model, tmp_path: Path, value: float
) -> None:
    key = next(iter(model.weights))
    weights = {**model.weights, key: np.full_like(model.weights[key], value)}
    path = tmp_path / "bad.safetensors"
    with pytest.raises(ModelError, match="not finite"):
        write_model(path, replace(model, weights=weights))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("keep", [0, 7, 100, 0.5, 0.99])
def test_truncated_files_are_refused(model_file: Path, keep: float) -> None:
    data = model_file.read_bytes()
    model_file.write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])
    with pytest.raises(ModelError) as caught:
        read_model(model_file)
    assert str(model_file) not in caught.value.sentence


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with pytest.raises(ModelError, match="no such model file"):
        read_model(path)
    path.write_bytes(os.urandom(500))
    with pytest.raises(ModelError, match="not a napari-dante model"):
        read_model(path)
    save_file({"a": np.zeros(3)}, path)
    with pytest.raises(ModelError, match="not a napari-dante model"):
        read_model(path)
    save_file({"a": np.zeros(3)}, path, metadata={"napari_dante": json.dumps({"spec": {}})})
    with pytest.raises(ModelError):
        read_header(path)


@given(st.text(max_size=80))
def test_names_are_safe_for_servers_and_file_systems(name: str) -> None:
    try:
        check_name(name)
    except ModelError:
        return
    assert name.isascii()
    assert 0 < len(name) <= 64
    assert not set(name) & set("/\\:_.,\0\n")


def test_spec_survives_json_and_refuses_nonsense(spec: ArchitectureSpec) -> None:
    data = json.loads(json.dumps(spec.to_json()))
    assert ArchitectureSpec.from_json(data) == spec
    for key in data:
        broken = {name: value for name, value in data.items() if name != key}
        with pytest.raises(ModelError):
            ArchitectureSpec.from_json(broken)
    for change in (
        {"network": "eval"},
        {"normalisation": "x"},
        {"labels": []},
        {"spacing": [0, 1, 1]},
        {"patch": [1, 2]},
    ):
        with pytest.raises(ModelError):
            ArchitectureSpec.from_json({**data, **change})


def test_library_keeps_every_version_and_goes_back(model: Model, tmp_path: Path) -> None:
    library = Library(tmp_path / "library")
    candidate = tmp_path / "candidate.safetensors"
    kept = []
    for number in range(3):
        lineage = replace(model.lineage, created=f"2026-01-0{number + 1}T00:00:00+00:00")
        write_model(candidate, replace(model, lineage=lineage))
        kept.append(library.keep(candidate))
        assert library.resolve("tiny") == kept[-1]
    assert library.versions("tiny") == tuple(kept)
    assert "tiny" in library.names()
    library.use("tiny", kept[0])
    assert library.resolve("tiny") == kept[0]
    assert library.header("tiny")[1].created.startswith("2026-01-01")
    library.keep(candidate)
    assert library.resolve("tiny").stem == "0004"
    assert kept[2].read_bytes() == candidate.read_bytes()
    with pytest.raises(ModelError, match="not a version"):
        library.use("tiny", candidate)
    with pytest.raises(ModelError, match="no such model"):
        library.resolve("unknown")


def test_an_interrupted_keep_leaves_no_trace(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library(tmp_path / "library")

    def fails(source: Path, target: Path) -> None:
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("napari_dante.model.library.shutil.copyfile", fails)
    with pytest.raises(OSError, match="space"):
        library.keep(model_file)
    assert library.versions("tiny") == ()
    assert list((tmp_path / "library").rglob("*.*")) == []


def test_lineage_child_forgets_the_server_and_remembers_the_parent() -> None:
    parent = Lineage("tiny", "id", server_timestamp="17")
    child = parent.child("ab" * 32, {"method": "lora"}, None)
    assert (child.name, child.model_id) == ("tiny", "id")
    assert child.parent == "ab" * 32
    assert child.server_timestamp is None
