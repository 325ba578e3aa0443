"""What a model says of itself to the person who chooses one. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Card"]


@dataclass(frozen=True)
class Card:
    """What a model was made for, and how good it was when it was made.

    Attributes
    ----------
    body
        The part of the body it knows, such as ``"head"``.
    contrasts
        The contrasts it was made for, such as ``"any contrast"``.
    measured
        Of which structures the Dice is the mean.
    dice
        Mean Dice by contrast, on images that were not learned from.
    doubt
        The mean entropy of a mask above which the image shows something else than `body`,
        or None where nobody has measured it.
    """

    body: str
    contrasts: str
    measured: str
    dice: Mapping[str, float]
    doubt: float | None = None

    def about(self) -> str:
        """Return what it is for, in some words."""
        return f"{self.body}, {self.contrasts}"

    def scores(self) -> str:
        """Return the Dice by contrast, in some words."""
        values = ", ".join(f"{contrast} {value:.2f}" for contrast, value in self.dice.items())
        return f"Dice of {self.measured}: {values}"
