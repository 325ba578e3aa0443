"""Adapters in the files of Hugging Face ``peft``, which is never imported here.

A folder with ``adapter_model.safetensors`` and ``adapter_config.json``, as peft 0.21
reads and writes them. Its factors of a convolution are convolutions themselves, A of
(r, in, kernel) and B of (out, r, 1), so they are ours of the layout ``kernel_in`` in
another shape. peft knows no factors of transposed convolutions, runs A without the
dilation and padding mode of the layer, and cannot merge groups: such layers, and all that
learned without factors, are stored whole, as ``modules_to_save``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save_file
from safetensors.torch import load_file
from torch import nn

from napari_dante.adapt.adapters import add_to, matching_base
from napari_dante.errors import ModelError, TeachError
from napari_dante.files import atomic_path, sha256, write_text
from napari_dante.model.lora_file import LoRAAdapter
from napari_dante.model.low_rank import LowRank, Role
from napari_dante.model.roles import parts
from napari_dante.model.segmenter import Segmenter

__all__ = ["from_peft", "read_peft", "to_peft", "write_peft"]

PREFIX = "base_model.model."
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
UNKNOWN = ("use_dora", "lora_bias", "fan_in_fan_out", "layer_replication", "target_parameters")
"""Options of peft that change what its numbers mean."""
IDLE = re.compile(r"\.(original_module|modules_to_save)\.")
"""Biases that peft stores beside those of whole modules, and never uses."""

Tensors = dict[str, NDArray[Any]]


def to_peft(adapter: LoRAAdapter, base: Path) -> tuple[Tensors, dict[str, Any]]:
    """Return the tensors and the configuration that peft reads.

    Parameters
    ----------
    adapter
        Of the layout ``kernel_in``.
    base
        File of the model that it belongs to.

    Raises
    ------
    ModelError
        If the layout is another one, or `base` another model.
    """
    if adapter.size.layout != "kernel_in":
        raise ModelError(
            "peft cannot express factors for each kernel tap; teach with layout=kernel_in."
        )
    _, network = matching_base(base, adapter)
    add_to(network, adapter)
    state = network.state_dict()
    layers = [
        name
        for name in (key.removesuffix(".weight") for key in adapter.factors)
        if _expressible(network.get_submodule(name))
    ]
    tensors: Tensors = {}
    for name in layers:
        up, down = adapter.factors[f"{name}.weight"]
        shape = state[f"{name}.weight"].shape
        ones = (1,) * (len(shape) - 2)
        tensors[f"{PREFIX}{name}.lora_A.weight"] = down.reshape(-1, *shape[1:])
        tensors[f"{PREFIX}{name}.lora_B.weight"] = up.reshape(*up.shape, *ones)
        if f"{name}.bias" in adapter.deltas:
            tensors[f"{PREFIX}{name}.base_layer.bias"] = state[f"{name}.bias"].numpy()
    changed = {key.rpartition(".")[0] for key in (*adapter.factors, *adapter.deltas)}
    whole = _slots(network, changed.difference(layers))
    for name, module in whole.items():
        for key, value in module.state_dict().items():
            tensors[f"{PREFIX}{name}.{key}"] = value.numpy()
    return tensors, _config(adapter, layers, list(whole))


def _expressible(layer: nn.Module) -> bool:
    """Tell whether peft computes this layer with factors as we do."""
    if isinstance(layer, CONVOLUTIONS):
        return layer.groups == 1 and set(layer.dilation) == {1} and layer.padding_mode == "zeros"
    return isinstance(layer, nn.Linear)


def _slots(network: nn.Module, wanted: set[str]) -> dict[str, nn.Module]:
    """Return the wanted modules under every name by which a parent runs them."""
    modules = {id(network.get_submodule(name)) for name in wanted}
    return {
        f"{path}.{name}".lstrip("."): child
        for path, parent in network.named_modules()
        for name, child in parent.named_children()
        if id(child) in modules
    }


def _config(adapter: LoRAAdapter, layers: list[str], whole: list[str]) -> dict[str, Any]:
    ranks = {name: adapter.factors[f"{name}.weight"][0].shape[1] for name in layers}
    capped = {name: rank for name, rank in ranks.items() if rank != adapter.size.rank}
    stabilised = adapter.size.scaling == "rank-stabilised"
    biases = any(f"{name}.bias" in adapter.deltas for name in layers)
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": None,
        "inference_mode": True,
        "r": adapter.size.rank,
        "lora_alpha": adapter.size.alpha,
        "use_rslora": stabilised,
        "lora_dropout": 0.0,
        "bias": "lora_only" if biases else "none",
        "target_modules": layers,
        "rank_pattern": {re.escape(name): rank for name, rank in capped.items()},
        "alpha_pattern": {
            re.escape(name): adapter.size.scale * (rank**0.5 if stabilised else rank)
            for name, rank in capped.items()
        },
        "modules_to_save": whole or None,
    }


def from_peft(
    tensors: Mapping[str, NDArray[Any]], config: Mapping[str, Any], base: Path
) -> LoRAAdapter:
    """Return the adapter that a folder of peft describes.

    Parameters
    ----------
    tensors, config
        See :func:`read_peft`.
    base
        File of the model that it belongs to, which peft's own files do not name.

    Raises
    ------
    ModelError
        If it holds something else than LoRA and whole modules, or does not fit `base`.
    """
    size = _size(config)
    network = Segmenter.from_file(base, "cpu").network
    state, names = network.state_dict(), _first_names(network)
    found: Tensors = {}
    for key, value in tensors.items():
        name = key.removeprefix(PREFIX)
        if name.endswith(".lora_A.weight"):
            layer = name.removesuffix(".lora_A.weight")
            other = tensors.get(f"{PREFIX}{layer}.lora_B.weight")
            if other is None or not _expressible(_layer(network, layer)):
                raise _unknown(name)
            weight = names[f"{layer}.weight"]
            scale = _scale(config, weight.removesuffix(".weight"), len(value))
            found[f"{weight}.down"] = value.reshape(len(value), -1).astype(np.float32)
            up = other.reshape(len(other), -1).astype(np.float32)
            found[f"{weight}.up"] = scale / size.scale * up
        elif not name.endswith(".lora_B.weight") and not IDLE.search(name):
            name = name.replace(".base_layer.", ".")
            if name not in state or value.shape != state[name].shape:
                raise _unknown(name)
            delta = value - state[name].numpy()
            if value.dtype.kind == "f" and delta.any():
                found[f"{names.get(name, name)}.delta"] = delta.astype(np.float32)
    targets = tuple(_targets(network, found))
    recipe = {"method": "lora", "rank": size.rank, "alpha": size.alpha, "scaling": size.scaling}
    adapter = LoRAAdapter(
        sha256(base), size, targets, {**recipe, "layout": size.layout, "targets": targets}, found
    )
    add_to(network, adapter)
    return adapter


def _first_names(network: nn.Module) -> dict[str, str]:
    """Return the one name by which we know a parameter, for each name that it has."""
    first = {id(parameter): name for name, parameter in network.named_parameters()}
    every = network.named_parameters(remove_duplicate=False)
    return {name: first[id(parameter)] for name, parameter in every}


def _size(config: Mapping[str, Any]) -> LowRank:
    unknown = [name for name in UNKNOWN if config.get(name)]
    if config.get("peft_type") != "LORA" or unknown:
        raise _unknown(f"{config.get('peft_type')} {unknown}")
    try:
        return LowRank(
            rank=int(config["r"]),
            alpha=float(config["lora_alpha"]),
            scaling="rank-stabilised" if config.get("use_rslora") else "alpha/r",
        )
    except (KeyError, TypeError, ValueError, TeachError) as error:
        raise _unknown(repr(error)) from error


def _layer(network: nn.Module, name: str) -> nn.Module:
    try:
        return network.get_submodule(name)
    except AttributeError as error:
        raise _unknown(name) from error


def _scale(config: Mapping[str, Any], layer: str, rank: int) -> float:
    """Return peft's factor before the product of one layer."""
    patterns = config.get("alpha_pattern") or {}
    try:
        matching = (key for key in patterns if re.match(rf"(.*\.)?({key})$", layer))
        alpha = float(patterns.get(next(matching, None), config["lora_alpha"]))
    except (AttributeError, TypeError, ValueError, re.error) as error:
        raise _unknown(repr(error)) from error
    return alpha / (rank**0.5 if config.get("use_rslora") else rank)


