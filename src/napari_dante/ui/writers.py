"""What napari calls to save a layer as NIfTI, on the very grid it came from. Qt-free."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dante.errors import VolumeError
from napari_dante.ui.layers import Grid, grid_of
from napari_dante.volume import Label, default_label, write_nifti

__all__ = ["write_image", "write_labels"]


def write_image(path: str, data: NDArray[Any], meta: Mapping[str, Any]) -> list[str]:
    """Save an image layer; its voxels lie where the file that it came from says.

    Raises
    ------
    VolumeError
        Where the voxels lie is not known, or the file cannot be written.
    """
    array = np.asarray(data)
    write_nifti(Path(path), array, _grid(array.shape, meta).geometry)
    return [path]


def write_labels(path: str, data: NDArray[Any], meta: Mapping[str, Any]) -> list[str]:
    """Save a labels layer with the names of its labels.

    A layer that napari made over an image of ours lies on that image's grid.

    Raises
    ------
    VolumeError
        Where the voxels lie is not known, or the file cannot be written.
    """
    array = np.asarray(data)
    grid = _grid(array.shape, meta)
    write_nifti(Path(path), array, grid.geometry, _names(array, grid.labels or {}))
    return [path]


def _names(array: NDArray[Any], known: Mapping[int, Label]) -> dict[int, Label]:
    present = (int(value) for value in np.unique(array) if value != 0)
    return dict(known) | {value: default_label(value) for value in present if value not in known}


def _grid(shape: tuple[int, ...], meta: Mapping[str, Any]) -> Grid:
    own = grid_of(meta.get("metadata", {}))
    if own is not None and own.geometry.shape == shape:
        return own
    grids = [grid for grid in _open_grids() if grid.geometry.shape == shape]
    if not grids:
        raise VolumeError(
            "It is not known where these voxels lie in the patient, so the layer was not saved: "
            "open the image they belong to first."
        )
    first = grids[0].geometry
    if not all(first.same_grid(grid.geometry) for grid in grids):
        raise VolumeError(
            "Several open images have this size but lie at different places; keep only the one "
            "that this layer belongs to open, and save again."
        )
    return Grid(first)


def _open_grids() -> Iterable[Grid]:
    from napari import current_viewer

    viewer = current_viewer()
    layers = viewer.layers if viewer is not None else ()
    return [grid for layer in layers if (grid := grid_of(layer.metadata)) is not None]
