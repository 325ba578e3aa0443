"""Low-rank adaptation as a parametrization: one convolution with W + (α/r)·ΔW.

LoRA (Hu et al., ICLR 2022) writes the update of a weight as a product of two thin
matrices. Here the product is added to the weight before the layer runs, so a step costs
one convolution, every layer option (groups, dilation, padding mode, transposition) keeps
its meaning, and merging is exact.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn
from torch.nn.utils import parametrize

from napari_dante.adapt.recipe import Layout

__all__ = ["KernelInUpdate", "PerTapUpdate", "add_lora", "merge_lora"]

LAYERS = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.Linear,
)


class KernelInUpdate(nn.Module):
    r"""ΔW = (α/r)·B A, with B (out, r) and A (r, in·kernel).

    A starts uniform in ±1/√fan-in, B at zero, so that the layer starts unchanged.
    """

    def __init__(self, weight: torch.Tensor, rank: int, scale: float) -> None:
        super().__init__()
        rows, columns = weight.shape[0], weight[0].numel()
        bound = columns**-0.5
        self.down = nn.Parameter(torch.empty(rank, columns).uniform_(-bound, bound))
        self.up = nn.Parameter(torch.zeros(rows, rank))
        self.scale = scale

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the adapted weight."""
        return weight + self.scale * (self.up @ self.down).view_as(weight)


class PerTapUpdate(nn.Module):
    r"""ΔW[:, :, t] = (α/r)·B[t] A[t] for each kernel tap t, Dante's layout."""

    def __init__(self, weight: torch.Tensor, rank: int, scale: float) -> None:
        super().__init__()
        rows, columns, taps = weight.shape[0], weight.shape[1], weight[0, 0].numel()
        bound = columns**-0.5
        self.down = nn.Parameter(torch.empty(taps, rank, columns).uniform_(-bound, bound))
        self.up = nn.Parameter(torch.zeros(taps, rows, rank))
        self.scale = scale

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the adapted weight."""
        update = (self.up @ self.down).movedim(0, -1).reshape(weight.shape)
        return weight + self.scale * update


def add_lora(network: nn.Module, rank: int, alpha: float, layout: Layout) -> list[nn.Parameter]:
    """Adapt every convolution and linear layer of `network`, in place.

    A layer whose adapter would hold as many numbers as its weight (the first and the last
    layer, 1×1×1 convolutions) gets no adapter: its weight is returned to be trained
    itself. Everything else of the network is frozen.

    Parameters
    ----------
    network
        Any torch module.
    rank, alpha, layout
        See :class:`napari_dante.adapt.recipe.LoRA`.

    Returns
    -------
    list of torch.nn.Parameter
        What to train: the factors, and the weights too small for an adapter.
    """
    network.requires_grad_(requires_grad=False)
    trained: list[nn.Parameter] = []
    for layer in [module for module in network.modules() if isinstance(module, LAYERS)]:
        kind = KernelInUpdate if layout == "kernel_in" else PerTapUpdate
        update = kind(layer.weight, rank, alpha / rank)
        if sum(factor.numel() for factor in update.parameters()) >= layer.weight.numel():
            layer.weight.requires_grad_()
            trained.append(cast("nn.Parameter", layer.weight))
            continue
        update.to(layer.weight.device)
        parametrize.register_parametrization(layer, "weight", update)
        trained.extend(update.parameters())
    return trained


def merge_lora(network: nn.Module) -> None:
    """Fold every adapter into its weight; the state-dict keys are the original ones."""
    for module in list(network.modules()):
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
