"""The network of both starters, and how its two heads come apart and together again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from napari_dante.model.file import Lineage, Model
from napari_dante.model.spec import ArchitectureSpec
from napari_dante.volume import Label, default_label
from training.anatomy import STRUCTURES, TISSUES

__all__ = [
    "CHANNELS",
    "EDGE",
    "SPACING",
    "STARTERS",
    "Starter",
    "both_heads",
    "join",
    "keep_apart",
    "split",
]

EDGE, SPACING = 64, 2.0
CHANNELS = (32, 64, 80, 96)
HEADS: Mapping[str, tuple[int, ...]] = {
    "model.2.0.conv.weight": (1,),
    "model.2.0.conv.bias": (0,),
    "model.2.0.adn.N.weight": (0,),
    "model.2.0.adn.N.bias": (0,),
    "model.2.1.conv.unit0.conv.weight": (0, 1),
    "model.2.1.conv.unit0.conv.bias": (0,),
}
"""The axes along which the last stage has a place for each class of both heads."""

MIXING = "model.2.1.conv.unit0.conv.weight"
"""The kernel that could mix the heads; :func:`keep_apart` sees that it does not."""


@dataclass(frozen=True)
class Starter:
    """One of the two: its name, its identity for servers, its labels and its channels."""

    name: str
    model_id: str
    labels: tuple[Label, ...]
    channels: slice


_TISSUE_COLOURS = ((0.337, 0.706, 0.914), (0.902, 0.624, 0.0), (0.8, 0.475, 0.655))
STARTERS = (
    Starter(
        "brain-tissue",
        "8d2c1c60-52a4-4f3e-9d0e-6f6f2f1b6a01",
        tuple(Label(n, c) for n, c in zip(TISSUES, _TISSUE_COLOURS, strict=True)),
        slice(len(STRUCTURES) + 1, None),
    ),
    Starter(
        "brain-structures",
        "8d2c1c60-52a4-4f3e-9d0e-6f6f2f1b6a02",
        tuple(
            Label(name, default_label(value).colour)
            for value, name in enumerate(STRUCTURES, start=1)
        ),
        slice(0, len(STRUCTURES) + 1),
    ),
)


def _place(starter: Starter, key: str, dimensions: int) -> tuple[slice, ...]:
    """Return where a starter's part of a tensor of the whole network lies."""
    axes = HEADS.get(key, ())
    return tuple(starter.channels if axis in axes else slice(None) for axis in range(dimensions))


def architecture(labels: Sequence[Label], channels: Sequence[int] = CHANNELS) -> ArchitectureSpec:
    """Return the network with a head for these labels."""
    return ArchitectureSpec(
        network="UNet",
        arguments={
            "channels": list(channels),
            "strides": [2] * (len(channels) - 1),
            "num_res_units": 2,
            "norm": ["INSTANCE", {"affine": True}],
        },
        labels=tuple(labels),
        spacing=(SPACING, SPACING, SPACING),
        patch=(EDGE, EDGE, EDGE),
    )


def both_heads(channels: Sequence[int] = CHANNELS) -> ArchitectureSpec:
    """Return the network that is trained: channels of the structures, then of the tissues."""
    count = len(STRUCTURES) + 1 + len(TISSUES) + 1
    labels = [Label(f"channel {value}", default_label(value).colour) for value in range(1, count)]
    return architecture(labels, channels)


def keep_apart(network: nn.Module) -> None:
    """Let neither head ever look at the channels of the other."""
    kernel = network.get_parameter(MIXING)
    own = torch.zeros_like(kernel)
    for starter in STARTERS:
        own[starter.channels, starter.channels] = 1
    with torch.no_grad():
        kernel.mul_(own)
    kernel.register_hook(lambda gradient: gradient * own)  # type: ignore[no-untyped-call]


def split(weights: Mapping[str, torch.Tensor], starter: Starter) -> Model:
    """Return one starter: the shared network under its own head."""
    own = {key: value[_place(starter, key, value.ndim)].numpy() for key, value in weights.items()}
    widths = [len(own[key]) for key in own if key.endswith("unit1.conv.weight")]
    lineage = Lineage(starter.name, starter.model_id)
    return Model(architecture(starter.labels, widths), own, lineage)


def join(models: Sequence[Model]) -> dict[str, torch.Tensor]:
    """Return the weights of the whole network from those of :data:`STARTERS`, in their order."""
    count = sum(model.spec.out_channels for model in models)
    whole = {}
    for key, value in models[0].weights.items():
        axes = HEADS.get(key, ())
        shape = [count if axis in axes else size for axis, size in enumerate(value.shape)]
        joined = torch.zeros(shape)
        for starter, model in zip(STARTERS, models, strict=True):
            part = torch.from_numpy(model.weights[key]).float()
            joined[_place(starter, key, joined.ndim)] = part
        whole[key] = joined
    return whole
