"""Words that sentences share."""

from __future__ import annotations

__all__ = ["counted"]


def counted(number: int, noun: str) -> str:
    """Return ``"1 slice"`` or ``"7 slices"``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
