"""From a spec to a torch module, and its named parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from monai.networks import nets
from torch import nn

from napari_dante.errors import ModelError
from napari_dante.model.head import AdaptedNetwork
from napari_dante.model.slices import SliceNetwork
from napari_dante.model.spec import ArchitectureSpec

__all__ = ["build_network", "check_layout", "load_weights"]


def build_network(spec: ArchitectureSpec) -> nn.Module:
    """Return the network of `spec` with fresh weights, on the CPU.

    Raises
    ------
    ModelError
        If MONAI does not accept the arguments, or the network takes no adapter.
    """
    try:
        network: nn.Module = getattr(nets, spec.network)(
            spatial_dims=3 if spec.slice_axis is None else 2,
            in_channels=spec.in_channels,
            out_channels=spec.out_channels,
            **spec.arguments,
        )
    except (TypeError, ValueError, LookupError, AssertionError, RuntimeError) as error:
        raise ModelError(
            "The network described in this model file cannot be built.", detail=repr(error)
        ) from error
    if spec.slice_axis is not None:
        network = SliceNetwork(network, spec.slice_axis)
    return network if spec.adapter is None else AdaptedNetwork(network, spec.adapter)


def check_layout(spec: ArchitectureSpec, weights: Mapping[str, Any]) -> None:
    """Refuse weights that are not those of the network of `spec`; takes no memory for it.

    Parameters
    ----------
    spec
        Of the network.
    weights
        Arrays or tensors by state-dict key.

    Raises
    ------
    ModelError
        If a key is missing, unknown or has another shape, or the network cannot be built.
    """
    with torch.device("meta"):
        expected = build_network(spec).state_dict()
    differing = sorted(
        key
        for key in expected.keys() | weights.keys()
        if key not in expected
        or key not in weights
        or tuple(expected[key].shape) != tuple(weights[key].shape)
    )
    if differing:
        raise ModelError(
            "The weights do not belong to the network that this model file describes.",
            detail=f"{len(differing)} keys, first {differing[:5]}",
        )


def load_weights(network: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Copy `weights` into `network`, every key and shape matching.

    Raises
    ------
    ModelError
        If a key is missing, unknown or has another shape.
    """
    expected = network.state_dict()
    missing = expected.keys() - weights.keys()
    unknown = weights.keys() - expected.keys()
    shapes = [
        key for key in expected.keys() & weights.keys() if expected[key].shape != weights[key].shape
    ]
    if missing or unknown or shapes:
        raise ModelError(
            "The weights do not belong to the network that this model file describes.",
            detail=f"missing {sorted(missing)}, unknown {sorted(unknown)}, shapes {shapes}",
        )
    network.load_state_dict(weights)
