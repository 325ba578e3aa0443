"""Dice, HD95 and NSD of one structure, with the rules that MONAI leaves open."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from numpy.typing import NDArray

from napari_dante.evaluate.overlap import dice
from napari_dante.evaluate.report import Metrics

__all__ = ["measure"]


def measure(
    mask: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    spacing: Sequence[float],
    tolerance: float,
) -> Metrics:
    """Compare one structure with its reference.

    Parameters
    ----------
    mask, truth
        bool, same shape, two or three axes.
    spacing
        mm per voxel along each axis.
    tolerance
        Surface tolerance of the NSD in mm (Nikolov et al. 2021).

    Returns
    -------
    Metrics
        All None when the structure is in neither. When only one of the two holds it the
        structure was missed or invented: Dice 0, NSD 0, HD95 the diagonal of the field of
        view, so that a failure can never raise a mean by being left out of it.
    """
    overlap = dice(mask, truth)
    if overlap is None:
        return Metrics(None, None, None)
    if not (mask.any() and truth.any()):
        diagonal = float(np.linalg.norm(np.array(mask.shape) * np.array(spacing)))
        return Metrics(0.0, diagonal, 0.0)
    box = _box(mask | truth)
    first, second = _batch(mask[box]), _batch(truth[box])
    with warnings.catch_warnings():
        # MONAI 1.6 warns of an argument that it passes to itself.
        warnings.simplefilter("ignore", FutureWarning)
        hd95 = compute_hausdorff_distance(
            first, second, include_background=True, percentile=95, spacing=list(spacing)
        )
        nsd = compute_surface_dice(
            first, second, [tolerance], include_background=True, spacing=list(spacing)
        )
    return Metrics(overlap, float(hd95), float(nsd))


def _box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """Return the bounding box with a margin of one voxel, to keep surfaces closed."""
    found = np.argwhere(mask)
    return tuple(
        slice(max(0, int(low) - 1), int(high) + 2)
        for low, high in zip(found.min(axis=0), found.max(axis=0), strict=True)
    )


def _batch(mask: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(mask.astype(np.float32))[None, None]
