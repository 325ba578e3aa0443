"""What a set of cases is like, in the few numbers that a network is fitted to. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Fingerprint", "is_blank", "take_fingerprint"]

FRINGE = 0.01
"""A slice that is bright in less than this share of its voxels lies outside the body."""


@dataclass(frozen=True)
class Fingerprint:
    """Medians over the cases, axes (z, y, x).

    Attributes
    ----------
    shape
        Voxels.
    spacing
        mm.
    body
        Voxels of the box around what is bright; what lies outside is air.
    axis
        Slice axis that all cases were corrected on, or None where they differ.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    body: tuple[int, int, int]
    axis: int | None

    @property
    def thick_axis(self) -> int:
        """The axis with the largest spacing; of equal ones that of the corrected slices."""
        equal = [axis for axis in range(3) if self.spacing[axis] >= max(self.spacing) * 0.999]
        return self.axis if self.axis in equal else equal[0]

    @property
    def thickness(self) -> float:
        """Spacing along the thick axis relative to the mean of the two others."""
        others = [size for axis, size in enumerate(self.spacing) if axis != self.thick_axis]
        return 2 * self.spacing[self.thick_axis] / sum(others)


def take_fingerprint(
    images: Sequence[NDArray[Any]],
    spacings: Sequence[tuple[float, float, float]],
    axes: Sequence[int],
) -> Fingerprint:
    """Return the fingerprint of cases.

    Parameters
    ----------
    images
        (z, y, x) each, any numeric type.
    spacings
        mm per voxel, (z, y, x) each.
    axes
        Slice axis of each case's corrections.
    """
    shape = np.median([image.shape for image in images], axis=0)
    body = np.median([_body(image) for image in images], axis=0)
    spacing = np.median(np.array(spacings, np.float64), axis=0)
    return Fingerprint(
        shape=_whole(shape),
        spacing=(float(spacing[0]), float(spacing[1]), float(spacing[2])),
        body=_whole(body),
        axis=axes[0] if len(set(axes)) == 1 else None,
    )


def is_blank(image: NDArray[Any]) -> bool:
    """Tell whether all finite intensities of an image are one and the same."""
    values = image[np.isfinite(image)]
    return bool(values.size == 0 or values.min() == values.max())


def _whole(values: NDArray[Any]) -> tuple[int, int, int]:
    first, second, third = (int(value) for value in values)
    return first, second, third


def _body(image: NDArray[Any]) -> tuple[int, ...]:
    """Return the extents of the box that holds the bright part of an image, in voxels."""
    finite = np.isfinite(image)
    bright = finite & (image > np.mean(image, where=finite, dtype=np.float64))
    extents = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        inside = np.flatnonzero(bright.mean(axis=others) >= FRINGE)
        extents.append(int(inside[-1] - inside[0] + 1) if inside.size else image.shape[axis])
    return tuple(extents)
