"""From loose slices to one grid, or to the sentence that says why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_dante.errors import VolumeError
from napari_dante.volume.dicom_slice import Slice
from napari_dante.volume.dicom_split import SAME_PLACE_MM
from napari_dante.volume.geometry import Geometry

__all__ = ["Stack", "stack"]

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_GAP_TOLERANCE = 0.01


@dataclass(frozen=True)
class Stack:
    """Slices in the order of their positions, and the grid they form.

    The stored axes are (columns, rows, slices), the affine is to RAS+ mm, and slices run
    along the normal of the images.
    """

    slices: tuple[Slice, ...]
    geometry: Geometry
    problems: tuple[str, ...]


def stack(slices: Sequence[Slice]) -> Stack:
    """Sort slices along their normal and check that they form one regular grid.

    The slices have one size, orientation and pixel spacing (`dicom_split.split`). The gap
    comes from the positions; SliceThickness serves only where there is a single slice and
    thus no gap.

    Raises
    ------
    VolumeError
        A slice is missing or there twice, or the gaps are uneven.
    """
    first = slices[0]
    offsets = np.array([float(one.position @ first.normal) for one in slices])
    order = np.argsort(offsets, kind="stable")
    ordered = tuple(slices[index] for index in order)
    problems = _notes(ordered)
    if len(ordered) == 1:
        step, note = _single_step(first)
        problems += (note,)
    else:
        _check_gaps(offsets[order])
        step, tilted = _step(ordered)
        problems += tilted + _stated_otherwise(first, step)
    affine = np.eye(4)
    affine[:3, 0] = first.along_row * first.spacing[1]
    affine[:3, 1] = first.along_column * first.spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = ordered[0].position
    shape = (first.columns, first.rows, len(ordered))
    return Stack(ordered, Geometry.from_affine(shape, _LPS_TO_RAS @ affine), problems)


def _check_gaps(offsets: NDArray[np.float64]) -> None:
    """Check sorted positions along the normal, in mm."""
    gaps = np.diff(offsets)
    if (gaps < SAME_PLACE_MM).any():
        raise VolumeError(_repeated(offsets))
    usual = float(np.quantile(gaps, 0.5, method="lower"))
    steps = np.maximum(np.rint(gaps / usual), 1.0)
    tolerance = max(SAME_PLACE_MM, _GAP_TOLERANCE * usual)
    uneven = np.abs(gaps - steps * usual) > tolerance * steps
    if uneven.any():
        where = int(np.argmax(uneven))
        raise VolumeError(
            f"The gaps between slices are uneven: {gaps[where]:.2f} mm after "
            f"{offsets[where]:.1f} mm, elsewhere {usual:.2f} mm; the series was not opened."
        )
    if (steps > 1).any():
        raise VolumeError(_missing(offsets, steps.astype(int)))


def _repeated(offsets: NDArray[np.float64]) -> str:
    starts = np.flatnonzero(np.diff(offsets, prepend=-np.inf) >= SAME_PLACE_MM)
    counts = np.diff(starts, append=len(offsets))
    if (counts == counts[0]).all():
        return (
            f"Every slice position is there {counts[0]} times (copies, or several echoes, "
            "phases or time points in one series); the series was not opened."
        )
    where = int(np.argmax(counts))
    return (
        f"The slice at {offsets[starts[where]]:.1f} mm is there {counts[where]} times; the "
        "series was not opened."
    )


def _missing(offsets: NDArray[np.float64], steps: NDArray[np.int64]) -> str:
    total, absent = int(steps.sum()) + 1, int((steps - 1).sum())
    where = int(np.argmax(steps > 1))
    number = int(steps[:where].sum()) + 2
    place = f"between {offsets[where]:.1f} and {offsets[where + 1]:.1f} mm"
    if absent == 1:
        what = f"Slice {number} of {total} is missing {place}"
    else:
        what = f"{absent} of {total} slices are missing, the first is slice {number} {place}"
    return f"{what}; the series was not opened."


def _step(ordered: tuple[Slice, ...]) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Return the vector from slice to slice, LPS mm, and a note where it is slanted."""
    positions = np.array([one.position for one in ordered])
    step: NDArray[np.float64] = (positions[-1] - positions[0]) / (len(ordered) - 1)
    gap = float(step @ ordered[0].normal)
    line = positions[0] + np.arange(len(ordered))[:, None] * step
    if np.linalg.norm(positions - line, axis=1).max() > max(SAME_PLACE_MM * 2, 0.05 * gap):
        raise VolumeError("Its slices do not lie in one line; the series was not opened.")
    aside = float(np.linalg.norm(step - gap * ordered[0].normal))
    if aside <= max(SAME_PLACE_MM, _GAP_TOLERANCE * gap):
        return step, ()
    angle = float(np.degrees(np.arctan2(aside, gap)))
    return step, (f"The slices are slanted by {angle:.1f} degrees; they are shown straight.",)


def _stated_otherwise(one: Slice, step: NDArray[np.float64]) -> tuple[str, ...]:
    """Return a note where the header's distance between slices is not that of positions."""
    gap, length = float(step @ one.normal), float(np.linalg.norm(step))
    tolerance = max(SAME_PLACE_MM, _GAP_TOLERANCE * gap)
    for stated, what in (
        (one.stated_gap, "spacing between slices"),
        (one.thickness, "slice thickness"),
    ):
        if stated > 0:
            # Slanted slices have two distances, and either may be meant.
            if min(abs(stated - gap), abs(stated - length)) <= tolerance:
                return ()
            return (
                f"The header states a {what} of {stated:.3g} mm, but the slices lie {gap:.3g} mm "
                "apart; their positions are used.",
            )
    return ()


def _single_step(one: Slice) -> tuple[NDArray[np.float64], str]:
    if np.isfinite(one.thickness) and one.thickness > 0:
        return one.normal * one.thickness, (
            f"There is one slice only; its spacing is the slice thickness, {one.thickness:g} mm."
        )
    return one.normal.copy(), "There is one slice only, of unknown thickness; 1 mm was taken."


def _notes(ordered: tuple[Slice, ...]) -> tuple[str, ...]:
    notes: tuple[str, ...] = ()
    if any(one.inverted for one in ordered):
        notes += ("The grey values are stored inverted (high is dark).",)
    planned = max(one.planned for one in ordered)
    if planned > len(ordered):
        notes += (
            f"The scanner planned {planned} slices, {len(ordered)} are here; slices may be "
            "missing at the ends.",
        )
    return notes
