"""How a lesson went, step by step. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Curve", "Point"]

Point = tuple[int, float]


@dataclass(frozen=True)
class Curve:
    """What a learning curve shows.

    Attributes
    ----------
    total
        Steps at most.
    to_beat
        Mean Dice of the old model on the exam slices, None where there is none.
    dice
        (step, mean Dice on the exam slices), ascending.
    loss
        (step, error of learning), ascending.
    best
        Step and mean Dice of the weights that are kept, None so far.
    """

    total: int = 1
    to_beat: float | None = None
    dice: tuple[Point, ...] = ()
    loss: tuple[Point, ...] = ()
    best: Point | None = None

    @property
    def limits(self) -> tuple[float, float]:
        """Range of Dice to draw, in whole tenths."""
        values = [value for _, value in self.dice]
        if not values:
            return 0.0, 1.0
        low, high = max(0.0, min(values) - 0.05), min(1.0, max(values) + 0.05)
        return int(low * 10) / 10, min(1.0, (int(high * 10) + 1) / 10)
