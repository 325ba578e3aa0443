"""An adapter file on its base is the merged model; on another base it is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_dante.adapt.adapters import adapted_model
from napari_dante.adapt.recipe import EncoderLoRA, LoRA, recipe_to_json
from napari_dante.errors import ModelError
from napari_dante.files import sha256
from napari_dante.model.file import read_model, write_model
from napari_dante.model.lora_file import LoRAAdapter, read_adapter, write_adapter
from napari_dante.model.spec import ArchitectureSpec
from tests.adapt.adapters import ARGUMENTS, base_model, lesson

recipes = st.builds(
    LoRA,
    rank=st.sampled_from([1, 3, 1000]),
    alpha=st.floats(0.5, 8),
    layout=st.sampled_from(["kernel_in", "per_tap"]),
    scaling=st.sampled_from(["alpha/r", "rank-stabilised"]),
    targets=st.sampled_from([("encoder",), ("decoder", "head"), ("encoder", "decoder", "head")]),
    train_norms=st.booleans(),
) | st.builds(EncoderLoRA, rank=st.sampled_from([2, 5]), train_norms=st.booleans())


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(name=st.sampled_from(list(ARGUMENTS)), black_box=st.sampled_from([None, 4]), recipe=recipes)
def test_the_file_on_its_base_is_the_merged_model(
    tmp_path: Path, spec: ArchitectureSpec, name: str, black_box: int | None, recipe: Any
) -> None:
    base = base_model(spec, name, tmp_path / "base.safetensors", black_box)
    adapter, merged = lesson(base, recipe)
    path = tmp_path / "adapter.safetensors"
    write_adapter(path, adapter)
    back = read_adapter(path)
    assert back.base == sha256(base)
    assert back.size == adapter.size
    assert back.targets == (recipe.targets if isinstance(recipe, LoRA) else ("encoder",))
    assert back.recipe == json.loads(json.dumps(recipe_to_json(recipe)))
    assert back.tensors.keys() == adapter.tensors.keys()
    assert all(np.array_equal(back.tensors[k], v) for k, v in adapter.tensors.items())
    model, old = adapted_model(base, back), read_model(base)
    assert model.spec == old.spec
    assert model.lineage.parent == back.base
    assert model.lineage.model_id == old.lineage.model_id
    assert model.weights.keys() == merged.keys() == old.weights.keys()
    for key, value in merged.items():
        assert np.array_equal(model.weights[key], value.numpy()), key
    assert any((model.weights[key] != old.weights[key]).any() for key in merged)


def test_the_recipe_is_in_the_lineage(tmp_path: Path, spec: ArchitectureSpec) -> None:
    base = base_model(spec, "UNet", tmp_path / "base.safetensors")
    recipe = LoRA(rank=2)
    adapter, _ = lesson(base, recipe)
    write_adapter(tmp_path / "adapter.safetensors", adapter)
    model = adapted_model(base, read_adapter(tmp_path / "adapter.safetensors"))
    assert model.lineage.recipe == recipe_to_json(recipe) | {"targets": list(recipe.targets)}


def test_only_what_can_have_changed_is_in_the_file(tmp_path: Path, spec: ArchitectureSpec) -> None:
    base = base_model(spec, "UNet", tmp_path / "base.safetensors")
    weights = read_model(base).weights
    adapter, merged = lesson(base, LoRA(rank=1, targets=("decoder", "head"), train_norms=False))
    changed = {key for key, value in merged.items() if (value.numpy() != weights[key]).any()}
    assert {key.rpartition(".")[0] for key in adapter.tensors} == changed
    assert len(changed) < len(weights) / 2


def test_another_base_is_refused(tmp_path: Path, spec: ArchitectureSpec) -> None:
    """Also one of the same kind and shapes, such as the next version."""
    base = base_model(spec, "UNet", tmp_path / "base.safetensors")
    adapter, _ = lesson(base, LoRA(rank=2))
    write_model(tmp_path / "next.safetensors", adapted_model(base, adapter))
    with pytest.raises(ModelError, match="another model") as caught:
        adapted_model(tmp_path / "next.safetensors", adapter)
    assert "\n" not in caught.value.sentence


def reshaped(tensors: dict[str, Any]) -> dict[str, Any]:
    """Return factors whose product has as many numbers as before, but not their places."""
    changed = dict(tensors)
    for key, value in tensors.items():
        if key.endswith("up") and tensors[key[:-2] + "down"].shape[1] % 2 == 0:
            changed[key] = np.concatenate([value, value])
            changed[key[:-2] + "down"] = tensors[key[:-2] + "down"][:, ::2]
    return changed


@pytest.mark.parametrize(
    "spoil",
    [
        lambda t: {**t, "model.9.weight.delta": np.zeros(3, np.float32)},
        lambda t: {key: value[..., :-1] for key, value in t.items()},
        lambda t: {key: value[:-1] for key, value in t.items()},
        lambda t: {key: value.T if key.endswith("up") else value for key, value in t.items()},
        lambda t: {key: value[None, None] for key, value in t.items()},
        lambda t: {key: v[..., :1] if key.endswith("delta") else v for key, v in t.items()},
        reshaped,
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(
    tmp_path: Path, spec: ArchitectureSpec, spoil: Any
) -> None:
    base = base_model(spec, "UNet", tmp_path / "base.safetensors")
    adapter, _ = lesson(base, LoRA(rank=2))
    with pytest.raises(ModelError, match="does not fit"):
        adapted_model(base, replace(adapter, tensors=spoil(dict(adapter.tensors))))


def test_an_infinite_number_is_not_saved(tmp_path: Path, spec: ArchitectureSpec) -> None:
    base = base_model(spec, "UNet", tmp_path / "base.safetensors")
    adapter, _ = lesson(base, LoRA(rank=2))
    key = next(iter(adapter.tensors))
    bad = {**adapter.tensors, key: adapter.tensors[key] * np.float32("inf")}
    with pytest.raises(ModelError, match="not finite"):
        write_adapter(tmp_path / "adapter.safetensors", replace(adapter, tensors=bad))
    assert not (tmp_path / "adapter.safetensors").exists()


def test_what_is_no_adapter_is_refused(tmp_path: Path, spec: ArchitectureSpec) -> None:
    base = base_model(spec, "UNet", tmp_path / "base.safetensors")
    good, junk = tmp_path / "good.safetensors", tmp_path / "junk.safetensors"
    adapter, _ = lesson(base, LoRA(rank=2))
    write_adapter(good, adapter)
    junk.write_bytes(b"\x80\x04cos\nsystem\n")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(good.read_bytes()[:-100])
    for path in (base, junk, cut, tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ModelError) as caught:
            read_adapter(path)
        assert "\n" not in caught.value.sentence
        assert str(tmp_path) not in caught.value.sentence + caught.value.detail
    with pytest.raises(ModelError, match="not a napari-dante model"):
        read_model(good)


@pytest.mark.parametrize(
    ("targets", "names"),
    [
        (("encoder",), ["a.weight.up"]),
        (("encoder",), ["a.weight.up", "a.weight.down", "a.weight.delta"]),
        (("encoder",), ["a.weight.payload"]),
        (("neck",), ["a.weight.delta"]),
    ],
)
def test_half_an_update_is_no_adapter(
    tmp_path: Path, spec: ArchitectureSpec, targets: Any, names: list[str]
) -> None:
    base = base_model(spec, "UNet", tmp_path / "base.safetensors")
    adapter, _ = lesson(base, LoRA(rank=2))
    tensors = dict.fromkeys(names, np.zeros((2, 2), np.float32))
    with pytest.raises(ModelError, match="not an adapter"):
        LoRAAdapter(adapter.base, adapter.size, targets, adapter.recipe, tensors)


def test_a_small_rank_is_a_small_file(tmp_path: Path) -> None:
    """Of the shipped model, rank 2 with norms and biases."""
    from napari_dante.model.library import Library

    base = Library(tmp_path).resolve("brain-tissue-t1")
    adapter, _ = lesson(base, LoRA(rank=2))
    path = tmp_path / "adapter.safetensors"
    write_adapter(path, adapter)
    assert path.stat().st_size < 0.07 * base.stat().st_size
