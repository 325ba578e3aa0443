"""The files of peft, checked against its arithmetic; the real peft is in tests/interop."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from napari_dante.adapt import peft
from napari_dante.adapt.adapters import adapted_model, adapter_of
from napari_dante.adapt.lora import add_lora, merge_lora
from napari_dante.adapt.peft import from_peft, read_peft, to_peft, write_peft
from napari_dante.adapt.recipe import EncoderLoRA, LoRA
from napari_dante.errors import ModelError
from napari_dante.model.segmenter import Segmenter
from napari_dante.model.spec import ArchitectureSpec
from tests.adapt.adapters import ARGUMENTS, base_model, lesson
from tests.adapt.nets import shaken

PREFIX = "base_model.model."
IMAGE = torch.randn(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))


def run_as_peft_does(network: nn.Module, tensors: Any, config: Any) -> torch.Tensor:
    """Return base(x) + B(A(x))·scaling for the targets, and whole modules exchanged."""
    state = {}
    for key, value in tensors.items():
        assert key.startswith(PREFIX)
        if "lora_" not in key:
            state[key.removeprefix(PREFIX).replace(".base_layer.", ".")] = torch.from_numpy(value)
    wrong = network.load_state_dict(state, strict=False)
    assert not wrong.unexpected_keys
    for name in config["target_modules"]:
        layer: Any = network.get_submodule(name)
        assert isinstance(layer, nn.Conv3d)
        down, up = (
            torch.from_numpy(tensors[f"{PREFIX}{name}.lora_{factor}.weight"]) for factor in "AB"
        )
        keys = [key for key in config["rank_pattern"] if re.fullmatch(key, name)]
        rank = config["rank_pattern"][keys[0]] if keys else config["r"]
        alpha = config["alpha_pattern"][keys[0]] if keys else config["lora_alpha"]
        assert down.shape == (rank, layer.in_channels, *layer.kernel_size)
        assert up.shape == (layer.out_channels, rank, 1, 1, 1)
        scaling = alpha / (rank**0.5 if config["use_rslora"] else rank)

        def added(
            layer: Any, inputs: Any, output: Any, down: Any = down, up: Any = up, s: Any = scaling
        ) -> torch.Tensor:
            low = nn.functional.conv3d(inputs[0], down, None, layer.stride, layer.padding)
            result: torch.Tensor = output + nn.functional.conv3d(low, up) * s
            return result

        layer.register_forward_hook(added)
    with torch.no_grad():
        logits: torch.Tensor = network.eval()(IMAGE)
    return logits


recipes = st.builds(
    LoRA,
    rank=st.sampled_from([1, 3, 1000]),
    alpha=st.floats(0.5, 4),
    scaling=st.sampled_from(["alpha/r", "rank-stabilised"]),
    targets=st.sampled_from([("encoder",), ("encoder", "decoder", "head")]),
    train_norms=st.booleans(),
) | st.builds(EncoderLoRA, rank=st.sampled_from([2, 5]))


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(name=st.sampled_from(list(ARGUMENTS)), black_box=st.sampled_from([None, 4]), recipe=recipes)
def test_there_and_back_and_what_peft_computes(
    tmp_path: Path, spec: ArchitectureSpec, name: str, black_box: int | None, recipe: Any
) -> None:
    base = base_model(spec, name, tmp_path / "base.safetensors", black_box)
    adapter, _ = lesson(base, recipe)
    write_peft(tmp_path / "peft", *to_peft(adapter, base))
    tensors, config = read_peft(tmp_path / "peft")
    ours = Segmenter(adapted_model(base, adapter), torch.device("cpu")).network
    with torch.no_grad():
        expected = ours(IMAGE)
    theirs = run_as_peft_does(Segmenter.from_file(base, "cpu").network, tensors, config)
    assert torch.allclose(theirs, expected, atol=1e-4 * max(1, float(expected.abs().max())))
    back = from_peft(tensors, config, base)
    assert back.base == adapter.base
    first, second = (adapted_model(base, one).weights for one in (adapter, back))
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert np.allclose(value, second[key], atol=1e-6), key


def test_the_files_are_those_that_peft_looks_for(tmp_path: Path, spec: ArchitectureSpec) -> None:
    base = base_model(spec, "SegResNet", tmp_path / "base.safetensors")
    adapter, _ = lesson(base, LoRA(rank=2, alpha=6.0))
    write_peft(tmp_path / "peft", *to_peft(adapter, base))
    names = {path.name for path in (tmp_path / "peft").iterdir()}
    assert names == {"adapter_model.safetensors", "adapter_config.json"}
    config = json.loads((tmp_path / "peft" / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 2, 6.0)
    assert not set(config["target_modules"]) & set(config["modules_to_save"])
    assert {"act_mod", "conv_final.1"} <= set(config["modules_to_save"]), "a name was forgotten"
    with safe_open(tmp_path / "peft" / "adapter_model.safetensors", "numpy") as stream:
        assert stream.metadata() == {"format": "pt"}
        shapes = {key: stream.get_slice(key).get_shape() for key in stream.keys()}  # noqa: SIM118
    layer = f"{PREFIX}down_layers.1.0.conv"
    assert shapes[f"{layer}.lora_A.weight"] == [2, 8, 3, 3, 3]
    assert shapes[f"{layer}.lora_B.weight"] == [16, 2, 1, 1, 1]


def test_half_precision_of_peft_is_read(tmp_path: Path, spec: ArchitectureSpec) -> None:
    base = base_model(spec, "UNet", tmp_path / "base.safetensors")
    tensors, config = to_peft(lesson(base, LoRA(rank=2))[0], base)
    write_peft(tmp_path / "peft", tensors, config)
    halves = {key: torch.from_numpy(value).bfloat16() for key, value in tensors.items()}
    save_file(halves, tmp_path / "peft" / "adapter_model.safetensors")
    found, _ = read_peft(tmp_path / "peft")
    assert found.keys() == tensors.keys()
    for key, value in found.items():
        assert value.dtype == np.float32
        assert np.array_equal(value, halves[key].float().numpy())


def test_transposed_convolutions_are_stored_whole(tmp_path: Path, spec: ArchitectureSpec) -> None:
    base = base_model(spec, "UNet", tmp_path / "base.safetensors")
    adapter, merged = lesson(base, LoRA(rank=2))
    tensors, config = to_peft(adapter, base)
    assert "model.2.0.conv.weight" in adapter.factors
    assert "model.2.0.conv" in config["modules_to_save"]
    stored = tensors[f"{PREFIX}model.2.0.conv.weight"]
    assert np.array_equal(stored, merged["model.2.0.conv.weight"].numpy())


LAYERS: list[Callable[[], nn.Module]] = [
    lambda: nn.Linear(12, 20),
    lambda: nn.Conv1d(8, 12, 3, padding=1),
    lambda: nn.Conv2d(8, 12, 3, stride=2),
    lambda: nn.Conv3d(8, 12, (1, 3, 3), bias=False),
]
FOREIGN: list[Callable[[], nn.Module]] = [
    lambda: nn.Conv2d(8, 12, 3, dilation=2),
    lambda: nn.Conv2d(8, 12, 3, groups=2),
    lambda: nn.Conv2d(8, 12, 3, padding=1, padding_mode="replicate"),
    lambda: nn.ConvTranspose2d(8, 12, 3),
]


@pytest.mark.parametrize("make", [*LAYERS, *FOREIGN])
def test_every_layer_is_stored_as_peft_would_run_it(
    make: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No network of ours has such layers yet, so one is put in the place of a model's."""
    torch.manual_seed(2)
    layer: Any = make()
    network = nn.Sequential(copy.deepcopy(layer))
    recipe = LoRA(rank=2, alpha=4.0)
    add_lora([network], recipe, others=False)
    adapter = adapter_of(shaken(network), recipe, "0" * 64)
    merge_lora(network)
    base = nn.Sequential(copy.deepcopy(layer))
    monkeypatch.setattr(peft, "matching_base", lambda path, adapter: (None, base))
    tensors, config = to_peft(adapter, Path())
    if make in FOREIGN:
        assert config["modules_to_save"] == ["0"]
        assert not config["target_modules"]
        expected = network[0].weight.detach().numpy()
        assert np.array_equal(tensors[f"{PREFIX}0.weight"], expected)
        return
    down, up = (torch.from_numpy(tensors[f"{PREFIX}0.lora_{factor}.weight"]) for factor in "AB")
    vector = torch.randn(2, layer.weight.shape[1], *[6] * (layer.weight.dim() - 2))
    low: Any = copy.deepcopy(layer)
    low.weight, low.bias = nn.Parameter(down), None
    run = getattr(nn.functional, type(layer).__name__.lower())
    with torch.no_grad():
        assert torch.allclose(layer(vector) + run(low(vector), up) * 2, network(vector), atol=1e-5)