def _targets(network: nn.Module, tensors: Mapping[str, Any]) -> Iterator[Role]:
    """Return the parts of the network that have factors."""
    weights = {key.removesuffix(".up") for key in tensors if key.endswith(".up")}
    adapted = {id(network.get_parameter(key)) for key in weights}
    for role, modules in parts(network).items():
        if any(id(p) in adapted for module in modules for p in module.parameters()):
            yield role


def write_peft(
    folder: Path, tensors: Mapping[str, NDArray[Any]], config: Mapping[str, Any]
) -> None:
    """Write a folder that peft reads."""
    with atomic_path(folder / WEIGHTS) as temporary:
        save_file(
            {key: np.array(value, order="C") for key, value in tensors.items()},
            temporary,
            metadata={"format": "pt"},
        )
    write_text(folder / CONFIG, json.dumps(config, indent=2))


def read_peft(folder: Path) -> tuple[Tensors, dict[str, Any]]:
    """Read a folder that peft wrote; nothing of it is executed.

    Raises
    ------
    ModelError
        If it is not such a folder, or its weights are a pickle.
    """
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text())
        tensors = load_file(folder / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(
            f"This is not an adapter of peft: a folder with {WEIGHTS} and {CONFIG}.",
            detail=repr(error),
        ) from error
    return {
        key: (value.float() if value.is_floating_point() else value).numpy()
        for key, value in tensors.items()
    }, config


def _unknown(detail: str) -> ModelError:
    return ModelError(
        "This adapter of peft does not fit the model, or it is of a kind that cannot be "
        "expressed here.",
        detail=detail,
    )
