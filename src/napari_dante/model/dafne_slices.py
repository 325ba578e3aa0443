"""What a Dafne client hands over for a two-dimensional model, as volumes of one slice.

Its text is part of the generated Dafne functions of a model that is called slice by slice;
see :mod:`.dafne_source`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["ORIENTATIONS", "one_slice", "several_slices"]

ORIENTATIONS = ("axial", "coronal", "sagittal")
"""What Dafne calls a model that sees the slices across z, y or x."""

RUNS = ("RPI", "RIP", "PSR")
"""Where the rows, the columns and the stack of such slices run to."""


def slice_affine(axis: int, resolution: Sequence[float]) -> np.ndarray:
    """Return the affine (4x4, to RAS+ mm) of one slice (rows, columns, 1) across `axis`.

    No network here looks along the stack, so that its step is 1 mm means nothing.
    """
    steps = [*(float(step) for step in list(resolution)[:2]), 1.0]
    affine = np.diag([0.0, 0.0, 0.0, 1.0])
    for column, (letter, step) in enumerate(zip(RUNS[axis], steps, strict=True)):
        world = "LRPAIS".index(letter) // 2
        affine[world, column] = step if letter in "RAS" else -step
    return affine


def one_slice(data: Mapping[str, Any], axis: int) -> dict[str, Any]:
    """Return ``image`` (rows, columns) and its ``resolution`` as a volume with an affine."""
    image = np.asarray(data["image"])[:, :, None]
    return {"image": image, "affine": slice_affine(axis, data["resolution"])}


def several_slices(
    data: Mapping[str, Any], outputs: Mapping[int, Any] | Sequence[Any], axis: int
) -> tuple[dict[str, Any], list[dict[str, np.ndarray]]]:
    """Return the slices of ``image_list`` and their masks as volumes (1, rows, columns)."""
    images = [np.asarray(image)[None] for image in data["image_list"]]
    masks = [
        {name: np.asarray(mask)[None] for name, mask in outputs[index].items()}
        for index in range(len(images))
    ]
    return {"image_list": images, "affine": slice_affine(axis, data["resolution"])}, masks
