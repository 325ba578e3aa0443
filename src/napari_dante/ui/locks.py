"""Structures that the brush leaves alone. Qt-free."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from napari.layers import Labels

__all__ = ["Locks"]


class Locks:
    """Keeps what belongs to chosen structures of one labels layer, whatever is painted.

    A locked structure can grow, and nothing is taken from it. napari preserves all labels
    or none. Every tool of its own (brush, eraser, fill, polygon, encircling) asks the layer
    which voxels of a region to write, and locked ones are taken out there, before the step
    is noted for undo.

    Parameters
    ----------
    layer
        The layer; :meth:`release` gives it back as it was.
    """

    def __init__(self, layer: Labels) -> None:
        self._layer = layer
        self._locked: set[int] = set()
        vars(layer)["_apply_mask_to_data"] = self._apply

    @property
    def values(self) -> frozenset[int]:
        """The locked label values."""
        return frozenset(self._locked)

    def toggle(self, value: int) -> None:
        """Lock a structure, or unlock it."""
        self._locked ^= {value}

    def release(self) -> None:
        """Let everything be painted again."""
        vars(self._layer).pop("_apply_mask_to_data")

    def _apply(
        self, data: NDArray[Any], mask: NDArray[np.bool_], new_label: int, place: tuple[slice, ...]
    ) -> NDArray[np.bool_] | None:
        free = mask & ~np.isin(data, list(self._locked)) if self._locked else mask
        written: NDArray[np.bool_] | None = type(self._layer)._apply_mask_to_data(
            self._layer, data, free, new_label, place
        )
        return written
