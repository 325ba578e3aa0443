"""Slices with outlines, as PNG. Torch-free. They show the patient."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["outlined"]

_WIDTH = 360
_TRUTH, _MASK = (255, 255, 255), (230, 159, 0)


def outlined(
    image: NDArray[Any],
    truth: NDArray[Any],
    mask: NDArray[Any],
    spacing: Sequence[float],
    window: tuple[float, float],
) -> bytes:
    """Return a slice with the outlines of the reference (white) and of a mask (orange).

    Parameters
    ----------
    image, truth, mask
        One slice (row, column): intensities and class numbers.
    spacing
        mm per voxel (row, column).
    window
        Intensities shown as black and white.
    """
    low, high = window
    grey = np.clip((image - low) / max(high - low, 1e-9), 0.0, 1.0) * 255
    size = _size(image.shape, spacing)
    canvas = np.asarray(
        Image.fromarray(grey.astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)
    )
    rgb = np.repeat(canvas[:, :, None], 3, axis=2)
    for labels, colour in ((mask, _MASK), (truth, _TRUTH)):
        rgb[_outline(_enlarged(labels, size))] = colour
    stream = io.BytesIO()
    Image.fromarray(rgb).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _size(shape: Sequence[int], spacing: Sequence[float]) -> tuple[int, int]:
    """Return width and height in square pixels."""
    height, width = (count * step for count, step in zip(shape, spacing, strict=True))
    return _WIDTH, max(1, round(_WIDTH * height / width))


def _enlarged(labels: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    rows, columns = (
        np.minimum((np.arange(new) + 0.5) * old / new, old - 1).astype(np.intp)
        for new, old in zip(size[::-1], labels.shape, strict=True)
    )
    return labels[np.ix_(rows, columns)]


def _outline(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Return the pixels whose lower or right neighbour is of another class."""
    edge = np.zeros(labels.shape, np.bool_)
    edge[:-1] |= labels[:-1] != labels[1:]
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    return edge
