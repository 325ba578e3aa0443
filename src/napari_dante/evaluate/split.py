"""Which trusted slices are learned from, and which are kept for the exam. Torch-free."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_dante.errors import TeachError

__all__ = ["Split", "split_slices"]


@dataclass(frozen=True)
class Split:
    """Slice indices, ascending: learned from, examined, and left out as the gap."""

    learn: tuple[int, ...]
    exam: tuple[int, ...]
    gap: tuple[int, ...]


def split_slices(
    trusted: NDArray[np.bool_], fraction: float, gap: int = 1, frozen: Collection[int] = ()
) -> Split:
    """Set aside a contiguous run of the trusted slices.

    Neighbouring slices look alike, so a random split would let the exam leak. The exam is
    one run of consecutive trusted slices, and trusted slices within `gap` of it are used
    for neither. Of all runs of the wanted length, the most central is taken, where every
    structure is likely to be present; but none that costs more slices than another by
    over a twentieth of all.

    Slices that an earlier lesson was examined on stay the exam: they are never learned
    from, nor what lies within `gap` of them. Only where none of them is trusted any more
    is a new run set aside.

    Parameters
    ----------
    trusted
        Which slices are trusted, bool (slices,).
    fraction
        Share of the trusted slices for the exam, 0 (no exam) to below 1.
    gap
        Slices on either side of the exam that are not learned from.
    frozen
        Exam slices of earlier lessons on the same volume.

    Raises
    ------
    TeachError
        If no slice is trusted, or nothing would be left to learn from.
    """
    if not 0 <= fraction < 1:
        raise TeachError("The share of slices for the exam must be at least 0 and below 1.")
    slices = [int(index) for index in np.flatnonzero(trusted)]
    if not slices:
        raise TeachError(
            "There is nothing to learn from yet: correct or approve at least one slice."
        )
    if frozen:
        kept = _keep_frozen(slices, frozen, gap)
        if kept.exam or not kept.learn:
            return _checked(kept if fraction else replace(kept, exam=()))
        slices = list(kept.learn)
    wanted = int(len(slices) * fraction + 0.5)
    wanted = min(wanted, len(slices) - 1)
    if wanted == 0:
        return Split(tuple(slices), (), ())
    runs = [slices[start : start + wanted] for start in range(len(slices) - wanted + 1)]
    candidates = [_split(slices, run, gap) for run in runs]
    usable = [split for split in candidates if split.learn]
    if not usable:
        raise TeachError(
            "The corrected slices lie too close together to keep one aside for the exam: "
            "correct a slice further away."
        )
    middle = (slices[0] + slices[-1]) / 2
    dearest = min(len(split.gap) for split in usable) + len(slices) // 20
    cheap = [split for split in usable if len(split.gap) <= dearest]
    return min(cheap, key=lambda s: (abs((s.exam[0] + s.exam[-1]) / 2 - middle), len(s.gap)))


def _keep_frozen(slices: list[int], frozen: Collection[int], gap: int) -> Split:
    near = {index + step for index in frozen for step in range(-gap, gap + 1)}
    exam = tuple(index for index in slices if index in frozen)
    learn = tuple(index for index in slices if index not in near)
    return Split(
        learn, exam, tuple(index for index in slices if index in near and index not in exam)
    )


def _checked(split: Split) -> Split:
    if not split.learn:
        raise TeachError(
            "The corrected slices are those of this image's exam, or next to them, and are "
            "never learned from: correct slices further away."
        )
    return split


def _split(slices: list[int], run: list[int], gap: int) -> Split:
    near = [
        index for index in slices if index not in run and run[0] - gap <= index <= run[-1] + gap
    ]
    learn = [index for index in slices if index not in run and index not in near]
    return Split(tuple(learn), tuple(run), tuple(near))
