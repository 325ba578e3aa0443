"""Curves side by side as an SVG drawing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

__all__ = ["drawing"]

COLOURS = ("#d1495b", "#8d6a9f", "#e09f3e", "#1f6feb", "#3a7d44", "#5a6775")
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 330, 260, 44, 34, 26
LEGEND = 24


def drawing(panels: Mapping[str, Mapping[str, Sequence[float]]], across: str, up: str) -> str:
    """Return one panel for each entry, all with the same axes and one legend.

    Parameters
    ----------
    panels
        Curves by name, by panel.
    across, up
        What the axes are.
    """
    values = [value for curves in panels.values() for curve in curves.values() for value in curve]
    low, high = min(values), max(values)
    longest = max(len(curve) for curves in panels.values() for curve in curves.values())
    parts = [
        _panel(number * WIDTH, title, curves, (low, high), longest)
        for number, (title, curves) in enumerate(panels.items())
    ]
    names = list(next(iter(panels.values())))
    width = WIDTH * len(panels)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT + LEGEND}" '
        f'width="{width}" height="{HEIGHT + LEGEND}" font-family="sans-serif" font-size="11" '
        f'fill="#333"><rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}'
        f'<text x="{LEFT}" y="{HEIGHT - 6}">{escape(across)} 0 to {longest - 1}</text>'
        f'<text x="4" y="{TOP - 12}">{escape(up)}</text>{_legend(names)}</svg>\n'
    )


def _panel(
    start: int,
    title: str,
    curves: Mapping[str, Sequence[float]],
    limits: tuple[float, float],
    longest: int,
) -> str:
    low, high = limits

    def height(value: float) -> float:
        return TOP + (HEIGHT - BOTTOM - TOP) * (high - value) / (high - low)

    step = (WIDTH - LEFT - 12) / (longest - 1)
    text = f'<text x="{start + LEFT + 60}" y="{TOP - 12}" font-weight="600">{escape(title)}</text>'
    for part in range(5):
        value = low + (high - low) * part / 4
        y = height(value)
        text += (
            f'<line x1="{start + LEFT}" x2="{start + WIDTH - 12}" y1="{y:.1f}" y2="{y:.1f}" '
            f'stroke="#ddd"/><text x="{start + LEFT - 4}" y="{y + 4:.1f}" '
            f'text-anchor="end">{value:.2f}</text>'
        )
    for colour, curve in zip(COLOURS, curves.values(), strict=False):
        points = " ".join(
            f"{start + LEFT + step * n:.1f},{height(value):.1f}" for n, value in enumerate(curve)
        )
        text += f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
    return text


def _legend(names: Sequence[str]) -> str:
    text, x = "", LEFT
    for colour, name in zip(COLOURS, names, strict=False):
        text += (
            f'<line x1="{x}" x2="{x + 18}" y1="{HEIGHT + 8}" y2="{HEIGHT + 8}" stroke="{colour}" '
            f'stroke-width="3"/><text x="{x + 22}" y="{HEIGHT + 12}">{escape(name)}</text>'
        )
        x += 34 + 7 * len(name)
    return text