def test_factors_per_tap_cannot_be_expressed(tmp_path: Path, spec: ArchitectureSpec) -> None:
    base = base_model(spec, "UNet", tmp_path / "base.safetensors")
    adapter, _ = lesson(base, LoRA(rank=2, layout="per_tap"))
    with pytest.raises(ModelError, match="layout=kernel_in") as caught:
        to_peft(adapter, base)
    assert "\n" not in caught.value.sentence


def test_another_base_is_refused(tmp_path: Path, spec: ArchitectureSpec) -> None:
    base = base_model(spec, "UNet", tmp_path / "base.safetensors")
    adapter, _ = lesson(base, LoRA(rank=2))
    with pytest.raises(ModelError, match="another model"):
        to_peft(replace(adapter, base="0" * 64), base)


@pytest.mark.parametrize(
    "change",
    [
        {"peft_type": "LOHA"},
        {"use_dora": True},
        {"lora_bias": True},
        {"r": "many"},
        {"r": 0},
        {"lora_alpha": None},
        {"alpha_pattern": {"(": 1}},
        {"alpha_pattern": ["x"]},
        {"alpha_pattern": {".*": "x"}},
    ],
)
def test_a_configuration_with_another_meaning_is_refused(
    tmp_path: Path, spec: ArchitectureSpec, change: dict[str, Any]
) -> None:
    base = base_model(spec, "UNet", tmp_path / "base.safetensors")
    tensors, config = to_peft(lesson(base, LoRA(rank=2))[0], base)
    from_peft(tensors, config, base)
    with pytest.raises(ModelError) as caught:
        from_peft(tensors, {**config, **change}, base)
    assert "\n" not in caught.value.sentence


