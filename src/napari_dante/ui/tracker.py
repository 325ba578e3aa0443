"""Keeps the record of corrections of one labels layer in step with the layer. Qt-free."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray

from napari_dante.corrections import CorrectionRecord
from napari_dante.corrections.between import between
from napari_dante.corrections.journal import Saved

if TYPE_CHECKING:
    from napari.components import ViewerModel

__all__ = ["Tracker"]


class Tracker:
    """Listens to a labels layer and keeps its :class:`CorrectionRecord`.

    Parameters
    ----------
    viewer
        Tells which slice a person looks at.
    layer
        A three-dimensional labels layer holding the model's proposal.
    on_change
        Called after anything that may change which slices are edited or approved. napari
        announces a stroke *before* the array changes, so look at the layer later, not in
        the call.
    on_move
        Called when another slice is shown or another label is painted: the labels are
        what they were.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        layer: Labels,
        on_change: Callable[[], None],
        on_move: Callable[[], None],
    ) -> None:
        self.layer = layer
        self._viewer = viewer
        self._on_change = on_change
        self._on_move = on_move
        self._muted = False
        self._refreshed = False
        self.record = CorrectionRecord(layer.data, self.view_axis or 0)
        layer.events.paint.connect(self._painted)
        layer.events.data.connect(self._replaced)
        viewer.dims.events.order.connect(self._turned)
        viewer.dims.events.ndisplay.connect(self._turned)
        viewer.dims.events.current_step.connect(self._moved)
        layer.events.set_data.connect(self._set_refreshed)
        layer.events.selected_label.connect(self._moved)
        vars(layer).update(undo=self._undo, redo=self._redo)

    def detach(self) -> None:
        """Stop listening."""
        dims = self._viewer.dims.events
        self.layer.events.paint.disconnect(self._painted)
        self.layer.events.data.disconnect(self._replaced)
        self.layer.events.set_data.disconnect(self._set_refreshed)
        self.layer.events.selected_label.disconnect(self._moved)
        dims.order.disconnect(self._turned)
        dims.ndisplay.disconnect(self._turned)
        dims.current_step.disconnect(self._moved)
        for name in ("undo", "redo"):
            vars(self.layer).pop(name)

    @property
    def view_axis(self) -> int | None:
        """The layer's axis across which slices are shown now, None in 3D."""
        dims = self._viewer.dims
        hidden = [axis - (dims.ndim - self.layer.ndim) for axis in dims.not_displayed]
        return hidden[-1] if dims.ndisplay == 2 and hidden[-1] >= 0 else None

    @property
    def on_axis(self) -> bool:
        """Whether the person looks at the slices that corrections are counted on."""
        return self.view_axis == self.record.axis

    @property
    def current(self) -> int:
        """Index of the shown slice along the record's axis."""
        point = self.layer.world_to_data(self._viewer.dims.point[-self.layer.ndim :])
        index = round(float(point[self.record.axis]))
        return min(max(index, 0), self.record.size - 1)

    def go_to(self, index: int) -> None:
        """Show slice `index`, turning the view to the record's axis first if need be."""
        dims = self._viewer.dims
        axis = self.record.axis + dims.ndim - self.layer.ndim
        if not self.on_axis:
            dims.ndisplay = 2
            dims.order = (axis, *(other for other in sorted(dims.order) if other != axis))
        position = [0.0] * self.layer.ndim
        position[self.record.axis] = index
        dims.set_point(axis, self.layer.data_to_world(position)[self.record.axis])

    def toggle_approval(self) -> bool:
        """Approve the shown slice, or take its approval back.

        Returns
        -------
        bool
            False where the view is across other slices than those counted.
        """
        if self.record.empty and self.view_axis is not None:
            self.record.turn(self.view_axis)
        if not self.on_axis:
            return False
        index = self.current
        if self.record.approved(self.layer.data)[index]:
            self.record.unapprove(index)
        else:
            self.record.approve(index, self.layer.data)
        self._on_change()
        return True

    def propose(self, mask: NDArray[Any]) -> int:
        """Write a model's mask where nobody corrected, as one step that can be undone.

        Parameters
        ----------
        mask
            The model's class numbers, the layer's shape.

        Returns
        -------
        int
            How many voxels changed.
        """
        free = self.record.free(self.layer.data)
        where = np.nonzero(free & (self.layer.data != mask))
        with self._mute():
            self.layer.data_setitem(where, mask[where].astype(self.layer.data.dtype))
        changed = len(where[0])
        self.record.rebase(self.layer.data, free, step=changed > 0)
        self._on_change()
        return changed

    def fill_between(self, value: int, locked: Collection[int]) -> list[int]:
        """Fill a structure between the slices that are right, as one step to be undone.

        What is filled is kept against the model, but nobody has looked at it yet: a filled
        slice is learned from once it is approved.

        Parameters
        ----------
        value
            The structure.
        locked
            Structures whose voxels stay what they are.

        Returns
        -------
        list of int
            The slices that changed, ascending.
        """
        data, axis = self.layer.data, self.record.axis
        along = np.moveaxis(data, axis, 0)
        right = np.flatnonzero(self.record.trusted(data)).tolist()
        row, column = (float(step) for step in np.delete(self.layer.scale, axis))
        filled = between({index: along[index] == value for index in right}, (row, column))
        if not filled:
            return []
        slices, wanted = np.array(list(filled)), np.stack(list(filled.values()))
        now = along[slices]
        changed = (wanted != (now == value)) & ~np.isin(now, list(locked))
        if not changed.any():
            return []
        number, *plane = np.nonzero(changed)
        plane.insert(axis, slices[number])
        where = tuple(plane)
        with self._mute():
            self.layer.data_setitem(where, np.where(wanted[changed], value, 0).astype(data.dtype))
        self.record.note([(where, None, None)], on_axis=False)
        self._on_change()
        return [int(index) for index in slices[changed.any(axis=(1, 2))]]

    def restore(self, saved: Saved) -> None:
        """Bring back what a journal tells, on a layer that holds the proposal untouched.

        Parameters
        ----------
        saved
            Its baseline is what the layer holds.
        """
        self.record.turn(saved.axis)
        data = saved.data
        along = [1, 1, 1]
        along[saved.axis] = -1
        edited = np.zeros(self.record.size, dtype=np.bool_)
        edited[[entry.index for entry in saved.slices.values() if entry.edited]] = True
        for on_axis in (True, False):
            wanted = (edited == on_axis).reshape(along)
            where = np.nonzero(wanted & (data != saved.baseline))
            if len(where[0]):
                with self._mute():
                    self.layer.data_setitem(where, data[where])
                self.record.note([(where, None, None)], on_axis=on_axis)
        for entry in saved.slices.values():
            if entry.approved:
                self.record.approve(entry.index, self.layer.data)
        self._on_change()

    @contextmanager
    def _mute(self) -> Iterator[None]:
        self._muted = True
        try:
            yield
        finally:
            self._muted = False

    def _painted(self, event: Any) -> None:  # noqa: ANN401
        if self._muted:
            return
        if self.record.empty and self.view_axis is not None:
            self.record.turn(self.view_axis)
        self.record.note(event.value, on_axis=self.on_axis)
        self._on_change()

    def _replaced(self, event: Any) -> None:  # noqa: ANN401
        """Take in a whole new array: kept against the model, trusted only when approved.

        napari keeps the undo history although it belongs to the old array, and would write
        old voxels into the new one; making the layer read-only for a moment clears it.
        """
        mode = self.layer.mode
        self.layer.editable = False
        self.layer.editable = True
        self.layer.mode = mode
        data = self.layer.data
        if data.shape == self.record.shape:
            where = np.nonzero(self.record.corrections(data, full=True).mask)
            self.record.note([(where, None, None)], on_axis=False)
        else:
            self.record = CorrectionRecord(data, self.view_axis or 0)
        self._on_change()

    def _turned(self) -> None:
        if self.record.empty and self.view_axis is not None:
            self.record.turn(self.view_axis)
        self._on_change()

    def _moved(self) -> None:
        self._on_move()

    def _undo(self) -> None:
        self._repeat(type(self.layer).undo, self.record.undone)

    def _redo(self) -> None:
        self._repeat(type(self.layer).redo, self.record.redone)

    def _repeat(self, step: Callable[[Labels], None], tell: Callable[[], None]) -> None:
        """Undo or redo; napari announces it by nothing but a refresh, where there is one."""
        self._refreshed = False
        step(self.layer)
        if self._refreshed:
            tell()
            self._on_change()

    def _set_refreshed(self) -> None:
        self._refreshed = True
