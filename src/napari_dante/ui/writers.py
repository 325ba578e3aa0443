"""What napari calls to save a layer on the very grid it came from. Qt-free."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from napari.utils.notifications import show_warning
from numpy.typing import NDArray

from napari_dante.errors import VolumeError
from napari_dante.ui.layers import Grid, grid_of
from napari_dante.volume import (
    GRID_TOLERANCE_MM,
    NAMES_THE_PATIENT,
    Geometry,
    Label,
    LabelMap,
    default_label,
    write_dicom_seg,
    write_label_file,
    write_nifti,
)

__all__ = ["write_image", "write_label_names", "write_labels", "write_segmentation"]


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


def write_label_names(path: str, data: NDArray[Any], meta: Mapping[str, Any]) -> list[str]:
    """Save the names and colours of a labels layer for 3D Slicer or ITK-SNAP.

    Raises
    ------
    VolumeError
        The file cannot be written.
    """
    own = grid_of(meta.get("metadata", {}))
    known = own.labels if own is not None else None
    write_label_file(Path(path), _names(np.asarray(data), known or {}))
    return [path]


def write_segmentation(path: str, data: NDArray[Any], meta: Mapping[str, Any]) -> list[str]:
    """Save a labels layer as a DICOM segmentation of the open series it lies on.

    Raises
    ------
    VolumeError
        The layer does not lie on an image from DICOM, or the file cannot be written.
    """
    array = np.asarray(data)
    grid = _grid(array.shape, meta)
    labels = LabelMap(array, grid.geometry, _names(array, grid.labels or {}))
    series = [
        one.dicom
        for one in _open_grids()
        if one.dicom is not None and one.geometry.same_place(grid.geometry)
    ]
    if not series:
        raise VolumeError(
            "No open image from DICOM lies where this layer lies, so it cannot become a DICOM "
            "segmentation; save it as NIfTI."
        )
    if len(set(series)) > 1:
        raise VolumeError(
            "Several open DICOM images lie where this layer lies; keep only the one that it was "
            "drawn on open, and save again."
        )
    write_dicom_seg(Path(path), labels, *series[0])
    show_warning(NAMES_THE_PATIENT)
    return [path]


def _names(array: NDArray[Any], known: Mapping[int, Label]) -> dict[int, Label]:
    present = (int(value) for value in np.unique(array) if value != 0)
    return dict(known) | {value: default_label(value) for value in present if value not in known}


def _grid(shape: tuple[int, ...], meta: Mapping[str, Any]) -> Grid:
    own = grid_of(meta.get("metadata", {}))
    if own is not None and own.geometry.shape == shape:
        return own
    geometries = {grid.geometry for grid in _open_grids() if grid.geometry.shape == shape}
    if not geometries:
        raise VolumeError(
            "It is not known where these voxels lie in the patient, so the layer was not saved: "
            "open the image they belong to first."
        )
    here = [one for one in geometries if _is_shown_at(one, meta)] or list(geometries)
    if not all(here[0].same_grid(one) for one in here):
        raise VolumeError(
            "Several open images have this size but lie at different places; keep only the one "
            "that this layer belongs to open, and save again."
        )
    return Grid(here[0])


def _is_shown_at(geometry: Geometry, meta: Mapping[str, Any]) -> bool:
    """Whether the layer lies in the viewer where a volume of `geometry` does."""
    place = (meta.get("scale"), meta.get("translate"))
    return all(
        mine is not None and np.allclose(mine, theirs, rtol=0, atol=GRID_TOLERANCE_MM)
        for mine, theirs in zip(place, (geometry.scale, geometry.translate), strict=True)
    )


def _open_grids() -> Iterable[Grid]:
    from napari import current_viewer

    viewer = current_viewer()
    layers = viewer.layers if viewer is not None else ()
    return [grid for layer in layers if (grid := grid_of(layer.metadata)) is not None]