@pytest.mark.parametrize(
    "change",
    [
        {"model.9.lora_A.weight": (2, 3, 3, 3, 3)},
        {"model.9.weight": (2, 3)},
        {"model.0.conv.unit0.conv.lora_A.weight": (2, 1, 3, 3, 3, 3)},
        {"model.0.conv.unit0.conv.lora_B.weight": (8, 3, 1, 1, 1)},
        {"model.2.0.conv.lora_A.weight": (2, 4, 3, 3, 3), "model.2.0.conv.lora_B.weight": (16, 2)},
        {"model.0.conv.unit0.conv.lora_magnitude_vector": (8,)},
        {"model.0.conv.unit1.lora_embedding_A": (8,)},
    ],
)
def test_tensors_that_do_not_fit_are_refused(
    tmp_path: Path, spec: ArchitectureSpec, change: dict[str, tuple[int, ...]]
) -> None:
    base = base_model(spec, "UNet", tmp_path / "base.safetensors")
    tensors, config = to_peft(lesson(base, LoRA(rank=2))[0], base)
    for name, shape in change.items():
        tensors[PREFIX + name] = np.ones(shape, np.float32)
    with pytest.raises(ModelError):
        from_peft(tensors, config, base)


def test_what_is_no_folder_of_peft_is_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    for content in (None, b"", b"\x80\x04cos\nsystem\n"):
        if content is not None:
            (tmp_path / "adapter_model.safetensors").write_bytes(content)
        with pytest.raises(ModelError, match="not an adapter of peft"):
            read_peft(tmp_path)
    with pytest.raises(ModelError) as caught:
        read_peft(tmp_path / "nowhere")
    assert str(tmp_path) not in caught.value.sentence
