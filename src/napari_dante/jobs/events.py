"""What a job says while it runs: small frozen values, one JSON line each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from napari_dante.adapt.events import (
    Adjusted,
    Elapsed,
    Improved,
    LessonEvent,
    Paused,
    Progress,
    Resumed,
    Started,
    Validated,
)
from napari_dante.jobs.wire import dump, load

__all__ = [
    "Adjusted",
    "Elapsed",
    "Event",
    "Failed",
    "Finished",
    "Improved",
    "Paused",
    "Progress",
    "Ready",
    "Resumed",
    "Started",
    "Validated",
    "decode",
    "encode",
]


@dataclass(frozen=True)
class Ready:
    """The worker is warm; ``device`` and ``precision`` are what it computes with."""

    device: str
    precision: str
    threads: int


@dataclass(frozen=True)
class Finished:
    """The job is done; ``file`` is its result, a name inside the job folder."""

    file: str
    seconds: float


@dataclass(frozen=True)
class Failed:
    """The job ended without a result. ``sentence`` is for the person."""

    kind: str
    sentence: str
    detail: str = ""


Event = Ready | LessonEvent | Finished | Failed
_KINDS: dict[str, type[Event]] = {kind.__name__: kind for kind in get_args(Event)}


def encode(event: Event) -> str:
    """Return `event` as one line of JSON without a line end."""
    return dump(event, "event")


def decode(line: str | bytes) -> Event:
    """Read what :func:`encode` wrote.

    Raises
    ------
    JobError
        If the line is not an event.
    """
    return load(line, "event", _KINDS)
