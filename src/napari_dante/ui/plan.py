"""What a person sets under Advanced before a lesson. Qt-free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from napari_dante.adapt.recipe import RECIPES, Recipe, recipe_with
from napari_dante.errors import TeachError

__all__ = ["EXAM", "Plan", "default_of", "options_of"]

EXAM = 0.3
"""Share of the slices for the exam, unless it is set."""

_OPTIONS = ("minutes", "steps", "learning_rate", "rank", "seed")
_LEFT_TO_AUTO = {"steps", "learning_rate"}


@dataclass(frozen=True)
class Plan:
    """Options of the method as text, as they were typed; empty ones are left to the method.

    Attributes
    ----------
    options
        By the name of the field of the recipe.
    exam
        Share of the slices for the exam in per cent, as text.
    rehearse
        Whether earlier cases are learned again beside the new one.
    others
        Whether the other corrected images that are open are learned from too.
    """

    options: Mapping[str, str] = field(default_factory=dict)
    exam: str = ""
    rehearse: bool = True
    others: bool = True

    def recipe(self, method: str) -> Recipe:
        """Return the recipe of a method with these options.

        Raises
        ------
        TeachError
            If a value is not one, or out of range.
        """
        known = options_of(method)
        options = {
            key: text.strip().replace(",", ".")
            for key, text in self.options.items()
            if key in known and text.strip()
        }
        if not self.rehearse:
            options["replay"] = "0"
        return recipe_with(method, options)

    @property
    def exam_fraction(self) -> float:
        """Share of the slices for the exam.

        Raises
        ------
        TeachError
            If it is not a number from 0 to below 100.
        """
        if not self.exam.strip():
            return EXAM
        try:
            share = float(self.exam.strip().rstrip("%")) / 100
        except ValueError:
            share = -1.0
        if not 0 <= share < 1:
            raise TeachError("The share of slices for the exam is a number from 0 to 99 per cent.")
        return share


def options_of(method: str) -> tuple[str, ...]:
    """Return which options can be set for a method."""
    recipe = RECIPES[method]()
    own = {item.name for item in (*fields(recipe), *fields(recipe.training))}
    if method == "auto":
        own -= _LEFT_TO_AUTO
    return tuple(name for name in _OPTIONS if name in own)


def default_of(method: str, option: str) -> str:
    """Return what an option is when it is not set."""
    recipe = RECIPES[method]()
    value = getattr(recipe, option, None)
    return f"{value if value is not None else getattr(recipe.training, option):g}"
