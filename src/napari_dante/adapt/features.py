"""What a frozen network makes of an image window, computed once and kept on disk."""

from __future__ import annotations

import hashlib
import logging
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

_log = logging.getLogger("napari_dante")

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
        features = np.stack([self.stored(window) for window in windows])
        return torch.from_numpy(features.astype(np.float32)).to(windows.device)

    def stored(self, window: torch.Tensor) -> NDArray[np.float16]:
        """Return the features (channel, z', y', x') of a window (1, z, y, x).

        Not to be written to: most often a view of a file.

        Raises
        ------
        TeachError
            If a feature does not fit into float16.
        """
        path = self._folder / f"{self._key(window)}.npy"
        stored = _read(path)
        if stored is None:
            stored = self._computed(window)
            self._store(path, stored)
        return stored

    def _key(self, window: torch.Tensor) -> str:
        values, device = np.ascontiguousarray(window.cpu().numpy()), self._device()
        with autocast(device):
            low = torch.is_autocast_enabled(device.type)
        digest = hashlib.sha256(f"{device.type} {low} {values.shape}".encode())
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
        try:
            save_array(path, features)
        except OSError as error:
            # Without the store a lesson is slower, not worse.
            _log.warning("features could not be kept: errno %s", error.errno)
            self._left = 0


def _read(path: Path) -> NDArray[np.float16] | None:
    """Return the features in a file, or None where there are none, or damaged ones."""
    try:
        stored: NDArray[np.float16] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    sound = stored.dtype == np.float16 and stored.ndim == 4 and np.isfinite(stored).all()
    return stored if sound else None
