"""The keys of correcting, on the labels layer that is corrected. Qt-free."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari.layers import Labels

__all__ = ["KEYS", "Keys"]

KEYS = {
    "A": "approve the slice, or take that back",
    "N": "next suggested slice",
    "Shift-N": "previous suggested slice",
    "Q": "previous structure",
    "W": "next structure",
    "I": "fill between the slices",
}
"""What our keys do, besides those of napari."""


class Keys:
    """Binds :data:`KEYS` to one layer.

    Parameters
    ----------
    layer
        Has the keys as long as it is selected.
    actions
        What each key of :data:`KEYS` calls.
    """

    def __init__(self, layer: Labels, actions: Mapping[str, Callable[[], object]]) -> None:
        self._layer = layer
        self._bound = tuple(actions)
        for key, act in actions.items():
            layer.bind_key(key, _pressed(act), overwrite=True)

    def release(self) -> None:
        """Give the keys back."""
        for key in self._bound:
            self._layer.bind_key(key, None)


def _pressed(act: Callable[[], object]) -> Callable[[Labels], None]:
    def pressed(_: Labels) -> None:
        act()

    return pressed
