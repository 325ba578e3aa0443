"""Small MONAI networks of every kind that a model can be."""

from __future__ import annotations

from collections.abc import Callable

import torch
from monai.networks import nets
from torch import nn

from napari_dante.model.head import AdaptedNetwork

AFFINE = ("INSTANCE", {"affine": True})
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "UNet": lambda: nets.UNet(
        3, 1, 3, channels=(8, 16, 32), strides=(2, 2), num_res_units=2, norm=AFFINE
    ),
    "plain UNet": lambda: nets.UNet(3, 1, 3, channels=(8, 16, 24, 32), strides=(2, 2, 2)),
    "UNet of two levels": lambda: nets.UNet(3, 1, 3, channels=(8, 16), strides=(2,)),
    "DynUNet": lambda: nets.DynUNet(
        3, 1, 3, [3, 3, 3], [1, 2, 2], [2, 2], filters=[8, 16, 32], res_block=True
    ),
    "supervised DynUNet": lambda: nets.DynUNet(
        3, 1, 3, [3, 3, 3], [1, 2, 2], [2, 2], filters=[8, 16, 32], deep_supervision=True
    ),
    "SegResNet": lambda: nets.SegResNet(
        3, 8, 1, 3, blocks_down=(1, 1), blocks_up=(1,), act="PRELU", upsample_mode="deconv"
    ),
    "adapted UNet": lambda: AdaptedNetwork(
        nets.UNet(3, 1, 3, channels=(8, 16, 24), strides=(2, 2), num_res_units=1), 5
    ),
}


def network(name: str) -> nn.Module:
    """Return a network with seeded weights, as at prediction."""
    torch.manual_seed(1)
    return NETWORKS[name]().eval()


def shaken(module: nn.Module) -> nn.Module:
    """Give every parameter that learns a random change."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn_like(parameter)
    return module
