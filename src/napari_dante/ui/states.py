"""Where a person is on the way from an image to a shared model. Qt-free."""

from __future__ import annotations

from enum import Enum, IntEnum

__all__ = ["SliceState", "Step", "Task"]


class SliceState(Enum):
    """What a person did to a slice."""

    UNTOUCHED = "untouched"
    CHANGED = "changed, not approved"
    EDITED = "edited"
    APPROVED = "approved"


class Step(IntEnum):
    """The six cards of the panel."""

    OPEN = 1
    PREDICT = 2
    CORRECT = 3
    TEACH = 4
    RESULT = 5
    SHARE = 6


class Task(Enum):
    """What runs in the background; the value is what a person reads."""

    OPEN = "Opening"
    TAKE = "Opening a model"
    PREDICT = "Predicting"
    TEACH = "Teaching"
    CHECK = "Asking the server"
    PUSH = "Sharing"
    RETRY = "Retrying what waits"
    LOOK = "Looking for a newer version"
