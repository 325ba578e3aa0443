"""Names and colours of labels from a file of ITK-SNAP or 3D Slicer. Qt-free."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from napari.layers import Labels

from napari_dante.errors import VolumeError
from napari_dante.ui.layers import KEY, colours, features, grid_of
from napari_dante.volume import LABEL_FILES, read_label_file

__all__ = ["get_label_names_reader"]

Paths = str | Sequence[str]
NOTHING_TO_ADD: list[tuple[None]] = [(None,)]
"""What napari takes for a file that brings no layer."""


def get_label_names_reader(path: Paths) -> Callable[[Paths], list[tuple[None]]] | None:
    """Return what gives the selected labels layer the names and colours of a file."""
    fits = isinstance(path, str | Path) and str(path).lower().endswith(LABEL_FILES)
    return _name if fits else None


def _name(path: Paths) -> list[tuple[None]]:
    """Give the selected labels layer the names and colours of a file.

    Raises
    ------
    VolumeError
        No labels layer is selected, or the file holds no names.
    """
    from napari import current_viewer

    viewer = current_viewer()
    layer = viewer.layers.selection.active if viewer is not None else None
    if not isinstance(layer, Labels):
        raise VolumeError("Select the labels layer that these names are for, then open the file.")
    grid = grid_of(layer.metadata)
    known = (grid.labels if grid is not None else None) or {}
    labels = {**known, **read_label_file(str(path))}
    layer.colormap = colours(labels)
    layer.features = features(labels)
    if grid is not None:
        layer.metadata[KEY] = replace(grid, labels=labels)
    return NOTHING_TO_ADD
