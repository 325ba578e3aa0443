"""The learning curve of a job, from its events. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import reduce

from napari_dante.evaluate.curve import Curve, Point
from napari_dante.jobs.events import Event, Improved, Progress, Started, Validated, decode
from napari_dante.jobs.folder import JobFolder

__all__ = ["follow", "read_curve", "read_events"]


def follow(curve: Curve, event: Event) -> Curve:
    """Return the curve with one more event; a resumed lesson writes over what it repeats."""
    if isinstance(event, Started):
        start = () if event.dice is None else ((0, event.dice),)
        return replace(curve, to_beat=event.dice, dice=curve.dice or start)
    if isinstance(event, Progress):
        if event.loss is None:
            return replace(curve, total=max(1, event.total))
        loss = _with(curve.loss, (event.step, event.loss))
        return replace(curve, total=max(1, event.total), loss=loss)
    if isinstance(event, Validated):
        return replace(curve, dice=_with(curve.dice, (event.step, event.mean)))
    if isinstance(event, Improved):
        return replace(curve, best=(event.step, event.mean))
    return curve


def read_events(job: JobFolder) -> list[Event]:
    """Return what a job said; a line that was torn by the end of its process is left out.

    Raises
    ------
    JobError
        If a whole line is not an event.
    """
    if not job.events.is_file():
        return []
    lines = job.events.read_bytes().splitlines(keepends=True)
    return [decode(line) for line in lines if line.endswith(b"\n")]


def read_curve(events: Iterable[Event]) -> Curve:
    """Return the curve of a lesson from its events."""
    return reduce(follow, events, Curve())


def _with(points: tuple[Point, ...], point: Point) -> tuple[Point, ...]:
    if not points or points[-1][0] < point[0]:
        return (*points, point)
    return (*(one for one in points if one[0] < point[0]), point)
