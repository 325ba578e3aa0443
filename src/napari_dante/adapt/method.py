"""What a recipe trains, and how fast each part of it learns at each step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils import parametrize

from napari_dante.adapt.lora import add_dense, add_lora
from napari_dante.adapt.recipe import (
    Adapter,
    Auto,
    DecoderOnly,
    EncoderLoRA,
    FromScratch,
    FullFineTuning,
    GradualUnfreezing,
    LoRA,
    Recipe,
)
from napari_dante.adapt.unfreezing import Schedule, stages
from napari_dante.errors import TeachError
from napari_dante.model.head import AdaptedNetwork, split_head
from napari_dante.model.roles import parts

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
            learns = self.factor(index, step) > 0
            for parameter in group:
                parameter.requires_grad_(learns)

    @property
    def trained(self) -> int:
        """How many numbers learn at some time of the run."""
        return sum(parameter.numel() for group in self.groups for parameter in group)


def prepare(network: nn.Module, recipe: Recipe) -> Plan:
    """Change `network` in place for `recipe` and return what to train.

    Raises
    ------
    ModelError
        If the parts of `network` that the recipe speaks of cannot be told apart.
    """
    match recipe:
        case LoRA():
            return _prepare_lora(network, recipe)
        case EncoderLoRA():
            return _prepare_encoder_lora(network, recipe)
        case DecoderOnly():
            return _prepare_decoder(network)
        case FullFineTuning():
            return _prepare_full(network, recipe)
        case FromScratch():
            return _even(list(network.parameters()))
        case Adapter():
            return _prepare_adapter(network, recipe)
        case GradualUnfreezing():
            return _prepare_unfreezing(network, recipe)
        case Auto():
            raise TeachError("No method has been chosen for this network yet.")


def _even(trained: list[nn.Parameter]) -> Plan:
    """Return the plan in which everything learns from the first step, equally fast."""
    return Plan([trained], lambda group, step: 1.0)


def _prepare_lora(network: nn.Module, recipe: LoRA) -> Plan:
    network.requires_grad_(requires_grad=False)
    found = parts(network)
    targets = [module for role in found if role in recipe.targets for module in found[role]]
    trained = add_lora(targets, recipe, others=recipe.train_norms)
    if "head" not in recipe.targets:
        trained += add_dense(found["head"])
    return _even(trained)


def _prepare_encoder_lora(network: nn.Module, recipe: EncoderLoRA) -> Plan:
    found = parts(network)
    trained = add_lora(found["encoder"], recipe, others=recipe.train_norms)
    return _even(trained + add_dense([*found["decoder"], *found["head"]]))


def _prepare_decoder(network: nn.Module) -> Plan:
    network.requires_grad_(requires_grad=False)
    found = parts(network)
    modules = nn.ModuleList([*found["decoder"], *found["head"]])
    return _even(list(modules.parameters()))


def _prepare_full(network: nn.Module, recipe: FullFineTuning) -> Plan:
    groups = stages(network)
    return Plan(groups, lambda group, step: recipe.decay ** (len(groups) - 1 - group))


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
    """Return the weights with every update folded in, on the CPU, under their own keys.

    The network itself goes on training: a merged copy would not do, because torch keeps
    parametrizations on a class that copies share.
    """
    adapted = {
        f"{path}.{name}".lstrip("."): getattr(module, name)
        for path, module in network.named_modules(remove_duplicate=False)
        if parametrize.is_parametrized(module)
        for name in module.parametrizations
    }
    plain = {key: value for key, value in network.state_dict().items() if MARK not in f".{key}"}
    return {key: value.detach().cpu().clone() for key, value in {**plain, **adapted}.items()}
