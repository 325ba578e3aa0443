"""From a corrected volume to the network's grid, without losing a corrected slice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dante.adapt.patches import Grid
from napari_dante.model.grids import normalise, resample_image, working_shape
from napari_dante.model.spec import ArchitectureSpec

__all__ = ["to_grid"]


def to_grid(
    image: NDArray[Any],
    classes: NDArray[np.uint8],
    *,
    spacing: Sequence[float],
    axis: int,
    slices: Sequence[int],
    spec: ArchitectureSpec,
) -> Grid:
    """Resample one case; only `slices` become trusted.

    Where the network's slices are thicker than the volume's, each takes its labels from
    the trusted slice nearest to its centre: nearest-neighbour resampling would drop every
    other corrected slice.

    Parameters
    ----------
    image, classes
        Intensities and class numbers (z, y, x) in display order.
    spacing
        mm per voxel (z, y, x).
    axis, slices
        The trusted slices and their axis.
    spec
        The model.
    """
    shape = working_shape(image.shape, spacing, spec.spacing, spec.patch)
    source, trusted = _slice_sources(image.shape[axis], shape[axis], slices)
    index = [_nearest(old, new) for old, new in zip(image.shape, shape, strict=True)]
    index[axis] = source
    along = [1, 1, 1]
    along[axis] = shape[axis]
    turned = (
        resample_image(normalise(image, spec.normalisation), shape),
        classes[np.ix_(*index)],
        np.broadcast_to(trusted.reshape(along), shape),
    )
    found, labels, whole = (np.flip(array, spec.flipped).copy() for array in turned)
    return Grid(image=found, labels=labels, trusted=whole)


def _nearest(old: int, new: int) -> NDArray[np.intp]:
    """Return for each of `new` voxels the voxel of `old` that holds its centre."""
    return np.minimum(((np.arange(new) + 0.5) * old / new).astype(np.intp), old - 1)


def _slice_sources(
    old: int, new: int, slices: Sequence[int]
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return for each new slice the old slice to read, and whether that one is trusted."""
    source = _nearest(old, new)
    wanted = np.zeros(old, bool)
    wanted[list(slices)] = True
    trusted = wanted[source]
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    for index in slices:
        target = min(new - 1, int((index + 0.5) * new / old))
        closer = abs(index - centres[target]) < abs(source[target] - centres[target])
        if not trusted[target] or closer:
            source[target], trusted[target] = index, True
    return source, trusted
