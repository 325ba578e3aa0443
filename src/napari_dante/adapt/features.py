"""What a frozen network makes of an image window, computed once and kept on disk."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from napari_dante.errors import TeachError
from napari_dante.files import save_array
from napari_dante.model.precision import autocast

__all__ = ["LIMIT", "FeatureBank"]

LIMIT = 4 * 1024**3
"""Bytes of features that a job folder may hold; what goes beyond is computed each time."""


class FeatureBank(nn.Module):
    """The body of a frozen network that remembers its answers.

    Windows are known by their content, so every window of every case has its own file
    ``FOLDER/BASE/KEY.npy`` (float16, channel first). A stored answer and a fresh one are
    the same numbers: both are rounded to float16.

    Parameters
    ----------
    body
        Frozen, on its device; always run in evaluation mode.
    folder
        Where to keep the features; those of another base are deleted.
    base
        SHA-256 of the model file that `body` belongs to.
    limit
        Bytes.
    """

    def __init__(self, body: nn.Module, folder: Path, base: str, limit: int = LIMIT) -> None:
        super().__init__()
        self.body = body
        self._folder = folder / base
        for other in folder.glob("*"):
            if other.is_dir() and other.name != base:
                shutil.rmtree(other)
        self._left = limit - sum(path.stat().st_size for path in self._folder.glob("*.npy"))

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """Return the features (batch, channel, z', y', x') of windows (batch, 1, z, y, x).

        float32, on the device of `windows`.

        Raises
        ------
        TeachError
            If a feature does not fit into float16.
        """
        features = np.stack([self._features(window) for window in windows])
        return torch.from_numpy(features.astype(np.float32)).to(windows.device)

    def _features(self, window: torch.Tensor) -> NDArray[np.float16]:
        path = self._folder / f"{self._key(window)}.npy"
        try:
            stored: NDArray[np.float16] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            stored = self._computed(window)
            self._store(path, stored)
        return stored

    def _key(self, window: torch.Tensor) -> str:
        values = np.ascontiguousarray(window.cpu().numpy())
        digest = hashlib.sha256(f"{self._device().type} {values.shape}".encode())
        digest.update(values.tobytes())
        return digest.hexdigest()

    def _device(self) -> torch.device:
        return next(self.body.parameters()).device

    def _computed(self, window: torch.Tensor) -> NDArray[np.float16]:
        self.body.eval()
        device = self._device()
        with torch.no_grad(), autocast(device):
            features: torch.Tensor = self.body(window[None].to(device))[0].half()
        if not torch.isfinite(features).all():
            raise TeachError(
                "The inner numbers of this model are too large for the black-box adapter; "
                "LoRA works."
            )
        stored: NDArray[np.float16] = features.cpu().numpy()
        return stored

    def _store(self, path: Path, features: NDArray[np.float16]) -> None:
        if features.nbytes + 1024 > self._left:
            return
        self._left -= features.nbytes + 1024
        save_array(path, features)
