"""The Dice coefficient. Torch-free."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["dice"]


def dice(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float | None:
    """Return 2·|A∩B| / (|A|+|B|), or None when both are empty (Dice 1945)."""
    total = int(mask.sum()) + int(truth.sum())
    return 2.0 * float((mask & truth).sum()) / total if total else None
