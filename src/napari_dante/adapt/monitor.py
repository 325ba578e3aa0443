"""A quick look at the exam slices while a lesson runs."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from napari_dante.adapt.patches import Grid
from napari_dante.evaluate.overlap import dice
from napari_dante.model.inference import slide
from napari_dante.model.spec import ArchitectureSpec

__all__ = ["Monitor"]


class Monitor:
    """Dice on the exam slices, from no more of the volume than they need.

    Parameters
    ----------
    grid
        The case on the network's grid, only its exam slices trusted.
    spec
        The model.
    axis
        Slice axis.
    """

    def __init__(self, grid: Grid, spec: ArchitectureSpec, axis: int) -> None:
        box = _slab(grid, axis, spec.patch[axis])
        self._image = grid.image[box]
        self._trusted = grid.trusted[box]
        self._truth = grid.labels[box][self._trusted]
        self._spec = spec

    def dice(self, network: nn.Module) -> dict[str, float]:
        """Return the Dice of each structure that the exam slices or the network show."""
        if not self._trusted.any():
            return {}
        training = network.training
        network.eval()
        probabilities = slide(network, self._image, self._spec.patch)
        network.train(training)
        classes = torch.argmax(probabilities[0], dim=0).cpu().numpy()[self._trusted]
        found = {}
        for index, label in enumerate(self._spec.labels, start=1):
            score = dice(classes == index, self._truth == index)
            if score is not None:
                found[label.name] = score
        return found


def _slab(grid: Grid, axis: int, thickness: int) -> tuple[slice, ...]:
    """Return the box around the trusted slices, at least one patch thick."""
    others = tuple(index for index in range(3) if index != axis)
    slices = np.flatnonzero(grid.trusted.any(axis=others))
    box = [slice(None)] * 3
    if slices.size:
        low, high = int(slices[0]), int(slices[-1]) + 1
        margin = max(0, thickness - (high - low) + 1) // 2
        start = max(0, min(low - margin, grid.image.shape[axis] - thickness))
        box[axis] = slice(start, max(high + margin, start + thickness))
    return tuple(box)
