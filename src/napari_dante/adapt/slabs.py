"""The end of a network on a few rows of a tile, with what the whole tile would give there.

Only some slices of a tile are trusted, so only their rows of logits are ever needed. A
convolution needs a few rows more than it gives, and its zero padding belongs to the edge
of the tile, not to the edge of a slab; both are kept account of here, layer by layer. What
a normalisation layer needs is different: the mean and variance of the whole tile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from monai.networks.blocks import ResidualUnit, UnetOutBlock
from torch import nn
from torch.nn import functional

from napari_dante.model.head import SpatialAdapter

__all__ = ["Moments", "Pool", "Rows", "Unsupported", "halo", "through"]

Moments = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""From a layer's mean and variance in each tile (tile, group) to those to normalise with."""

POINTWISE = (
    nn.Identity,
    nn.ReLU,
    nn.LeakyReLU,
    nn.PReLU,
    nn.ELU,
    nn.GELU,
    nn.SiLU,
    nn.Sigmoid,
    nn.Tanh,
    nn.BatchNorm3d,
    nn.Dropout,
    nn.Dropout3d,
)
"""One voxel in, one voxel out; batch normalisation with its stored statistics."""

FAR = 16
"""Rows of features beyond which no layer of a head may look."""


class Unsupported(TypeError):
    """A layer whose rows cannot be told apart."""


