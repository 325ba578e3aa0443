"""An image, a label map, and whether one belongs to the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dante.errors import VolumeError
from napari_dante.volume.geometry import Geometry, by

__all__ = [
    "Label",
    "LabelMap",
    "Volume",
    "default_label",
    "labels_from_json",
    "labels_to_json",
    "match_grid",
    "smallest_label_type",
]

# The seven hues of Okabe and Ito, "Color universal design" (2008), without black.
_PALETTE = (
    (0.902, 0.624, 0.0),
    (0.337, 0.706, 0.914),
    (0.0, 0.620, 0.451),
    (0.941, 0.894, 0.259),
    (0.0, 0.447, 0.698),
    (0.835, 0.369, 0.0),
    (0.800, 0.475, 0.655),
)


@dataclass(frozen=True)
class Label:
    """The name and colour of one label value.

    Parameters
    ----------
    name
        What the structure is called.
    colour
        Red, green and blue from 0 to 1.
    """

    name: str
    colour: tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Volume:
    """One three-dimensional image.

    Parameters
    ----------
    array
        Voxel values in display order (z, y, x).
    geometry
        Where the voxels are.
    modality
        Such as ``"MR"``; ``"unknown"`` where the file does not say.
    name
        A neutral name for the layer list; it never tells who the patient is.
    source
        Where the image was read from. It never leaves the machine.
    series
        The id of the DICOM series that it is, None where it is not from DICOM.
    problems
        What the person should know about the file, one sentence each.

    Raises
    ------
    VolumeError
        The array has not the display shape of the geometry.
    """

    array: NDArray[Any] = field(repr=False)
    geometry: Geometry
    modality: str = "unknown"
    name: str = "MRI"
    source: Path | None = field(default=None, repr=False)
    series: str | None = None
    problems: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_fits(self.array, self.geometry)


@dataclass(frozen=True, eq=False)
class LabelMap:
    """One whole number per voxel: which structure it belongs to; 0 is none.

    Parameters
    ----------
    array
        Integers in display order (z, y, x).
    geometry
        Where the voxels are.
    labels
        Name and colour per value.
    problems
        What the person should know about the file, one sentence each.

    Raises
    ------
    VolumeError
        The array has not the display shape of the geometry, or is not of integers.
    """

    array: NDArray[Any] = field(repr=False)
    geometry: Geometry
    labels: Mapping[int, Label]
    problems: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_fits(self.array, self.geometry)
        if self.array.dtype.kind not in "iu":
            raise VolumeError("A label map holds whole numbers only.")


def _check_fits(array: NDArray[Any], geometry: Geometry) -> None:
    if array.shape != geometry.shape:
        raise VolumeError(
            f"The array is {by(array.shape)} voxels, its geometry says {by(geometry.shape)}."
        )


def match_grid(labels: LabelMap, volume: Volume) -> None:
    """Refuse labels whose voxels are not the voxels of the image.

    Raises
    ------
    VolumeError
        The shapes differ, or a corner lies more than 1e-3 mm apart.
    """
    mine, theirs = labels.geometry, volume.geometry
    if mine.same_grid(theirs):
        return
    shapes = f"labels {by(mine.stored_shape)}, image {by(theirs.stored_shape)}"
    if mine.stored_shape != theirs.stored_shape:
        raise VolumeError(f"The labels are not on the grid of the image: {shapes} voxels.")
    raise VolumeError(
        f"The labels are not on the grid of the image: {shapes} voxels, but they lie at "
        "another place, spacing or orientation."
    )


def smallest_label_type(low: int, high: int) -> np.dtype[Any]:
    """Return the smallest of uint8, int16 and int32 that holds `low` to `high`.

    Raises
    ------
    VolumeError
        None of them does.
    """
    for candidate in (np.uint8, np.int16, np.int32):
        limits = np.iinfo(candidate)
        if limits.min <= low and high <= limits.max:
            return np.dtype(candidate)
    raise VolumeError("The label values are too large; they must fit in 32 bits.")


def default_label(value: int) -> Label:
    """Return the name and colour of a value nobody has named.

    The colour depends on the value alone, so a structure keeps it from file to file. The
    seven hues can be told apart with every common colour blindness; they come back
    lighter, then darker, for higher values.
    """
    turn, hue = divmod(value - 1, len(_PALETTE))
    red, green, blue = _PALETTE[hue]
    if turn % 3 == 1:
        red, green, blue = ((part + 1.0) / 2.0 for part in (red, green, blue))
    elif turn % 3 == 2:
        red, green, blue = (part * 0.6 for part in (red, green, blue))
    return Label(f"label {value}", (round(red, 4), round(green, 4), round(blue, 4)))


def labels_to_json(labels: Mapping[int, Label]) -> list[dict[str, Any]]:
    """Return a label table as JSON values, ordered by label value."""
    return [
        {"value": int(value), "name": label.name, "colour": list(label.colour)}
        for value, label in sorted(labels.items())
    ]


def labels_from_json(table: Iterable[Any]) -> dict[int, Label]:
    """Return the label table that `labels_to_json` wrote.

    Raises
    ------
    VolumeError
        The table is not one.
    """
    labels = {}
    try:
        for row in table:
            red, green, blue = (float(part) for part in row["colour"])
            labels[int(row["value"])] = Label(str(row["name"]), (red, green, blue))
    except (TypeError, ValueError, KeyError, IndexError, OverflowError):
        raise VolumeError("The table of label names cannot be read.") from None
    return labels
