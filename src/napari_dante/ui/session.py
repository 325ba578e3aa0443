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
from napari_dante.jobs.folder import CaseData
from napari_dante.model.spec import ArchitectureSpec, further_labels
from napari_dante.ui.keeper import Keeper
from napari_dante.ui.layers import grid_of, labels_kwargs, name_labels
from napari_dante.ui.states import SliceState
from napari_dante.ui.tracker import Tracker
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
    ) -> None:
        grid = grid_of(image.metadata)
        if grid is None:
            raise ValueError("not an image of ours")
        self.image = image
        self.geometry: Geometry = grid.geometry
        self.tracker: Tracker | None = None
        self.volume: str | None = None
        self.saved: tuple[Path, Saved] | None = None
        self._keeper: Keeper | None = None
        self._preview: Labels | None = None
        self._viewer = viewer
        self._on_change = on_change
        self._on_move = on_move
        self._on_failure = on_failure

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
        pairs = zip(record.approved(data), record.edited(data), strict=True)
        return [
            SliceState.APPROVED
            if approved
            else SliceState.EDITED
            if edited
            else SliceState.UNTOUCHED
            for approved, edited in pairs
        ]

    def propose(self, mask: NDArray[np.uint8], spec: ArchitectureSpec) -> int:
        """Show a model's mask: a first one as a layer, a later one where nobody corrected.

        A model that knows other structures gets a layer of its own, as does a mask on
        another grid, where the image was replaced; the old one stays.

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
            if self._keeper is not None:
                self._keeper.renew()
            return kept
        self.adopt(self._new_layer(mask.copy(), table))
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

    def preview(self, mask: NDArray[np.uint8], spec: ArchitectureSpec) -> None:
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
        if self._keeper is not None:
            self._keeper.close()
            self._keeper = None
        if self.tracker is not None:
            self.tracker.detach()
            self.tracker = None


def _table(spec: ArchitectureSpec) -> dict[int, Label]:
    return dict(enumerate(spec.labels, start=1))
