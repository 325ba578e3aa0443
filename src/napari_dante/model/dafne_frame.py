"""How a volume in display order lies where Dafne hands it to a model. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Frame"]

_RUNS = {"": "RPI", "a": "RPI", "t": "RPI", "s": "PSR", "c": "RIP"}


@dataclass(frozen=True)
class Frame:
    """A volume (z, y, x) in display order, seen as Dafne's (X, Y, Z).

    Attributes
    ----------
    runs
        Where X, Y and Z run to, such as ``"RPI"``.
    spacing
        mm per voxel (z, y, x).
    """

    runs: str
    spacing: Sequence[float]

    @classmethod
    def of(cls, metadata: Mapping[str, Any], spacing: Sequence[float]) -> Frame:
        """Return the frame that the metadata of a Dafne model ask for."""
        orientation = str(metadata.get("orientation") or "")[:1].lower()
        return cls(_RUNS.get(orientation, _RUNS[""]), spacing)

    @property
    def axes(self) -> list[int]:
        """The display axis of X, of Y and of Z; slices are those across the last."""
        return ["SIPALR".index(letter) // 2 for letter in self.runs]

    @property
    def flips(self) -> tuple[slice, ...]:
        """Which of X, Y and Z run against their display axis."""
        return tuple(slice(None, None, 1 if letter in "SPL" else -1) for letter in self.runs)

    @property
    def resolution(self) -> list[float]:
        """Mm along X, Y and Z."""
        return [self.spacing[axis] for axis in self.axes]

    @property
    def affine(self) -> NDArray[np.float64]:
        """4x4, index (X, Y, Z) to RAS+ mm."""
        affine = np.diag([0.0, 0.0, 0.0, 1.0])
        for index, (letter, step) in enumerate(zip(self.runs, self.resolution, strict=True)):
            affine["LRPAIS".index(letter) // 2, index] = step if letter in "RAS" else -step
        return affine

    def turned(self, volume: NDArray[Any]) -> NDArray[Any]:
        """Return a volume (z, y, x) as (X, Y, Z)."""
        return np.ascontiguousarray(volume.transpose(self.axes)[self.flips])

    def back(self, volume: NDArray[Any]) -> NDArray[Any]:
        """Return a volume (X, Y, Z) as (z, y, x)."""
        return volume[self.flips].transpose(np.argsort(self.axes))
