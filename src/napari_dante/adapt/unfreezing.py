"""Gradual unfreezing: open a network from its output end, counted in parameters.

What is frozen is always a beginning of the computation, with its normalisation layers, so
it runs without a graph: none of its activations is kept for a backward pass. Instance and
group normalisation take their mean and variance from each patch, frozen or not; batch
normalisation keeps its stored mean and variance all the time, because those of a few
patches of one patient are worse.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from monai.networks import nets
from monai.networks.blocks import UnetBasicBlock, UnetResBlock
from monai.networks.blocks.segresnet_block import ResBlock
from torch import nn

from napari_dante.adapt.recipe import GradualUnfreezing
from napari_dante.model.head import AdaptedNetwork, split_head

__all__ = ["Schedule", "stages"]

WARMUP = 10
"""Steps over which a newly opened stage reaches its learning rate."""


def stages(network: nn.Module, count: int = 6) -> list[list[nn.Parameter]]:
    """Divide the parameters into consecutive stages of about equal depth.

    Layers are taken in the order in which they compute, which is not the one in which
    they are registered: a ``SegResNet`` lists all its decoder blocks before the layers
    between them, and an adapter comes after the head that it feeds. Depth is counted in
    weights, so that "half of the network" is half of what it has learned.

    Returns
    -------
    list of list of torch.nn.Parameter
        From the input end to the output end; every parameter is in exactly one stage,
        whatever names it goes by. The last stage always holds the last layer.
    """
    modules = dict.fromkeys((*_as_computed(network), *network.modules()))
    owners = [list(module.parameters(recurse=False)) for module in modules]
    total = sum(parameter.numel() for owner in owners for parameter in owner)
    groups: list[list[nn.Parameter]] = [[] for _ in range(count)]
    done = 0
    for owner in filter(None, owners):
        size = sum(parameter.numel() for parameter in owner)
        middle = (done + size / 2) / total
        groups[min(count - 1, int(middle * count))].extend(owner)
        done += size
    return [group for group in groups if group]


def _as_computed(module: nn.Module) -> Iterator[nn.Module]:
    """Yield a module and all within it in the order in which they compute."""
    yield module
    for part in _parts(module):
        yield from _as_computed(part)


def _parts(module: nn.Module) -> Iterable[nn.Module]:
    """Return what a module is made of, in the order in which it computes."""
    match module:
        case AdaptedNetwork():
            body, head = split_head(module.base)
            return (body, module.adapter, head)
        case nets.SegResNet():
            pairs = zip(module.up_samples, module.up_layers, strict=True)
            decoder = [part for pair in pairs for part in pair]
            end = [module.conv_final] if module.use_conv_final else []
            return (module.convInit, *module.down_layers, *decoder, *end)
        case nets.DynUNet():
            heads = module.deep_supervision_heads if module.deep_supervision else ()
            encoder = (module.input_block, *module.downsamples, module.bottleneck)
            return (*encoder, *module.upsamples, *heads, module.output_block)
        case ResBlock():
            return (module.norm1, module.conv1, module.norm2, module.conv2)
        case UnetBasicBlock() | UnetResBlock():
            names = ("conv1", "norm1", "conv2", "norm2", "conv3", "norm3")
            return [getattr(module, name) for name in names if hasattr(module, name)]
    return module.children()


@dataclass(frozen=True)
class Schedule:
    """When each stage opens, and how fast it learns.

    Attributes
    ----------
    shares
        Share of all parameters from the input end of each stage to the output end,
        one number for each stage, input end first: the first is 1.
    recipe
        The recipe.
    """

    shares: tuple[float, ...]
    recipe: GradualUnfreezing

    @classmethod
    def of(cls, groups: list[list[nn.Parameter]], recipe: GradualUnfreezing) -> Schedule:
        """Return the schedule for the stages of a network."""
        sizes = [sum(parameter.numel() for parameter in group) for group in groups]
        total = sum(sizes)
        return cls(tuple(sum(sizes[index:]) / total for index in range(len(sizes))), recipe)

    def opens(self, stage: int) -> int:
        """Return the step at which `stage` becomes trainable.

        The stage at the output end and all within the starting share open at step 0; the
        open share then grows evenly until everything is open at ``full_at`` of the steps.
        """
        share = self.shares[stage]
        if stage == len(self.shares) - 1 or share <= self.recipe.start:
            return 0
        progress = (share - self.recipe.start) / (1 - self.recipe.start)
        return math.ceil(progress * self.recipe.full_at * self.recipe.training.steps)

    @property
    def openings(self) -> frozenset[int]:
        """The steps at which something opens that was frozen before."""
        return frozenset(map(self.opens, range(len(self.shares)))) - {0}

    def factor(self, stage: int, step: int) -> float:
        """Return the learning rate of `stage` at `step`, relative to the output end.

        Zero while frozen, then a warm-up of its own, then ``decay`` to the power of the
        distance from the output end.
        """
        age = step - self.opens(stage)
        if age < 0:
            return 0.0
        depth = len(self.shares) - 1 - stage
        warm = 1.0 if self.opens(stage) == 0 else min(1.0, (age + 1) / WARMUP)
        return float(self.recipe.decay**depth * warm)
