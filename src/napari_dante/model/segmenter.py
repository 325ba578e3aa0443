"""A model ready to predict."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_dante.errors import ModelError
from napari_dante.model.file import Model, read_model
from napari_dante.model.inference import Prediction, predict_volume
from napari_dante.model.network import build_network, load_weights

__all__ = ["Segmenter", "choose_device"]


def choose_device(wanted: str) -> torch.device:
    """Return the device for ``"cpu"``, ``"cuda"``, ``"mps"`` (Apple's) or ``"auto"``.

    ``"auto"`` takes a graphics card where there is one.

    Raises
    ------
    ModelError
        If a graphics card is asked for and there is none of this kind.
    """
    here = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if wanted == "auto":
        wanted = next(name for name, usable in here.items() if usable)
    if not here.get(wanted):
        raise ModelError("There is no usable graphics card here; choose 'cpu' or 'auto'.")
    return torch.device(wanted)


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
        self.card = model.lineage.card
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

    def analyse(
        self,
        image: NDArray[Any],
        spacing: tuple[float, float, float],
        on_window: Callable[[int, int], None] = lambda done, total: None,
        *,
        entropy: bool = False,
        probabilities: bool = False,
    ) -> Prediction:
        """Return the class of each voxel and, when asked, how sure the network is of it.

        Parameters
        ----------
        image
            (z, y, x) in display order, any numeric type.
        spacing
            mm per voxel (z, y, x).
        on_window
            Called after each window with how many are done, and of how many; what it
            raises ends the prediction.
        entropy, probabilities
            What to return besides the classes, all on the grid of `image`.
        """
        was_training = self.network.training
        self.network.eval()
        try:
            return predict_volume(
                self.network,
                image,
                spacing,
                target_spacing=self.spec.spacing,
                patch=self.spec.patch,
                normalisation=self.spec.normalisation,
                flipped=self.spec.flipped,
                entropy=entropy,
                probabilities=probabilities,
                on_window=on_window,
            )
        finally:
            self.network.train(was_training)

    def predict(
        self,
        image: NDArray[Any],
        spacing: tuple[float, float, float],
        on_window: Callable[[int, int], None] = lambda done, total: None,
    ) -> NDArray[np.uint8]:
        """Return the class number of each voxel (z, y, x), 0 for the background.

        The parameters are those of :meth:`analyse`.
        """
        return self.analyse(image, spacing, on_window).classes
