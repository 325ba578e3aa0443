"""Colours that say something, the same in the panel, in reports and in pictures.

The hues are those of Okabe and Ito (2008), which common colour blindness does not confuse.
"""

from __future__ import annotations

from napari_dante.evaluate.mistakes import Mistake

__all__ = ["BLUE", "GREEN", "MISTAKES", "ORANGE", "RED", "viridis"]

GREEN, ORANGE, RED, BLUE = "#007a59", "#a96a00", "#c03f00", "#00609c"
"""Better and fit, uncertain, worse and refused, measured: readable on white paper."""

MISTAKES = {Mistake.MISSED: "#e69f00", Mistake.EXTRA: "#0072b2", Mistake.CONFUSED: "#cc79a7"}
"""Orange for what is missed, blue for what is too much, purple for another structure."""

_STOPS = ("#440154", "#3b528b", "#21918c", "#5ec962", "#fde725")


def viridis(value: float) -> str:
    """Return the colour of a Dice from 0 to 1, dark violet to light yellow, as ``#rrggbb``."""
    place = min(max(value, 0.0), 1.0) * (len(_STOPS) - 1)
    index = min(int(place), len(_STOPS) - 2)
    low, high, part = _rgb(_STOPS[index]), _rgb(_STOPS[index + 1]), place - index
    mixed = (round(a + (b - a) * part) for a, b in zip(low, high, strict=True))
    return "#" + "".join(f"{one:02x}" for one in mixed)


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
