"""What a recipe trains, and how fast each part of it learns at each step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils import parametrize

from napari_dante.adapt.lora import add_lora
from napari_dante.adapt.recipe import Adapter, GradualUnfreezing, LoRA, Recipe
from napari_dante.adapt.unfreezing import Schedule, stages
from napari_dante.model.head import AdaptedNetwork, split_head

__all__ = ["Plan", "merged_weights", "prepare"]


MARK = ".parametrizations."


@dataclass(frozen=True)
class Plan:
    """Groups of parameters, fixed for the whole run, and their learning rates.

    Attributes
    ----------
    groups
        Parameters that learn together.
    factor
        Learning rate of a group at a step, relative to the recipe's schedule; a group at
        zero is frozen, so that no gradient is computed for it.
    openings
        Steps at which a group opens that was frozen before.
    """

    groups: list[list[nn.Parameter]]
    factor: Callable[[int, int], float]
    openings: frozenset[int] = frozenset()

    def set_step(self, step: int) -> None:
        """Freeze and open the groups as `step` wants them."""
        for index, group in enumerate(self.groups):
            opened = self.factor(index, step) > 0
            for parameter in group:
                parameter.requires_grad_(opened)

    @property
    def trained(self) -> int:
        """How many numbers learn at some time of the run."""
        return sum(parameter.numel() for group in self.groups for parameter in group)


def prepare(network: nn.Module, recipe: Recipe) -> Plan:
    """Change `network` in place for `recipe` and return what to train."""
    if isinstance(recipe, LoRA):
        return _prepare_lora(network, recipe)
    if isinstance(recipe, Adapter):
        return _prepare_adapter(network, recipe)
    return _prepare_unfreezing(network, recipe)


def _prepare_lora(network: nn.Module, recipe: LoRA) -> Plan:
    trained = add_lora(network, recipe.rank, recipe.alpha, recipe.layout)
    if recipe.train_norms:
        known = {id(parameter) for parameter in network.parameters() if parameter.dim() > 1}
        trained += [p for p in network.parameters() if id(p) not in known]
    return Plan([trained], lambda group, step: 1.0)


def _prepare_adapter(network: nn.Module, recipe: Adapter) -> Plan:
    network.requires_grad_(requires_grad=False)
    if recipe.linear_probe and isinstance(network, AdaptedNetwork):
        network = network.base
    _, head = split_head(network)
    return Plan([list(head.parameters())], lambda group, step: 1.0)


def _prepare_unfreezing(network: nn.Module, recipe: GradualUnfreezing) -> Plan:
    groups = stages(network)
    schedule = Schedule.of(groups, recipe)
    return Plan(groups, schedule.factor, schedule.openings)


def merged_weights(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights with every adapter folded in, on the CPU, under their own keys.

    The network itself goes on training: a merged copy would not do, because torch keeps
    parametrizations on a class that copies share.
    """
    adapted = {
        f"{name}.weight".lstrip("."): module.weight
        for name, module in network.named_modules(remove_duplicate=False)
        if parametrize.is_parametrized(module, "weight")
    }
    plain = {key: value for key, value in network.state_dict().items() if MARK not in f".{key}"}
    return {key: value.detach().cpu().clone() for key, value in {**plain, **adapted}.items()}
