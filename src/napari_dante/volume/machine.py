"""How much of this computer a volume takes."""

from __future__ import annotations

import psutil

__all__ = ["is_large", "memory", "read_whole"]

_LARGE = 0.25


def memory() -> int:
    """Return the bytes of main memory of this computer."""
    return int(psutil.virtual_memory().total)


def is_large(size: int) -> bool:
    """Whether `size` bytes are more than a quarter of the main memory."""
    return size > memory() * _LARGE


def read_whole(size: int, why: str) -> tuple[str, ...]:
    """Return what to tell of a large volume that had to be read at once, and why it had."""
    if not is_large(size):
        return ()
    return (
        f"This volume takes {size / memory():.0%} of the memory of this computer, because it "
        f"{why}; as a plain .nii file it would be read slice by slice.",
    )
