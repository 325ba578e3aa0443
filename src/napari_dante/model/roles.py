"""Which part of a segmentation network is encoder, decoder and head, by its structure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from monai.networks import nets
from monai.networks.layers.simplelayers import SkipConnection
from torch import nn

from napari_dante.model.head import AdaptedNetwork, split_head
from napari_dante.model.low_rank import Role
from napari_dante.model.slices import SliceNetwork

__all__ = ["parts"]


def parts(network: nn.Module) -> Mapping[Role, list[nn.Module]]:
    """Return the modules that make up each part of `network`.

    Every parameter is in exactly one of these modules. The head is what
    :func:`napari_dante.model.head.split_head` finds, with an adapter before it and with
    the further heads of deep supervision; the bottleneck belongs to the encoder.

    Raises
    ------
    ModelError
        If `network` has no head of its own.
    """
    _, head = split_head(network)
    base = network.base if isinstance(network, AdaptedNetwork) else network
    base = base.plane if isinstance(base, SliceNetwork) else base
    if isinstance(base, nets.UNet):
        encoder, (*decoder, _) = _unet(cast("nn.Module", base.model))
        return {"encoder": encoder, "decoder": decoder, "head": [head]}
    if isinstance(base, nets.DynUNet):
        further = [base.deep_supervision_heads] if base.deep_supervision else []
        return {
            "encoder": [base.input_block, base.downsamples, base.bottleneck],
            "decoder": [base.upsamples],
            "head": [head, *further],
        }
    other = cast("nets.SegResNet", base)  # the only other one whose head can be split off
    return {
        "encoder": [other.convInit, other.down_layers],
        "decoder": [other.up_layers, other.up_samples],
        "head": [head],
    }


def _unet(level: nn.Module) -> tuple[list[nn.Module], list[nn.Module]]:
    """Return encoder and decoder of one level of a MONAI ``UNet`` and all below it.

    A level is down path, skip connection around the next level, and up path; the lowest
    is the bottleneck alone.
    """
    if not (isinstance(level, nn.Sequential) and isinstance(level[1], SkipConnection)):
        return [level], []
    down, inner, up = level
    encoder, decoder = _unet(cast("nn.Module", inner.submodule))
    return [down, *encoder], [*decoder, up]
