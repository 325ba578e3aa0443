"""Charts of a lesson as inline SVG, for pages on white paper. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from napari_dante.evaluate.colours import BLUE, GREEN, ORANGE, viridis
from napari_dante.evaluate.curve import Curve, Point
from napari_dante.evaluate.mistakes import SliceScore

__all__ = ["curve_chart", "strip_chart"]

_WIDTH = 640
_GREY = "#888"


def strip_chart(slices: Sequence[SliceScore]) -> str:
    """Return two rows of cells, before and after, over the slice number; the exam is framed."""
    if not slices:
        return ""
    left, height, gap = 60, 22, 2
    width = min(44.0, (_WIDTH - left - 2) / len(slices))
    every = max(1, round(26 / width + 0.49))
    parts = [
        _text(0, 16 + row * (height + gap), name) for row, name in enumerate(("before", "after"))
    ]
    foot = 2 * (height + gap) + 16
    parts.append(_text(0, foot, "slice"))
    for column, score in enumerate(slices):
        x = left + column * width
        for row, value in enumerate((score.before, score.after)):
            parts.append(_cell(x, row * (height + gap), width, height, value))
        if score.exam:
            parts.append(
                f'<rect x="{x:.1f}" y="0.75" width="{width:.1f}" height="{2 * height + gap}" '
                'fill="none" stroke="#000" stroke-width="1.5"/>'
            )
        if column % every == 0:
            parts.append(_text(x + width / 2, foot, str(score.slice), "middle"))
    return _svg(foot + 6, parts, "Dice of each slice, before and after")


def _cell(x: float, y: float, width: float, height: float, value: float | None) -> str:
    place = f'x="{x + 0.5:.1f}" y="{y + 0.5:.1f}" width="{width - 1:.1f}" height="{height}"'
    if value is None:
        return f'<rect {place} fill="none" stroke="#bbb"/>'
    cell = f'<rect {place} fill="{viridis(value)}"/>'
    if width < 30:
        return cell
    ink = "#000" if value > 0.55 else "#fff"
    return cell + _text(x + width / 2, y + 16, f"{value:.2f}", "middle", ink)


def curve_chart(curve: Curve) -> str:
    """Return the learning curve: exam bold, error thin, the old model dashed, the best a dot."""
    if not curve.dice and not curve.loss:
        return ""
    area = _Area(curve)
    parts = [
        area.line(((0, value), (curve.total, value)), "#ddd", 1)
        + _text(area.left - 6, area.dice(value) + 4, f"{value:.2f}", "end")
        for value in area.ticks
    ]
    parts.append(_text(area.left, area.bottom + 16, "step 0"))
    parts.append(_text(_WIDTH - 2, area.bottom + 16, str(curve.total), "end"))
    top = max((value for _, value in curve.loss), default=0.0)
    if top > 0:
        low, high = curve.limits
        thin = [(step, low + (high - low) * value / top) for step, value in curve.loss]
        parts.append(area.line(thin, _GREY, 1))
    if curve.to_beat is not None:
        level = ((0, curve.to_beat), (curve.total, curve.to_beat))
        parts.append(area.line(level, ORANGE, 1.5, 'stroke-dasharray="6 4"'))
        label = f"old model {curve.to_beat:.2f}"
        parts.append(_text(_WIDTH - 2, area.dice(curve.to_beat) - 4, label, "end", ORANGE))
    parts.append(area.line(curve.dice, BLUE, 2.5))
    if curve.best is not None:
        x, y = area.x(curve.best[0]), area.dice(curve.best[1])
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{GREEN}"/>')
        anchor, x = ("end", _WIDTH - 2.0) if x > _WIDTH - 40 else ("middle", x)
        parts.append(_text(x, y - 9, f"best {curve.best[1]:.2f}", anchor, GREEN))
    return _svg(area.bottom + 22, parts, "Learning curve")


class _Area:
    """Where a step and a Dice are drawn."""

    left, top, bottom = 46.0, 18.0, 170.0

    def __init__(self, curve: Curve) -> None:
        self._curve = curve

    @property
    def ticks(self) -> tuple[float, float, float]:
        low, high = self._curve.limits
        return low, (low + high) / 2, high

    def x(self, step: int) -> float:
        return self.left + (_WIDTH - self.left - 8) * step / self._curve.total

    def dice(self, value: float) -> float:
        low, high = self._curve.limits
        share = min(max((value - low) / (high - low), 0.0), 1.0)
        return self.bottom - (self.bottom - self.top) * share

    def line(self, points: Iterable[Point], colour: str, width: float, more: str = "") -> str:
        places = " ".join(f"{self.x(step):.1f},{self.dice(value):.1f}" for step, value in points)
        return (
            f'<polyline points="{places}" fill="none" stroke="{colour}" '
            f'stroke-width="{width}" {more}/>'
        )


def _text(x: float, y: float, words: str, anchor: str = "start", ink: str = "#222") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{ink}">{words}</text>'


def _svg(height: float, parts: Iterable[str], title: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-label="{title}" '
        f'font-size="12" font-family="sans-serif">{"".join(parts)}</svg>'
    )
