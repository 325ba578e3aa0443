"""Which voxels and slices a person corrected, seen from what the model had proposed.

A stroke only ever *adds* to the touched voxels; a correction is a touched voxel that
differs from the baseline (what the model wrote there). Undoing a stroke brings the
baseline's value back and thereby takes the correction away: no event is needed for it.
A model's own write is a step of the same undo history, so the record counts steps to know
whether that write is in force.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CorrectionRecord", "Corrections"]

Box = tuple[slice, slice, slice]
Limits = tuple[tuple[int, int], tuple[int, int]]

_TOUCHED = 1
_TOUCHED_ON_AXIS = 2


@dataclass(frozen=True, eq=False)
class Corrections:
    """Corrected voxels: True in `mask`, which covers the part `box` of the volume."""

    box: Box
    mask: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class _Rewrite:
    """A model's write: undo step number, flat voxel indices, baseline before and after."""

    step: int
    where: NDArray[np.int64]
    old: NDArray[Any]
    new: NDArray[Any]


class CorrectionRecord:
    """What a person did to one label array, axes (z, y, x).

    Every question takes the label array as it is now; the record keeps no reference to it.

    Parameters
    ----------
    baseline
        What the model proposed; copied.
    axis
        The axis whose slices are corrected and approved, 0 to 2.
    """

    def __init__(self, baseline: NDArray[Any], axis: int = 0) -> None:
        self._baseline = np.array(baseline, order="C")
        self._touched = np.zeros(baseline.shape, dtype=np.uint8)
        self._boxes: dict[int, Limits] = {}
        self._approved: dict[int, NDArray[Any]] = {}
        self._rewrites: list[_Rewrite] = []
        self._step = 0
        self._axis = axis

    @property
    def axis(self) -> int:
        """The axis whose slices are corrected and approved."""
        return self._axis

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the label array (z, y, x)."""
        return self._baseline.shape

    @property
    def baseline(self) -> NDArray[Any]:
        """What the model proposed, read-only."""
        view = self._baseline.view()
        view.flags.writeable = False
        return view

    @property
    def empty(self) -> bool:
        """Whether nothing was ever painted or approved."""
        return not self._boxes and not self._approved

    @property
    def size(self) -> int:
        """How many slices there are along the axis."""
        return int(self._baseline.shape[self._axis])

    def turn(self, axis: int) -> None:
        """Correct along another axis from now on; only while the record is empty."""
        if not self.empty:
            raise ValueError("corrections are counted along one axis")
        self._axis = axis

    def note(self, atoms: Sequence[Any], *, on_axis: bool = True) -> None:
        """Take in one undoable step of the person's.

        Parameters
        ----------
        atoms
            What napari's ``paint`` event carries: a list of boxes with a mask
            (``slice_key``, ``mask``), of index tuples (``indices, old, new``), or both.
        on_axis
            Whether the person looked at slices along `axis`. Strokes across them are kept,
            but do not make all the slices they cross slices to learn from.
        """
        self._step += 1
        self._forget_undone()
        value = _TOUCHED | (_TOUCHED_ON_AXIS if on_axis else 0)
        touched: dict[tuple[int, int], Limits] = {}  # a stroke is hundreds of boxes
        for atom in atoms:
            if hasattr(atom, "slice_key"):
                limits = self._touch_box(atom.slice_key, atom.mask, value)
            elif atom[0][0].size:
                limits = self._touch_voxels(atom[0], value)
            else:
                continue
            along = limits.pop(self._axis)
            touched[along] = _around(touched.get(along), limits)
        for along, (row, column) in touched.items():
            for index in range(*along):
                self._boxes[index] = _around(self._boxes.get(index), [row, column])

    def undone(self) -> None:
        """Take in that one step was taken back, the person's or the model's."""
        self._step -= 1
        for rewrite in self._rewrites:
            if rewrite.step == self._step + 1:
                self._baseline.reshape(-1)[rewrite.where] = rewrite.old

    def redone(self) -> None:
        """Take in that one step taken back is in force again."""
        self._step += 1
        for rewrite in self._rewrites:
            if rewrite.step == self._step:
                self._baseline.reshape(-1)[rewrite.where] = rewrite.new

    def rebase(self, data: NDArray[Any], written: NDArray[np.bool_], *, step: bool) -> None:
        """Take in that a model wrote: the new baseline where it did is what stands there.

        Parameters
        ----------
        data
            The label array after the write.
        written
            Where the model wrote, same shape.
        step
            Whether the write is a step of the undo history.
        """
        if step:
            self._step += 1
            self._forget_undone()
        where = np.flatnonzero(written & (self._baseline != data))
        flat = self._baseline.reshape(-1)
        rewrite = _Rewrite(self._step, where, flat[where].copy(), data.reshape(-1)[where].copy())
        flat[where] = rewrite.new
        if step:
            self._rewrites.append(rewrite)

    def approve(self, index: int, data: NDArray[Any]) -> None:
        """Take slice `index` as right the way it is in `data`."""
        self._approved[index] = self._plane(index, data).copy()

    def approval(self, index: int) -> NDArray[Any] | None:
        """Return slice `index` as it was approved; the same array until it is approved anew."""
        return self._approved.get(index)

    def unapprove(self, index: int) -> None:
        """Take back the approval of slice `index`; no approval is no error."""
        self._approved.pop(index, None)

    def approved(self, data: NDArray[Any]) -> NDArray[np.bool_]:
        """Return, per slice, whether it is what was approved, unchanged."""
        flags = np.zeros(self.size, dtype=np.bool_)
        for index, plane in self._approved.items():
            flags[index] = np.array_equal(self._plane(index, data), plane)
        return flags

    def edited(self, data: NDArray[Any]) -> NDArray[np.bool_]:
        """Return, per slice, whether the person's strokes on it still stand."""
        flags = np.zeros(self.size, dtype=np.bool_)
        for index, box in self._slices():
            marked = self._touched[box] & _TOUCHED_ON_AXIS
            if marked.any():
                flags[index] = bool(
                    (marked.view(np.bool_) & (data[box] != self._baseline[box])).any()
                )
        return flags

    def trusted(self, data: NDArray[Any]) -> NDArray[np.bool_]:
        """Return, per slice, whether it may be learned from: edited or approved."""
        return self.edited(data) | self.approved(data)

    def corrections(self, data: NDArray[Any], *, full: bool = False) -> Corrections:
        """Return the corrected voxels.

        Parameters
        ----------
        data
            The label array as it is now.
        full
            Compare the whole volume and count every difference, even where no stroke was
            seen: this finds what other programs wrote directly into the array.
        """
        if full:
            whole = slice(None), slice(None), slice(None)
            return Corrections(whole, data != self._baseline)
        box = self._dirty()
        return Corrections(box, (self._touched[box] != 0) & (data[box] != self._baseline[box]))

    def changed(self, data: NDArray[Any]) -> NDArray[np.bool_]:
        """Return, per slice, whether any correction stands on it, from whatever view."""
        flags = np.zeros(self.size, dtype=np.bool_)
        for index, box in self._slices():
            differs = data[box] != self._baseline[box]
            flags[index] = bool((self._touched[box].astype(np.bool_) & differs).any())
        return flags

    def free(self, data: NDArray[Any]) -> NDArray[np.bool_]:
        """Return where a model may write: uncorrected voxels of slices not to learn from."""
        free = np.ones(data.shape, dtype=np.bool_)
        corrected = self.corrections(data)
        free[corrected.box] = ~corrected.mask
        along = np.moveaxis(free, self._axis, 0)
        along[self.trusted(data)] = False
        return free

    def _dirty(self) -> Box:
        """Return the smallest box around everything that was ever touched."""
        if not self._boxes:
            return slice(0, 0), slice(0, 0), slice(0, 0)
        parts = [slice(min(self._boxes), max(self._boxes) + 1)]
        rows, columns = zip(*self._boxes.values(), strict=True)
        for low, high in (zip(*rows, strict=True), zip(*columns, strict=True)):
            parts.append(slice(min(low), max(high)))
        return self._box(*parts)

    def _slices(self) -> Iterator[tuple[int, Box]]:
        """Yield each slice that was touched, cut to what was touched there."""
        for index, (row, column) in self._boxes.items():
            yield index, self._box(slice(index, index + 1), slice(*row), slice(*column))

    def _box(self, along: slice, row: slice, column: slice) -> Box:
        parts = [row, column]
        parts.insert(self._axis, along)
        return parts[0], parts[1], parts[2]

    def _plane(self, index: int, data: NDArray[Any]) -> NDArray[Any]:
        plane: NDArray[Any] = np.moveaxis(data, self._axis, 0)[index]
        return plane

    def _forget_undone(self) -> None:
        """End the redo history: rewrites taken back before a new step never return."""
        self._rewrites = [one for one in self._rewrites if one.step < self._step]

    def _touch_box(
        self, box: Box, mask: NDArray[np.bool_] | None, value: int
    ) -> list[tuple[int, int]]:
        """Mark voxels of a box; return its limits along each axis."""
        part = self._touched[box]
        part |= np.uint8(value) if mask is None else mask * np.uint8(value)
        return [(side.start, side.stop) for side in box]

    def _touch_voxels(self, indices: Sequence[NDArray[Any]], value: int) -> list[tuple[int, int]]:
        """Mark voxels, one at least; return the limits of the box around them."""
        self._touched[tuple(indices)] |= np.uint8(value)
        return [(int(one.min()), int(one.max()) + 1) for one in indices]


def _around(box: Limits | None, other: Sequence[tuple[int, int]]) -> Limits:
    """Return the smallest box around two on a slice, or the second where there is one only."""
    (top, bottom), (left, right) = other
    if box is not None:
        (upper, lower), (first, last) = box
        top, bottom, left, right = (
            min(top, upper),
            max(bottom, lower),
            min(left, first),
            max(right, last),
        )
    return (top, bottom), (left, right)
