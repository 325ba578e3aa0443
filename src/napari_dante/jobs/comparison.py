"""The masks of a finished job against what the person marked. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_dante.evaluate.mistakes import GRADES, SliceScore, distances, mean_dice, mistakes
from napari_dante.jobs.case import CaseData
from napari_dante.jobs.folder import JobFolder
from napari_dante.jobs.outcome import outcome_of
from napari_dante.model.spec import Named

__all__ = ["Comparison", "When", "compare"]

When = Literal["before", "after"]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Old and new mask on the trusted slices of the first case of a job.

    Attributes
    ----------
    case
        Cut down to its trusted slices.
    slices, exam
        Their indices along the axis of `case`, and which of them are examined.
    shape
        Of the whole volume (z, y, x).
    spec
        The new model.
    truth, before, after
        Class numbers of `spec` on the trusted slices; structures that the case does not
        mark are background in all three.
    """

    case: CaseData
    slices: tuple[int, ...]
    exam: tuple[int, ...]
    shape: tuple[int, ...]
    spec: Named
    truth: NDArray[np.uint8]
    before: NDArray[np.uint8]
    after: NDArray[np.uint8]

    @property
    def classes(self) -> dict[int, str]:
        """Name of each class number that the case marks."""
        marked = self.case.annotated(self.spec)
        numbered = enumerate(self.spec.labels, start=1)
        return {index: label.name for index, label in numbered if marked[index]}

    def mask(self, when: When) -> NDArray[np.uint8]:
        """Return the mask of the old or the new model on the trusted slices."""
        return self.before if when == "before" else self.after

    def plane(self, array: NDArray[Any], index: int) -> NDArray[Any]:
        """Return slice `index` of the volume from an array of the trusted slices."""
        plane: NDArray[Any] = np.take(array, self.slices.index(index), self.case.axis)
        return plane

    def mistakes(self, when: When) -> NDArray[np.uint8]:
        """Return what one of the models gets wrong, on the whole volume (z, y, x).

        It is 0 outside the trusted slices, where nobody said what would be right.
        """
        return self._whole(mistakes(self.mask(when), self.truth))

    def grades(self, when: When) -> NDArray[np.uint8]:
        """Return how gross each mistake is, on the whole volume (z, y, x).

        It counts how many of :data:`~napari_dante.evaluate.mistakes.GRADES` its distance,
        within the slice, exceeds.
        """
        axis = self.case.axis
        row, column = (step for other, step in enumerate(self.case.spacing) if other != axis)
        planes = zip(
            np.moveaxis(self.mask(when), axis, 0), np.moveaxis(self.truth, axis, 0), strict=True
        )
        found = [
            np.searchsorted(GRADES, distances(mask, truth, (row, column))) for mask, truth in planes
        ]
        return self._whole(np.stack(found, axis).astype(np.uint8))

    def _whole(self, found: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return what was found on the trusted slices in its place in the volume."""
        out = np.zeros(self.shape, np.uint8)
        np.moveaxis(out, self.case.axis, 0)[list(self.slices)] = np.moveaxis(
            found, self.case.axis, 0
        )
        return out

    def scores(self) -> tuple[SliceScore, ...]:
        """Return the mean Dice of each trusted slice under both models."""
        return tuple(self._score(index) for index in self.slices)

    def _score(self, index: int) -> SliceScore:
        truth, numbers = self.plane(self.truth, index), tuple(self.classes)
        before, after = (
            mean_dice(self.plane(mask, index), truth, numbers) for mask in (self.before, self.after)
        )
        return SliceScore(index, index in self.exam, before, after)


def compare(job: JobFolder) -> Comparison:
    """Return the comparison of a finished job.

    Raises
    ------
    JobError
        If the job is not finished or is damaged.
    """
    masks = [job.mask(when) for when in ("before", "after")]
    spec = outcome_of(job).spec
    whole, split = job.case(), job.split()
    slices = tuple(int(index) for index in np.flatnonzero(whole.trusted))
    case = whole.cut(slices)
    marked = np.array(case.annotated(spec))
    before, after = (
        np.where(marked[planes], planes, 0).astype(np.uint8)
        for planes in (np.take(mask, slices, whole.axis) for mask in masks)
    )
    return Comparison(
        case, slices, split.exam, whole.image.shape, spec, case.classes(spec), before, after
    )
