"""One corrected volume, and whether something can be learned from it. Torch-free."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dante.adapt.fingerprint import is_blank
from napari_dante.errors import TeachError
from napari_dante.evaluate.split import split_slices
from napari_dante.model.spec import Named

__all__ = ["CaseData", "check_all_marked", "check_cases"]


@dataclass(frozen=True, eq=False)
class CaseData:
    """One corrected volume, arrays in display order (z, y, x).

    Attributes
    ----------
    image
        Intensities, any numeric type.
    labels
        Label values; meaningful on the trusted slices.
    names
        Structure of each label value; structures are matched to the model by name.
    spacing
        mm per voxel (z, y, x).
    axis
        Slice axis of `trusted`.
    trusted
        bool for each slice along `axis`.
    """

    image: NDArray[Any]
    labels: NDArray[Any]
    names: Mapping[int, str]
    spacing: tuple[float, float, float]
    axis: int
    trusted: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if self.image.ndim != 3:
            raise TeachError("Only a volume of one channel can be learned from.")
        if self.image.shape != self.labels.shape:
            raise TeachError("The labels are not on the grid of the image.")
        if self.trusted.shape != (self.image.shape[self.axis],):
            raise TeachError("There must be one entry for each slice, trusted or not.")

    def cut(self, slices: Sequence[int]) -> CaseData:
        """Return the case with nothing but `slices`, all of them trusted."""
        return replace(
            self,
            image=np.take(self.image, slices, self.axis),
            labels=np.take(self.labels, slices, self.axis),
            trusted=np.ones(len(slices), np.bool_),
        )

    def structures(self, slices: Sequence[int] | None = None) -> tuple[str, ...]:
        """Return the names of what is marked in `slices`, by default in all trusted ones."""
        chosen = np.flatnonzero(self.trusted) if slices is None else list(slices)
        values = np.unique(np.take(self.labels, chosen, self.axis)).tolist()
        return tuple(self._name(value) for value in values if value != 0)

    def _name(self, value: int) -> str:
        return self.names.get(value, f"label {value}")

    def annotated(self, spec: Named) -> tuple[bool, ...]:
        """Tell for each class of `spec`, the background first, whether this case marks it.

        A structure that is not in the label table was not looked for: its absence says
        nothing, and what it covers may be called background here.
        """
        marked = {*self.names.values(), *self.structures()}
        return (True, *(label.name in marked for label in spec.labels))

    def check_known(self, names: Collection[str]) -> None:
        """Refuse a structure on a trusted slice that is not among `names`.

        Raises
        ------
        TeachError
            If there is one.
        """
        unknown = next((name for name in self.structures() if name not in names), None)
        if unknown is not None:
            raise TeachError(
                f"The model does not know '{unknown}'; it knows: {', '.join(names)}. "
                "Rename the label, remove it from the corrected slices, or let the model learn "
                f"it as a new one (--new-label '{unknown}')."
            )

    def classes(self, spec: Named) -> NDArray[np.uint8]:
        """Return the labels as class numbers of `spec`, matched by name.

        Raises
        ------
        TeachError
            If a trusted slice holds a structure that the model does not know.
        """
        numbers = {label.name: index for index, label in enumerate(spec.labels, start=1)}
        self.check_known(numbers)
        out = np.zeros(self.labels.shape, np.uint8)
        for value in np.unique(self.labels).tolist():
            if value != 0 and self._name(value) in numbers:
                out[self.labels == value] = numbers[self._name(value)]
        return out


def check_cases(
    cases: Sequence[CaseData],
    known: Sequence[str],
    new_labels: Sequence[str],
    exam: float,
    frozen: Collection[int] = (),
) -> None:
    """Refuse what cannot be learned from.

    Parameters
    ----------
    cases
        The first one is examined.
    known, new_labels
        Structures that the model knows, and those that it shall learn.
    exam
        Share of the first case's trusted slices that is kept for the exam.
    frozen
        Its exam slices of earlier lessons.

    Raises
    ------
    TeachError
        If a structure is unknown, an image is blank, or nothing is left to learn.
    """
    for case in cases:
        case.check_known((*known, *new_labels))
        if is_blank(case.image):
            raise TeachError("An image is empty: all its voxels have one and the same value.")
    first, *others = cases
    learned = set(first.structures(split_slices(first.trusted, exam, frozen=frozen).learn))
    learned.update(name for case in others for name in case.structures())
    if not learned:
        raise TeachError(
            "The corrected slices to learn from hold no structure, so there is nothing to learn."
        )
    missing = [name for name in new_labels if name not in learned and name not in known]
    if known and missing:
        raise TeachError(
            f"No slice to learn from shows the new structure '{missing[0]}'; check its name, "
            "or correct a slice that shows it."
        )


def check_all_marked(cases: Sequence[CaseData], known: Sequence[str]) -> None:
    """Refuse to train a model from scratch for structures that no case marks.

    Raises
    ------
    TeachError
        If there is one: the model would name it and know nothing of it.
    """
    marked = {name for case in cases for name in case.names.values()}
    missing = [name for name in known if name not in marked]
    if missing:
        raise TeachError(
            f"No case marks '{missing[0]}', so a model from scratch cannot learn it; train one "
            "for the structures of the cases alone, without the old model."
        )
