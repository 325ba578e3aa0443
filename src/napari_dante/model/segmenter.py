"""A model ready to predict."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_dante.errors import ModelError
from napari_dante.model.file import Model, read_model
from napari_dante.model.inference import OVERLAP, predict_probabilities, working_shape
from napari_dante.model.network import build_network, load_weights
from napari_dante.model.spec import ArchitectureSpec

__all__ = ["Segmenter", "choose_device", "window_count"]


def choose_device(wanted: str) -> torch.device:
    """Return the device for ``"auto"``, ``"cpu"`` or ``"cuda"``.

    Raises
    ------
    ModelError
        If a GPU is asked for and there is none.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ModelError("There is no usable graphics card here; choose 'cpu' or 'auto'.")
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)


def window_count(shape: tuple[int, ...], spacing: tuple[float, ...], spec: ArchitectureSpec) -> int:
    """Return how many windows a whole volume takes."""
    scaled = working_shape(shape, spacing, spec.spacing, spec.patch)
    counts = (
        max(1, math.ceil((size - edge) / max(1, int(edge * (1 - OVERLAP)))) + 1)
        if size > edge
        else 1
        for size, edge in zip(scaled, spec.patch, strict=True)
    )
    return math.prod(counts)


class Segmenter:
    """A network with its weights on a device.

    Parameters
    ----------
    model
        Spec and weights.
    device
        Where to compute.

    Raises
    ------
    ModelError
        If the weights do not fit the spec.
    """

    def __init__(self, model: Model, device: torch.device) -> None:
        self.spec = model.spec
        self.network = build_network(model.spec)
        load_weights(
            self.network, {key: torch.from_numpy(value) for key, value in model.weights.items()}
        )
        self.network.to(device).eval()

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.network.parameters()).device

    @classmethod
    def from_file(cls, path: Path, device: str = "auto") -> Segmenter:
        """Read a model file and make it ready."""
        return cls(read_model(path), choose_device(device))

    def probabilities(
        self,
        image: NDArray[Any],
        spacing: tuple[float, float, float],
        on_window: Callable[[], None] = lambda: None,
    ) -> NDArray[np.float32]:
        """Return (class, z, y, x) probabilities of a volume (z, y, x) on its own grid."""
        was_training = self.network.training
        self.network.eval()
        try:
            return predict_probabilities(
                self.network,
                image,
                spacing,
                target_spacing=self.spec.spacing,
                patch=self.spec.patch,
                on_window=on_window,
            )
        finally:
            self.network.train(was_training)

    def predict(
        self,
        image: NDArray[Any],
        spacing: tuple[float, float, float],
        on_window: Callable[[], None] = lambda: None,
    ) -> NDArray[np.uint8]:
        """Return the class number of each voxel (z, y, x), 0 for the background.

        Parameters
        ----------
        image
            (z, y, x) in display order, any numeric type.
        spacing
            mm per voxel (z, y, x).
        on_window
            Called after each window; what it raises ends the prediction.
        """
        classes = self.probabilities(image, spacing, on_window).argmax(axis=0)
        return np.asarray(classes, np.uint8)
