"""A base model on disk, and what a lesson with LoRA made of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from napari_dante.adapt.adapters import adapter_of
from napari_dante.adapt.method import merged_weights, prepare
from napari_dante.adapt.recipe import EncoderLoRA, LoRA
from napari_dante.files import sha256
from napari_dante.model.file import Lineage, Model, write_model
from napari_dante.model.lora_file import LoRAAdapter
from napari_dante.model.network import build_network
from napari_dante.model.segmenter import Segmenter
from napari_dante.model.spec import ArchitectureSpec
from tests.adapt.nets import shaken

ARGUMENTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "UNet": ("UNet", {"channels": [8, 16, 24], "strides": [2, 2], "num_res_units": 1}),
    "plain UNet": ("UNet", {"channels": [8, 16], "strides": [2], "norm": "batch"}),
    "DynUNet": (
        "DynUNet",
        {
            "kernel_size": [3, 3, 3],
            "strides": [1, 2, 2],
            "upsample_kernel_size": [2, 2],
            "filters": [8, 16, 24],
        },
    ),
    "SegResNet": (
        "SegResNet",
        {"init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1], "act": "PRELU"},
    ),
}


def base_model(spec: ArchitectureSpec, name: str, path: Path, adapter: int | None = None) -> Path:
    """Write a model with seeded weights; `adapter` is the width of a black-box adapter."""
    network, arguments = ARGUMENTS[name]
    spec = replace(spec, network=network, arguments=arguments, adapter=adapter)
    torch.manual_seed(7)
    state = {key: value.numpy() for key, value in build_network(spec).state_dict().items()}
    write_model(path, Model(spec, state, Lineage("tiny", "tiny")))
    return path


def lesson(base: Path, recipe: LoRA | EncoderLoRA) -> tuple[LoRAAdapter, dict[str, torch.Tensor]]:
    """Return the adapter of a network that has moved at random, and its merged weights."""
    network = Segmenter.from_file(base, "cpu").network
    prepare(network, recipe)
    shaken(network)
    return adapter_of(network, recipe, sha256(base)), merged_weights(network)
