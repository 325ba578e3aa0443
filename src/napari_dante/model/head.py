"""Where a network's features end and its head begins, and an adapter between the two.

A black-box adapter (Silva-Rodríguez et al., FSEFT, Med. Image Anal. 2025) leaves the
network as it is and works on the features that its head reads.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from monai.networks import nets
from torch import nn

from napari_dante.errors import ModelError
from napari_dante.model.slices import SliceNetwork

__all__ = ["AdaptedNetwork", "SpatialAdapter", "feature_channels", "split_head"]


class SpatialAdapter(nn.Module):
    """``x + conv3³(ReLU(conv3³(x)))`` without biases; at its start exactly ``x``.

    For a two-dimensional network the kernels are one voxel thick across its slices.

    Parameters
    ----------
    channels
        Of the features (batch, channel, z, y, x).
    hidden
        Channels between the two convolutions.
    slice_axis
        The axis of (z, y, x) that a two-dimensional network is blind along, or None.
    """

    def __init__(self, channels: int, hidden: int, slice_axis: int | None = None) -> None:
        super().__init__()
        z, y, x = (1 if axis == slice_axis else 3 for axis in range(3))
        kernel, padding = (z, y, x), (z // 2, y // 2, x // 2)
        self.inner = nn.Conv3d(channels, hidden, kernel, padding=padding, bias=False)
        self.outer = nn.Conv3d(hidden, channels, kernel, padding=padding, bias=False)
        nn.init.zeros_(self.outer.weight)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the adapted features, same shape."""
        adapted: torch.Tensor = features + self.outer(torch.relu(self.inner(features)))
        return adapted


class AdaptedNetwork(nn.Module):
    """A network with a spatial adapter before its head.

    Parameters
    ----------
    base
        A network whose head :func:`split_head` finds.
    hidden
        Width of the adapter.

    Raises
    ------
    ModelError
        If the head of `base` cannot be told apart.
    """

    def __init__(self, base: nn.Module, hidden: int) -> None:
        super().__init__()
        self.base = base
        slice_axis = base.axis if isinstance(base, SliceNetwork) else None
        self.adapter = SpatialAdapter(feature_channels(base), hidden, slice_axis)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, class, z, y, x)."""
        body, head = split_head(self)
        logits: torch.Tensor = head(body(image))
        return logits


def split_head(network: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Return ``(body, head)``, sharing their weights with `network`.

    ``head(body(image))`` is what `network` returns at prediction. The head is the last up
    layer of a MONAI ``UNet``, the output block of a ``DynUNet``, the final convolution of
    a ``SegResNet``; an adapter before it belongs to the head.

    Raises
    ------
    ModelError
        If `network` has no head of its own.
    """
    if isinstance(network, AdaptedNetwork):
        body, head = split_head(network.base)
        return body, nn.Sequential(network.adapter, head)
    if isinstance(network, SliceNetwork):
        body, head = split_head(network.plane)
        return SliceNetwork(body, network.axis), SliceNetwork(head, network.axis)
    if isinstance(network, nets.UNet):
        down, inner, up = cast("nn.Sequential", network.model)
        return nn.Sequential(down, inner), up
    if isinstance(network, nets.DynUNet):
        return network.skip_layers, network.output_block
    if isinstance(network, nets.SegResNet) and network.use_conv_final:
        body = copy.copy(network)
        body.use_conv_final = False
        return body, network.conv_final
    raise ModelError(
        "The last layer of this model cannot be told apart, so it takes no adapter.",
        detail=type(network).__name__,
    )


def feature_channels(network: nn.Module) -> int:
    """Return how many channels the head of `network` reads."""
    _, head = split_head(network)
    layers = (m for m in head.modules() if isinstance(m, nn.modules.conv._ConvNd))
    return next(layers).in_channels
