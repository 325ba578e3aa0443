"""Volumes and label maps as napari layers, and back. Qt-free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray

from napari_dante.volume import Geometry, Label, LabelMap, Volume
from napari_dante.volume.geometry import VIEWS

__all__ = [
    "AXES",
    "KEY",
    "VIEWS",
    "Grid",
    "LayerData",
    "colours",
    "features",
    "grid_of",
    "image_layer",
    "label_layer",
    "labels_kwargs",
    "name_labels",
]

LayerData = tuple[NDArray[Any], dict[str, Any], Literal["image", "labels"]]

KEY = "napari_dante"
AXES = ("z", "y", "x")
_WINDOW = (0.5, 99.5)
_SAMPLE = 2_000_000


@dataclass(frozen=True)
class Grid:
    """What a layer of ours remembers of its file, under ``metadata["napari_dante"]``.

    ``labels`` is None for an image; ``dicom`` is where its series is and the id of the
    volume in it, None where it is not from DICOM.
    """

    geometry: Geometry
    labels: Mapping[int, Label] | None = None
    dicom: tuple[Path, str] | None = field(default=None, repr=False)


def grid_of(metadata: Mapping[str, Any]) -> Grid | None:
    """Return what a layer's metadata remembers, or None where it is not one of ours."""
    grid = metadata.get(KEY)
    return grid if isinstance(grid, Grid) else None


def image_layer(volume: Volume, name: str | None = None) -> LayerData:
    """Return an image in the form napari's readers use, windowed to its tissue."""
    kwargs = {
        **_place(volume.geometry),
        "name": name or volume.name,
        "colormap": "gray",
        "contrast_limits": _window(volume.array),
        "metadata": {KEY: Grid(volume.geometry, dicom=_series(volume))},
    }
    return volume.array, kwargs, "image"


def label_layer(labels: LabelMap, name: str = "Labels") -> LayerData:
    """Return a label map in the form napari's readers use."""
    return labels.array, labels_kwargs(labels.geometry, labels.labels, name), "labels"


def labels_kwargs(geometry: Geometry, labels: Mapping[int, Label], name: str) -> dict[str, Any]:
    """Return what ``add_labels`` needs besides the array."""
    return {
        **_place(geometry),
        "name": name,
        "colormap": colours(labels),
        "features": features(labels),
        "opacity": 0.5,
        "metadata": {KEY: Grid(geometry, dict(labels))},
    }


def colours(labels: Mapping[int, Label]) -> dict[int | None, Any]:
    """Return a colour per label value; others are white, so that they are seen."""
    table: dict[int | None, Any] = {None: "white", 0: "transparent"}
    return table | {value: label.colour for value, label in labels.items() if value != 0}


def name_labels(layer: Labels, labels: Mapping[int, Label]) -> None:
    """Give a labels layer these names and colours."""
    layer.colormap = colours(labels)
    layer.features = features(labels)
    grid = grid_of(layer.metadata)
    if grid is not None:
        layer.metadata[KEY] = replace(grid, labels=dict(labels))


def features(labels: Mapping[int, Label]) -> dict[str, list[Any]]:
    """Return the names that napari shows in its status bar under the pointer."""
    named = {0: "background"} | {value: label.name for value, label in sorted(labels.items())}
    return {"index": list(named), "name": list(named.values())}


def _series(volume: Volume) -> tuple[Path, str] | None:
    if volume.source is None or volume.series is None:
        return None
    return volume.source, volume.series


def _place(geometry: Geometry) -> dict[str, Any]:
    return {
        "scale": geometry.scale,
        "translate": geometry.translate,
        "units": ("mm",) * 3,
        "axis_labels": AXES,
    }


def _window(array: NDArray[Any]) -> tuple[float, float]:
    """Return intensities to show as black and white: robust against a few bright voxels."""
    step = max(1, round((array.size / _SAMPLE) ** (1 / 3)))
    low, high = np.percentile(array[::step, ::step, ::step], _WINDOW)
    if not low < high:
        low, high = float(array.min()), float(array.max())
    return float(low), float(high if high > low else low + 1.0)
