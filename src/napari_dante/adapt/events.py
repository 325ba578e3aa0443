"""What a lesson says while it runs. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = [
    "Adjusted",
    "Elapsed",
    "Improved",
    "LessonEvent",
    "Paused",
    "Progress",
    "Resumed",
    "Started",
    "Validated",
    "Word",
]

Word = Literal["pause", "resume", "stop", "cancel"]
"""What a person may say to a running lesson; ``stop`` keeps the best, ``cancel`` nothing."""


@dataclass(frozen=True)
class Started:
    """A lesson begins: what is trained and on what.

    ``learn`` and ``exam`` are slice indices along ``axis`` of the first case, in display
    order; ``dice`` is the old model's mean Dice on the exam slices, the line to beat;
    ``note`` says in a sentence what was chosen for the person, and why.
    """

    method: str
    device: str
    trained: int
    parameters: int
    axis: int
    learn: tuple[int, ...]
    exam: tuple[int, ...]
    dice: float | None
    note: str = ""


@dataclass(frozen=True)
class Progress:
    """``step`` of ``total`` is done; ``eta`` is in seconds, ``loss`` None when predicting."""

    step: int
    total: int
    eta: float | None = None
    loss: float | None = None


@dataclass(frozen=True)
class Elapsed:
    """Something whose end nobody knows goes on for so many seconds; ``what`` it is."""

    what: str
    seconds: float


@dataclass(frozen=True)
class Validated:
    """Dice on the exam slices after ``step``, per label name and their mean."""

    step: int
    mean: float
    dice: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Improved:
    """The weights of ``step`` are the best so far and are on disk."""

    step: int
    mean: float


@dataclass(frozen=True)
class Adjusted:
    """The job met an obstacle after ``step`` and goes on; ``sentence`` is for the person."""

    step: int
    sentence: str


@dataclass(frozen=True)
class Paused:
    """The job waits after ``step`` until it is resumed, stopped or cancelled."""

    step: int


@dataclass(frozen=True)
class Resumed:
    """The job goes on after ``step``."""

    step: int


LessonEvent = Started | Progress | Elapsed | Validated | Improved | Adjusted | Paused | Resumed
