"""Choosing how to adapt from what there is to learn from. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from napari_dante.adapt.recipe import (
    Adapter,
    Auto,
    EncoderLoRA,
    FullFineTuning,
    LoRA,
    Recipe,
    recipe_from_json,
    recipe_to_json,
)

__all__ = ["Choice", "Situation", "choose"]

MILD = 0.8
"""Mean Dice of the old model from which on its features are taken to fit the images."""
FEW = 2
"""Slices up to which fewer numbers are trained, for fewer steps: they are soon known by heart."""
MANY = 30
"""Slices from which on there is enough to train every weight."""
LEAST, MOST = 40, 1000
"""Steps that a budget of minutes can come to."""


@dataclass(frozen=True)
class Situation:
    """What there is to learn from, and with what.

    Attributes
    ----------
    slices
        Trusted slices to learn from, of all cases.
    new
        Structures that the model does not know yet.
    known
        Mean Dice of the old model on those slices, over the structures that it knows;
        None where they show none of these.
    seconds
        What one step of training is expected to take.
    """

    slices: int
    new: tuple[str, ...]
    known: float | None
    seconds: float


@dataclass(frozen=True)
class Choice:
    """The recipe to follow, and why, in one sentence for the person."""

    recipe: Recipe
    sentence: str

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data; :meth:`from_json` gives an equal choice back."""
        return {"recipe": recipe_to_json(self.recipe), "sentence": self.sentence}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Choice:
        """Read what :meth:`to_json` wrote.

        Raises
        ------
        TeachError
            If the recipe is damaged.
        """
        return cls(recipe_from_json(data["recipe"]), str(data["sentence"]))


def choose(auto: Auto, situation: Situation) -> Choice:
    """Return the recipe for a situation.

    Low-rank updates in the encoder with the whole decoder are the rule, for known and for
    new structures: with rehearsal they learn a new contrast as well as full fine-tuning and
    forget less, see ``docs/results.md``. Stored features are taken only when there is no
    time for more, and only where the old model already does well: after a change of
    contrast they no longer show what is to be found.

    Parameters
    ----------
    auto
        Its training's device, seed, batch, replay and distillation are kept; steps,
        learning rate and augmentation are those of the method, the steps cut to fit the
        minutes where some are given.
    situation
        What there is to learn from.
    """
    recipe, reason = _method(auto, situation)
    training = replace(
        recipe.training,
        **{name: getattr(auto.training, name) for name in _KEPT},
    )
    training = replace(training, steps=_steps(auto, recipe, situation))
    recipe = replace(recipe, training=training)
    return Choice(recipe, f"{recipe.title}, {training.steps} steps: {reason}.")


_KEPT = ("batch", "replay", "distillation", "weight_decay", "device", "seed")


def _method(auto: Auto, situation: Situation) -> tuple[Recipe, str]:
    slices = f"{situation.slices} slice{'' if situation.slices == 1 else 's'}"
    if situation.new:
        return EncoderLoRA(), f"'{situation.new[0]}' is new to the model"
    if situation.known is None:
        return FullFineTuning(), "the slices show nothing that the model knows"
    known = f"the model's Dice on your slices is {situation.known:.2f}"
    hurried = 0 < auto.minutes * 60 < LEAST * situation.seconds
    if hurried and situation.known >= MILD and not auto.training.distillation:
        return Adapter(), f"{known}, and there is no time for more than its last layer"
    if situation.slices <= FEW:
        few = LoRA(rank=4, alpha=8.0)
        training = replace(few.training, steps=few.training.steps // 2)
        return replace(few, training=training), f"there is little to learn from ({slices})"
    if situation.slices >= MANY:
        return FullFineTuning(), f"there is much to learn from ({slices})"
    return EncoderLoRA(), f"{known}, and {slices} say what it should be"


def _steps(auto: Auto, recipe: Recipe, situation: Situation) -> int:
    usual = recipe.training.steps
    if auto.minutes == 0 or isinstance(recipe, Adapter):
        return usual
    return min(MOST, max(LEAST, int(auto.minutes * 60 / situation.seconds)))
