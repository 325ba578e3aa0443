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

    def to_csv(self) -> str:
        """Return a table with a row for each step; empty where nothing was measured."""
        dice, loss = dict(self.dice), dict(self.loss)
        rows = (
            f"{step},{_cell(dice.get(step))},{_cell(loss.get(step))}\n"
            for step in sorted(dice.keys() | loss.keys())
        )
        return "step,exam_dice,learning_error\n" + "".join(rows)

    @property
    def limits(self) -> tuple[float, float]:
        """Range of Dice to draw, in whole tenths."""
        values = [value for _, value in self.dice]
        if not values:
            return 0.0, 1.0
        low, high = max(0.0, min(values) - 0.05), min(1.0, max(values) + 0.05)
        return int(low * 10) / 10, min(1.0, (int(high * 10) + 1) / 10)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
