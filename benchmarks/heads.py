"""The shipped model, its head and the head's tissues."""

from __future__ import annotations

import os
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from training.brain_tissue_t1 import tissues

from napari_dante.evaluate.overlap import dice
from napari_dante.model.file import Model, read_model
from napari_dante.model.grids import resample_image
from napari_dante.model.network import build_network, load_weights
from napari_dante.ui.samples import sample_path
from napari_dante.volume import open_labels, open_volume

__all__ = [
    "DATA",
    "Head",
    "head",
    "mean_dice",
    "model_path",
    "network",
    "one_millimetre",
    "patient",
]

DATA = Path(os.environ.get("NAPARI_DANTE_DATA", Path(__file__).parents[2] / "shared" / "data"))
"""Images that are not shipped, one folder each."""

Head = tuple[NDArray[np.float32], NDArray[np.uint8], tuple[float, float, float]]
"""Image and tissue classes (z, y, x), and mm per voxel."""


def model_path() -> Path:
    """Return the file of the shipped model."""
    return Path(str(files("napari_dante"))) / "resources" / "models" / "brain-tissue-t1.safetensors"


def network(width: Literal[16, 32]) -> nn.Module:
    """Return the shipped network, or one twice as wide with seeded weights."""
    model: Model = read_model(model_path())
    if width == 16:
        found = build_network(model.spec)
        load_weights(found, {key: torch.from_numpy(value) for key, value in model.weights.items()})
        return found
    torch.manual_seed(0)
    channels = [width * 2**level for level in range(4)]
    return build_network(
        replace(model.spec, arguments={**model.spec.arguments, "channels": channels})
    )


def head(contrast: Literal["t1", "t2"]) -> Head:
    """Return the shipped average head at 2 mm."""
    volume = open_volume(sample_path(f"mni152_{contrast}"))
    tissue = open_labels(sample_path("mni152_tissue"))
    return (
        np.asarray(volume.array, np.float32),
        np.asarray(tissue.array, np.uint8),
        volume.geometry.spacing,
    )


def patient() -> Head:
    """Return a real head at 1 mm that the shipped model never saw; its tissues are SAMSEG's.

    Raises
    ------
    VolumeError
        If it is not in :data:`DATA`.
    """
    volume = open_volume(DATA / "bold5000_csi3" / "t1.nii.gz")
    labels = open_labels(DATA / "bold5000_csi3" / "labels.nii.gz")
    return np.asarray(volume.array, np.float32), tissues(labels), volume.geometry.spacing


def one_millimetre(two: Head) -> Head:
    """Return a head at half the voxel size: image and tissue maps resampled linearly."""
    image, tissue, spacing = two
    shape = [2 * size for size in image.shape]
    maps = [resample_image((tissue == k).astype(np.float32), shape) for k in range(4)]
    half = (spacing[0] / 2, spacing[1] / 2, spacing[2] / 2)
    return resample_image(image, shape), np.argmax(maps, axis=0).astype(np.uint8), half


def mean_dice(mask: NDArray[Any], truth: NDArray[Any]) -> float:
    """Return the mean Dice of CSF, grey and white matter."""
    return float(np.mean([dice(mask == k, truth == k) or 0.0 for k in (1, 2, 3)]))
