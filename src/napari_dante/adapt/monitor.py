"""A quick look at the exam slices while a lesson runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from napari_dante.adapt.patches import Grid
from napari_dante.adapt.stopping import Look
from napari_dante.evaluate.overlap import dice
from napari_dante.model.inference import slide
from napari_dante.model.spec import ArchitectureSpec

__all__ = ["Monitor"]


class Monitor:
    """Dice on the exam slices, from no more of the volume than they need.

    Parameters
    ----------
    grid
        The case on the network's grid, only its exam slices trusted; structures that it
        does not annotate are not looked for.
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
        self._slice = np.nonzero(self._trusted)[axis]
        self._patch = spec.patch
        known = grid.annotated or (True,) * spec.out_channels
        self._names = {
            index: label.name for index, label in enumerate(spec.labels, start=1) if known[index]
        }

    def look(self, network: nn.Module) -> Look:
        """Return the Dice of each structure that the exam slices or the network show."""
        if not self._trusted.any():
            return Look()
        training = network.training
        network.eval()
        probabilities = slide(network, self._image, self._patch)
        network.train(training)
        classes = torch.argmax(probabilities[0], dim=0).cpu().numpy()[self._trusted]
        by_slice = [
            self._scores(classes[self._slice == index], self._truth[self._slice == index])
            for index in np.unique(self._slice)
        ]
        means = tuple(float(np.mean(list(s.values()))) if s else 1.0 for s in by_slice)
        return Look(self._scores(classes, self._truth), means)

    def _scores(self, classes: NDArray[Any], truth: NDArray[Any]) -> dict[str, float]:
        found = {
            name: dice(classes == index, truth == index) for index, name in self._names.items()
        }
        return {name: score for name, score in found.items() if score is not None}


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
