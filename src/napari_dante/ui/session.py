"""One image that a person works on: its proposal and what they corrected. Qt-free."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Labels
from numpy.typing import NDArray

from napari_dante.corrections.journal import Saved
from napari_dante.errors import TeachError
from napari_dante.evaluate.uncertainty import Doubt, suggest
from napari_dante.jobs.folder import CaseData
from napari_dante.model.spec import Named, further_labels
from napari_dante.ui.keeper import Keeper
from napari_dante.ui.keys import Keys
from napari_dante.ui.layers import grid_of, labels_kwargs, name_labels
from napari_dante.ui.locks import Locks
from napari_dante.ui.states import SliceState
from napari_dante.ui.tracker import Tracker
from napari_dante.ui.words import counted
from napari_dante.volume import Geometry, Label, labels_from_json

if TYPE_CHECKING:
    from napari.components import ViewerModel

__all__ = ["PREVIEW", "Session", "is_ours"]

PREVIEW = "New model (not kept yet)"


def is_ours(layer: Any) -> bool:  # noqa: ANN401
    """Whether a layer is an image whose place in the patient we know."""
    grid = grid_of(layer.metadata)
    return isinstance(layer, Image) and grid is not None and grid.labels is None


class Session:
    """An image layer and, once there is a proposal, its labels layer under a tracker.

    Parameters
    ----------
    viewer
        Holds the layers.
    image
        An image of ours.
    on_change
        Called when a slice may have become edited or approved.
    on_move
        Called when another slice is shown.
    on_failure
        Called, from another thread, with a sentence when the journal cannot be written.
    on_notice
        Called with a sentence about something that is no failure.

    Attributes
    ----------
    volume
        What the list of lessons knows the image by, once that is computed.
    saved
        Corrections of this image that a journal kept from before, and its file.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        image: Image,
        on_change: Callable[[], None],
        on_move: Callable[[], None],
        on_failure: Callable[[str], None],
        on_notice: Callable[[str], None],
    ) -> None:
        grid = grid_of(image.metadata)
        if grid is None:
            raise ValueError("not an image of ours")
        self.image = image
        self.geometry: Geometry = grid.geometry
        self.tracker: Tracker | None = None
        self.locks: Locks | None = None
        self.volume: str | None = None
        self.saved: tuple[Path, Saved] | None = None
        self._doubt: Doubt | None = None
        self._keys: Keys | None = None
        self._keeper: Keeper | None = None
        self._preview: Labels | None = None
        self._viewer = viewer
        self._on_change = on_change
        self._on_move = on_move
        self._on_failure = on_failure
        self._on_notice = on_notice

    @property
    def labels(self) -> Labels | None:
        """The layer that is corrected."""
        return self.tracker.layer if self.tracker is not None else None

    @property
    def table(self) -> Mapping[int, Label]:
        """Name and colour of each label value; empty while there is no proposal."""
        grid = grid_of(self.labels.metadata) if self.labels is not None else None
        return (grid.labels if grid is not None else None) or {}

    @property
    def names(self) -> dict[int, str]:
        """Structure of each label value."""
        return {value: label.name for value, label in self.table.items()}

    @property
    def states(self) -> list[SliceState]:
        """What was done to each slice; empty while there is no proposal."""
        if self.tracker is None:
            return []
        data, record = self.tracker.layer.data, self.tracker.record
        flags = zip(record.approved(data), record.edited(data), record.changed(data), strict=True)
        order = (SliceState.APPROVED, SliceState.EDITED, SliceState.CHANGED)
        return [
            next((state for state, on in zip(order, one, strict=True) if on), SliceState.UNTOUCHED)
            for one in flags
        ]

    @property
    def has_trusted(self) -> bool:
        """Whether there is a slice to learn from."""
        if self.tracker is None:
            return False
        return bool(self.tracker.record.trusted(self.tracker.layer.data).any())

    @property
    def doubt(self) -> NDArray[np.float64] | None:
        """How unsure the model is of each slice; None where it was not asked."""
        if self._doubt is None or self.tracker is None:
            return None
        return self._doubt[self.tracker.record.axis]

    @property
    def suggestions(self) -> list[int]:
        """The slices worth correcting, the best first.

        Where the model was not asked how sure it is, every slice with a mask counts alike.
        """
        if self.tracker is None:
            return []
        data, record = self.tracker.layer.data, self.tracker.record
        doubt = self.doubt
        if doubt is None:
            doubt = np.moveaxis(data, record.axis, 0).any(axis=(1, 2)).astype(np.float64)
        return suggest(doubt, record.trusted(data))

    def go_on(self, step: int) -> None:
        """Show the next suggested slice, or the previous one with -1."""
        order = self.suggestions
        if self.tracker is None or not order:
            self._on_notice("There is no further slice to suggest.")
            return
        current = self.tracker.current
        if self.tracker.on_axis and current in order:
            place = order.index(current) + step
        else:
            place = 0 if step > 0 else -1
        self.tracker.go_to(order[place % len(order)])

    def choose_structure(self, step: int) -> None:
        """Paint with the next structure of the mask, or the previous one with -1."""
        values = sorted(self.table)
        if self.labels is None or not values:
            return
        now = self.labels.selected_label
        place = values.index(now) + step if now in values else 0
        self.labels.selected_label = values[place % len(values)]

    def fill_between(self) -> None:
        """Fill the chosen structure between the corrected or approved slices that show it."""
        if self.tracker is None or self.locks is None:
            return
        value = self.tracker.layer.selected_label
        if value not in self.table:
            self._on_notice("Choose the structure to fill first.")
            return
        filled = self.tracker.fill_between(value, self.locks.values)
        name = self.names[value]
        self._on_notice(
            f"{name} was filled on {counted(len(filled), 'slice')}: look through them and "
            "approve those that are right (A). Ctrl+Z takes it back."
            if filled
            else f"There is nothing to fill: draw {name} on two slices with others between "
            "them, or approve slices that show it."
        )

    def propose(self, mask: NDArray[np.uint8], spec: Named, doubt: Doubt | None = None) -> int:
        """Show a model's mask: a first one as a layer, a later one where nobody corrected.

        A model that knows other structures gets a layer of its own, as does a mask on
        another grid, where the image was replaced; the old one stays.

        Parameters
        ----------
        mask
            Class numbers (z, y, x).
        spec
            Of the model, or what else names its structures.
        doubt
            How unsure the model is of each slice across z, y and x, where it was asked.

        Returns
        -------
        int
            How many slices were kept because they are corrected.
        """
        table = _table(spec)
        known = self.names == {value: label.name for value, label in table.items()}
        if self.tracker is not None and known and self.tracker.layer.data.shape == mask.shape:
            kept = int(self.tracker.record.trusted(self.tracker.layer.data).sum())
            self.tracker.propose(mask)
            self._doubt = doubt
            if self._keeper is not None:
                self._keeper.renew()
            return kept
        self.adopt(self._new_layer(mask.copy(), table))
        self._doubt = doubt
        return 0

    def _new_layer(self, mask: NDArray[Any], table: dict[int, Label]) -> Labels:
        layer = self._viewer.add_labels(mask, **labels_kwargs(self.geometry, table, "Mask"))
        layer.brush_size = 6
        layer.selected_label = 1
        return layer

    def restore(self) -> None:
        """Go on with the corrections that a journal kept."""
        if self.saved is None:
            return
        (path, saved), self.saved = self.saved, None
        table = labels_from_json(saved.labels)
        self.adopt(self._new_layer(saved.baseline.copy(), table))
        if self.tracker is not None and self._keeper is not None:
            self.tracker.restore(saved)
            self._keeper.renew()
            self._keeper.supersede(path)

    def save(self) -> None:
        """Let the journal take in what was corrected; returns at once."""
        if self._keeper is not None:
            self._keeper.note()

    def masks(self) -> list[Labels]:
        """Return the open masks on this image's grid that could be corrected."""
        return [
            layer
            for layer in self._viewer.layers
            if isinstance(layer, Labels)
            and layer is not self._preview
            and (grid := grid_of(layer.metadata)) is not None
            and grid.labels is not None
            and self.geometry.same_grid(grid.geometry)
        ]

    def adopt(self, layer: Labels) -> None:
        """Correct one of :meth:`masks`: it counts as the proposal from now on."""
        self.release()
        self._viewer.layers.selection.active = layer
        self.tracker = Tracker(self._viewer, layer, self._on_change, self._on_move)
        grid = grid_of(layer.metadata)
        table = (grid.labels if grid is not None else None) or {}
        image = np.asarray(self.image.data)
        self._keeper = Keeper(image, self.tracker, table, self._on_failure)
        self.locks = Locks(layer)
        self._keys = Keys(layer, self._actions(self.tracker))

    def _actions(self, tracker: Tracker) -> dict[str, Callable[[], object]]:
        return {
            "A": tracker.toggle_approval,
            "N": lambda: self.go_on(1),
            "Shift-N": lambda: self.go_on(-1),
            "Q": lambda: self.choose_structure(-1),
            "W": lambda: self.choose_structure(1),
            "I": self.fill_between,
        }

    def add_structure(self, name: str) -> int:
        """Add a structure to the mask, beside those of the model; return its label value.

        Raises
        ------
        TeachError
            If there is no mask yet, or the name is empty or taken.
        """
        if self.labels is None or self._keeper is None:
            raise TeachError("First let a model propose a mask, then add a structure to it.")
        name = " ".join(name.split())
        if not name or name in self.names.values():
            raise TeachError("A new structure needs a name of its own.")
        value = max(self.table, default=0) + 1
        if value > np.iinfo(np.uint8).max:
            raise TeachError("A mask can hold 255 structures, no more.")
        table = {**self.table, value: further_labels(tuple(self.table.values()), [name])[0]}
        name_labels(self.labels, table)
        self._keeper.rename(table)
        return value

    def case(self) -> CaseData | None:
        """Return what can be learned from now, None while there is no proposal."""
        if self.tracker is None:
            return None
        data, record = self.tracker.layer.data, self.tracker.record
        return CaseData(
            image=np.asarray(self.image.data),
            labels=data.copy(),
            names=self.names,
            spacing=self.geometry.spacing,
            axis=record.axis,
            trusted=record.trusted(data),
        )

    def preview(self, mask: NDArray[np.uint8], spec: Named) -> None:
        """Show the taught model's mask in a layer of its own that cannot be painted on."""
        self.end_preview()
        selected = self._viewer.layers.selection.active
        kwargs = labels_kwargs(self.geometry, _table(spec), PREVIEW)
        self._preview = self._viewer.add_labels(mask, **kwargs)
        self._preview.editable = False
        if self.labels is not None:
            self.labels.visible = False
        self._viewer.layers.selection.active = selected

    def end_preview(self) -> None:
        """Remove the preview and show the mask again."""
        preview, self._preview = self._preview, None
        if preview is not None and preview in self._viewer.layers:
            self._viewer.layers.remove(preview)
        if preview is not None and self.labels is not None:
            self.labels.visible = True

    @property
    def shown_preview(self) -> Labels | None:
        """The layer that shows the taught model's mask, None where a person removed it."""
        preview = self._preview
        return preview if preview is not None and preview in self._viewer.layers else None

    @property
    def previewing(self) -> bool:
        """Whether the taught model's mask is shown."""
        return self.shown_preview is not None

    def release(self) -> None:
        """Stop following the labels layer; it stays in the viewer."""
        self._doubt = None
        for one in (self._keys, self.locks):
            if one is not None:
                one.release()
        self._keys = self.locks = None
        if self._keeper is not None:
            self._keeper.close()
            self._keeper = None
        if self.tracker is not None:
            self.tracker.detach()
            self.tracker = None


def _table(spec: Named) -> dict[int, Label]:
    return dict(enumerate(spec.labels, start=1))
