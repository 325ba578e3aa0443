"""Whether a model seems to be made for an image at all. Qt-free."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from napari_dante.model.spec import ArchitectureSpec

__all__ = ["misfit"]

_FACTOR = 3.0
_TIMES = "\N{NO-BREAK SPACE}\N{MULTIPLICATION SIGN}\N{NO-BREAK SPACE}"


def misfit(spec: ArchitectureSpec | None, spacing: Sequence[float], mask: NDArray[Any]) -> str:
    """Return what a person should know about a proposal, empty where nothing is odd.

    Parameters
    ----------
    spec
        The model; None for one that does not say what it is made for.
    spacing
        mm per voxel of the image (z, y, x).
    mask
        What the model found in it.
    """
    if not mask.any():
        names = ", ".join(label.name for label in spec.labels) if spec is not None else ""
        named = f" ({names})" if names else ""
        return (
            f"The model found none of its structures here{named}: it may be for another part "
            "of the body or another kind of image. Choose another model, or paint a few slices "
            "and teach it."
        )
    if spec is None:
        return ""
    ratios = [mine / its for mine, its in zip(spacing, spec.spacing, strict=True)]
    if all(1 / _FACTOR < ratio < _FACTOR for ratio in ratios):
        return ""
    return (
        f"This model was made for voxels of {_size(spec.spacing)}, and this image has "
        f"{_size(spacing)}: look at the mask with care, and teach it."
    )


def _size(spacing: Sequence[float]) -> str:
    """Return mm that stay on one line."""
    return _TIMES.join(f"{step:.3g}" for step in spacing) + "\N{NO-BREAK SPACE}mm"
