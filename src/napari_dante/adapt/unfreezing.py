"""Gradual unfreezing: open a network from its output end, counted in parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn

from napari_dante.adapt.recipe import GradualUnfreezing

__all__ = ["Schedule", "stages"]

WARMUP = 10
"""Steps over which a newly opened stage reaches its learning rate."""


def stages(network: nn.Module, count: int = 6) -> list[list[nn.Parameter]]:
    """Divide the parameters into consecutive stages of about equal depth.

    Modules are taken in the order in which they are registered along the network, from
    the input end to the output end for MONAI's sequential nets; in MONAI's recursive
    ``UNet`` that order is encoder, bottleneck, decoder. Depth is counted in weights, so
    that "half of the network" is half of what it has learned.

    Returns
    -------
    list of list of torch.nn.Parameter
        From the input end to the output end; every parameter is in exactly one stage. The
        last stage always holds the last layer.
    """
    owners = [
        parameters
        for module in network.modules()
        if (parameters := list(module.parameters(recurse=False)))
    ]
    total = sum(parameter.numel() for owner in owners for parameter in owner)
    groups: list[list[nn.Parameter]] = [[] for _ in range(count)]
    done = 0
    for owner in owners:
        size = sum(parameter.numel() for parameter in owner)
        middle = (done + size / 2) / total
        groups[min(count - 1, int(middle * count))].extend(owner)
        done += size
    return [group for group in groups if group]


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
