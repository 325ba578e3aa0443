"""The Dice of a starter on a labelled head, in the words of its model card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dante.evaluate.overlap import dice
from napari_dante.model.segmenter import Segmenter
from napari_dante.volume import LabelMap
from training.anatomy import STRUCTURES, TISSUES, classes_of, structure_of, tissue_of

__all__ = ["HEADLINE", "Case", "Scores", "headline", "references", "score"]

HEADLINE = {"brain-tissue": "grey and white matter", "brain-structures": "17 structures"}
"""Of which structures the one number of a head is the mean."""


@dataclass(frozen=True)
class Case:
    """A head and what is known of it.

    Attributes
    ----------
    image
        (z, y, x) in display order.
    spacing
        mm per voxel.
    truth
        Masks (z, y, x) by the name of a structure; a model is measured on those it knows.
    """

    image: NDArray[Any]
    spacing: tuple[float, float, float]
    truth: Mapping[str, NDArray[np.bool_]]


@dataclass(frozen=True)
class Scores:
    """Dice by the name of a structure, and how much in doubt the model was of its mask."""

    dice: Mapping[str, float]
    doubt: float = 0.0

    def __str__(self) -> str:
        values = "  ".join(f"{name} {value:.3f}" for name, value in self.dice.items())
        return f"{headline(self):.3f}  ({values})  doubt {self.doubt:.3f}"


def headline(scores: Scores) -> float:
    """Return the mean over the structures, without CSF: its border is a matter of taste.

    SAMSEG calls all fluid up to the skull CSF, MNI's maps only what lies in the brain mask.
    """
    return float(np.mean([value for name, value in scores.dice.items() if name != "CSF"]))


def references(labels: LabelMap) -> dict[str, NDArray[np.bool_]]:
    """Return the masks of a whole-head map of FreeSurfer ids by structure and by tissue.

    ``white matter`` of the structures is the cerebral one, that of the tissues is all;
    the latter's masks carry the prefix ``tissue:``.
    """
    classes = classes_of(labels.array)
    structures, tissues = structure_of()[classes], tissue_of()[classes]
    return {
        **{name: structures == k for k, name in enumerate(STRUCTURES, start=1)},
        **{f"tissue:{name}": tissues == k for k, name in enumerate(TISSUES, start=1)},
    }


def score(segmenter: Segmenter, case: Case) -> tuple[NDArray[np.uint8], Scores]:
    """Return the mask of a model and its Dice; what is in neither mask has none."""
    said = segmenter.analyse(case.image, case.spacing)
    mask = said.classes
    names = [label.name for label in segmenter.spec.labels]
    prefix = "tissue:" if tuple(names) == TISSUES else ""
    found = {
        name: dice(mask == value, case.truth[prefix + name])
        for value, name in enumerate(names, start=1)
        if prefix + name in case.truth
    }
    known = {name: value for name, value in found.items() if value is not None}
    return mask, Scores(known, said.doubt)
