"""Low-rank adaptation as a parametrization: one convolution with W + s·ΔW.

LoRA (Hu et al., ICLR 2022) writes the update of a weight as a product of two thin
matrices. Here the product is added to the weight before the layer runs, so a step costs
one convolution, every layer option (groups, dilation, padding mode, transposition) keeps
its meaning, and merging is exact. Whatever else an adaptation trains (biases, norms,
layers too small for two factors) is added in the same way, so that the network without
its additions is always the one that it came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.utils import parametrize

from napari_dante.model.low_rank import Layout, LowRank

__all__ = [
    "DenseUpdate",
    "KernelInUpdate",
    "PerTapUpdate",
    "Update",
    "add_dense",
    "add_lora",
    "low_rank_product",
    "merge_lora",
    "named_updates",
    "without_lora",
]

LAYERS = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.Linear,
)


class Update(nn.Module):
    """What is added to a tensor of the network; switched off it adds nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.enabled = True

    def added_to(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the adapted tensor."""
        raise NotImplementedError

    def forward(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the adapted tensor, or the very same one when switched off."""
        return self.added_to(tensor) if self.enabled else tensor


class DenseUpdate(Update):
    """An unrestricted ΔW, zero at the start."""

    def __init__(self, tensor: torch.Tensor) -> None:
        super().__init__()
        self.delta = nn.Parameter(torch.zeros_like(tensor))

    def added_to(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the adapted tensor."""
        return tensor + self.delta


class KernelInUpdate(Update):
    r"""ΔW = s·B A, with B (out, r) and A (r, in·kernel).

    For a transposed convolution, whose weight is (in, out, kernel), `out` and `in` change
    places. A starts uniform in ±1/√fan-in, B at zero, so that the layer starts unchanged.
    """

    def __init__(self, weight: torch.Tensor, rank: int, scale: float) -> None:
        super().__init__()
        rows, columns = weight.shape[0], weight[0].numel()
        bound = columns**-0.5
        self.down = nn.Parameter(weight.new_empty(rank, columns).uniform_(-bound, bound))
        self.up = nn.Parameter(weight.new_zeros(rows, rank))
        self.scale = scale

    def added_to(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the adapted weight."""
        return tensor + self.scale * low_rank_product(self.up, self.down, tensor.shape)


class PerTapUpdate(Update):
    r"""ΔW[:, :, t] = s·B[t] A[t] for each kernel tap t, Dante's layout."""

    def __init__(self, weight: torch.Tensor, rank: int, scale: float) -> None:
        super().__init__()
        rows, columns, taps = weight.shape[0], weight.shape[1], weight[0, 0].numel()
        bound = columns**-0.5
        self.down = nn.Parameter(weight.new_empty(taps, rank, columns).uniform_(-bound, bound))
        self.up = nn.Parameter(weight.new_zeros(taps, rows, rank))
        self.scale = scale

    def added_to(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the adapted weight."""
        return tensor + self.scale * low_rank_product(self.up, self.down, tensor.shape)


def low_rank_product(up: torch.Tensor, down: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Return B A as a weight of this shape, for factors of either layout."""
    product = up @ down
    if product.dim() == 3:
        product = product.movedim(0, -1)
    return product.reshape(shape)


def add_lora(parts: Iterable[nn.Module], size: LowRank, *, others: bool) -> list[nn.Parameter]:
    """Adapt every convolution and linear layer inside `parts`, in place.

    The rank is capped where the factors would hold more than half as many numbers as the
    weight; a weight with no room for even one rank (a 1×1×1 convolution of a few channels)
    is adapted whole.

    Parameters
    ----------
    parts
        Torch modules; their own parameters get no gradient any more.
    size
        Rank, scale and layout.
    others
        Adapt biases, normalisation and activation parameters too.

    Returns
    -------
    list of torch.nn.Parameter
        What to train.
    """
    kind = KernelInUpdate if size.layout == "kernel_in" else PerTapUpdate
    trained: list[nn.Parameter] = []
    for module, name in _tensors(parts):
        weight = getattr(module, name)
        if isinstance(module, LAYERS) and name == "weight":
            rank = min(size.rank, weight.numel() // (2 * _numbers(weight, size.layout)))
            update = kind(weight, rank, size.scale) if rank else DenseUpdate(weight)
            trained += _register(module, name, update)
        elif others:
            trained += _register(module, name, DenseUpdate(weight))
        else:
            weight.requires_grad_(requires_grad=False)
    return trained


def add_dense(parts: Iterable[nn.Module]) -> list[nn.Parameter]:
    """Adapt every parameter inside `parts` without restriction; return what to train."""
    return [
        parameter
        for module, name in _tensors(parts)
        for parameter in _register(module, name, DenseUpdate(getattr(module, name)))
    ]


def _tensors(parts: Iterable[nn.Module]) -> list[tuple[nn.Module, str]]:
    """Return each module inside `parts` with the name of each parameter that it owns."""
    modules = dict.fromkeys(module for part in parts for module in part.modules())
    return [(module, name) for module in modules for name in _own_parameters(module)]


def _own_parameters(module: nn.Module) -> list[str]:
    return [name for name, _ in module.named_parameters(recurse=False)]


def _numbers(weight: torch.Tensor, layout: Layout) -> int:
    """Return how many numbers the factors hold for each rank."""
    if layout == "kernel_in":
        return weight.shape[0] + weight[0].numel()
    return int((weight.shape[0] + weight.shape[1]) * weight[0, 0].numel())


def _register(module: nn.Module, name: str, update: Update) -> list[nn.Parameter]:
    getattr(module, name).requires_grad_(requires_grad=False)
    parametrize.register_parametrization(module, name, update)
    return list(update.parameters())


def named_updates(network: nn.Module) -> Iterator[tuple[str, Update]]:
    """Return every update of `network` with the state-dict key of the tensor it is added to."""
    for path, module in network.named_modules():
        if parametrize.is_parametrized(module):
            for name, chain in module.parametrizations.items():
                yield f"{path}.{name}".lstrip("."), chain[0]


def merge_lora(network: nn.Module) -> None:
    """Fold every update into its tensor; the state-dict keys are the original ones."""
    for module in list(network.modules()):
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(module, name, leave_parametrized=True)


@contextmanager
def without_lora(network: nn.Module) -> Iterator[None]:
    """Let `network` compute exactly what it did before it was adapted, for comparison.

    Bit for bit: the original tensors are used, nothing is subtracted.
    """
    switched = [update for _, update in named_updates(network) if update.enabled]
    for update in switched:
        update.enabled = False
    try:
        yield
    finally:
        for update in switched:
            update.enabled = True