@dataclass(frozen=True)
class Pool:
    """Which slabs make a tile, to estimate its mean and variance from them.

    Attributes
    ----------
    tile
        int (slab,), from 0.
    share
        float32 (slab,): the part of its tile that a slab stands for; one in each tile.
    """

    tile: torch.Tensor
    share: torch.Tensor

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum over the slabs of each tile (tile, …) of `values` (slab, …)."""
        tiles = int(self.tile.max()) + 1
        sums = values.new_zeros(tiles, *values.shape[1:])
        return sums.index_add(0, self.tile.to(values.device), values)


@dataclass(frozen=True)
class Rows:
    """Some rows of the activations of some tiles.

    Attributes
    ----------
    values
        (slab, channel, z, y, x).
    axis
        0, 1 or 2: which of z, y, x counts the rows.
    low
        Row of `values` that comes first, counted from the block that is asked for.
    block
        int (slab,), on the CPU: row of the tile at which that block begins.
    size
        Rows of a tile; those before 0 and from `size` are no part of it.
    """

    values: torch.Tensor
    axis: int
    low: int
    block: torch.Tensor
    size: int

    @property
    def high(self) -> int:
        """The row after the last, counted like `low`."""
        return self.low + self.values.shape[2 + self.axis]

    def cut(self, low: int, high: int) -> Rows:
        """Return the rows from `low` to before `high`."""
        values = self.values.narrow(2 + self.axis, low - self.low, high - low)
        return replace(self, values=values, low=low)

    def inside(self) -> torch.Tensor:
        """Return which rows belong to the tile, bool (slab, row), on the CPU."""
        row = self.block[:, None] + torch.arange(self.low, self.high)
        return (row >= 0) & (row < self.size)

    def padded(self) -> torch.Tensor:
        """Return the values with zeros in place of the rows outside the tile."""
        inside = self.inside()
        if bool(inside.all()):
            return self.values
        shape = [len(inside), 1, 1, 1, 1]
        shape[2 + self.axis] = inside.shape[1]
        return self.values * inside.view(shape).to(self.values)


def through(module: nn.Module, rows: Rows, pool: Pool, moments: Moments) -> Rows:
    """Return what `module` gives, in those rows in which it has all that it needs.

    Parameters
    ----------
    module
        The head of a network, see :func:`napari_dante.model.head.split_head`.
    rows
        What it reads.
    pool, moments
        A normalisation layer gets its mean and variance from the slabs of a tile, and
        normalises with what `moments` makes of them.

    Raises
    ------
    Unsupported
        If a layer is not known here.
    """
    match module:
        case SpatialAdapter():
            hidden = through(module.inner, rows, pool, moments)
            hidden = replace(hidden, values=torch.relu(hidden.values))
            return _sum(rows, through(module.outer, hidden, pool, moments))
        case ResidualUnit():
            plain = through(module.residual, rows, pool, moments)
            return _sum(plain, through(module.conv, rows, pool, moments))
        case nn.Sequential():
            for layer in module:
                rows = through(layer, rows, pool, moments)
            return rows
        case UnetOutBlock():
            return through(module.conv, rows, pool, moments)
        case nn.Conv3d():
            return _convolved(module, rows)
        case nn.ConvTranspose3d():
            return _transposed(module, rows)
        case nn.InstanceNorm3d(track_running_stats=False) | nn.GroupNorm():
            return _normalised(module, rows, pool, moments)
        case _ if isinstance(module, POINTWISE):
            return replace(rows, values=module(rows.values))
    raise Unsupported(type(module).__name__)


def halo(head: nn.Module, channels: int, axis: int, scale: int) -> int:
    """Return how many rows of features on either side a row of them needs.

    Parameters
    ----------
    head
        In evaluation mode.
    channels
        Of the features.
    axis
        Which axis counts the rows.
    scale
        Rows of logits for each row of features.

    Raises
    ------
    Unsupported
        If `head` has a layer that is not known here, or gives no such rows.
    """
    pool = Pool(torch.zeros(1, dtype=torch.int64), torch.ones(1))
    shape = [1, channels, 4, 4, 4]
    shape[2 + axis] = 1 + 2 * FAR
    values = torch.zeros(shape, device=next(head.parameters()).device)
    rows = Rows(values, axis, -FAR, torch.tensor([FAR]), shape[2 + axis])
    with torch.no_grad():
        out = through(head, rows, pool, lambda mean, variance: (mean, variance))
    spare = min(-out.low, out.high - scale) // scale
    if out.size != scale * rows.size or spare < 0:
        raise Unsupported(type(head).__name__)
    return FAR - spare


def _sum(first: Rows, second: Rows) -> Rows:
    low, high = max(first.low, second.low), min(first.high, second.high)
    first, second = first.cut(low, high), second.cut(low, high)
    return replace(first, values=first.values + second.values)


def _convolved(layer: nn.Conv3d, rows: Rows) -> Rows:
    axis = rows.axis
    reach = layer.dilation[axis] * (layer.kernel_size[axis] - 1)
    padding = [int(size) for size in layer.padding]
    if set(layer.stride) != {1} or layer.padding_mode != "zeros" or 2 * padding[axis] != reach:
        raise Unsupported("convolution")
    padding[axis] = 0
    values = functional.conv3d(
        rows.padded(), layer.weight, layer.bias, 1, padding, layer.dilation, layer.groups
    )
    return replace(rows, values=values, low=rows.low + reach // 2)


def _transposed(layer: nn.ConvTranspose3d, rows: Rows) -> Rows:
    """Row o is the sum over taps t of the rows (o + padding - t) / stride that exist."""
    axis = rows.axis
    stride, edge = layer.stride[axis], int(layer.padding[axis])
    kernel, more = layer.kernel_size[axis], layer.output_padding[axis]
    if layer.dilation[axis] != 1 or kernel < stride or kernel - 2 * edge + more != stride:
        raise Unsupported("transposed convolution")
    made = replace(
        rows,
        values=layer(rows.padded()),
        low=stride * rows.low,
        block=stride * rows.block,
        size=stride * rows.size,
    )
    return made.cut(made.low + max(0, kernel - stride - edge), made.high - edge)


def _normalised(
    layer: nn.InstanceNorm3d | nn.GroupNorm, rows: Rows, pool: Pool, moments: Moments
) -> Rows:
    values = rows.values.float()
    channels = values.shape[1]
    groups = layer.num_groups if isinstance(layer, nn.GroupNorm) else channels
    mean, variance = moments(*_moments(rows, values, groups, pool))
    tile = pool.tile.to(values.device)
    scale = (variance + layer.eps).rsqrt().repeat_interleave(channels // groups, 1)[tile]
    shift = -mean.repeat_interleave(channels // groups, 1)[tile] * scale
    if layer.affine:
        scale, shift = scale * layer.weight, shift * layer.weight + layer.bias
    scale, shift = (part[..., None, None, None] for part in (scale, shift))
    return replace(rows, values=(values * scale + shift).to(rows.values.dtype))


def _moments(
    rows: Rows, values: torch.Tensor, groups: int, pool: Pool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and variance (tile, group), each slab weighing what it stands for."""
    inside = rows.inside()
    weight = inside * (pool.share / inside.sum(1).clamp(min=1))[:, None]
    weight = weight.to(values.device)[:, None]
    plane = [2 + axis for axis in range(3) if axis != rows.axis]
    spread, middle = torch.var_mean(values, plane, correction=0)
    mean = _by_group(pool((weight * middle).sum(2)), groups)
    centre = mean.repeat_interleave(values.shape[1] // groups, 1)
    centre = centre[pool.tile.to(values.device)][..., None]
    square = weight * (spread + (middle - centre).square())
    return mean, _by_group(pool(square.sum(2)), groups)


def _by_group(channels: torch.Tensor, groups: int) -> torch.Tensor:
    return channels.reshape(len(channels), groups, -1).mean(2)
