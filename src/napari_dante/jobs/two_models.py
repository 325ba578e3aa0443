"""Two models on the same corrected slices, neither of which has to be new."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from napari_dante.errors import ModelError
from napari_dante.evaluate.report import ExamReport
from napari_dante.evaluate.split import Split
from napari_dante.jobs.case import CaseData
from napari_dante.jobs.exam import examine_case
from napari_dante.model.dafne import check_same_weights
from napari_dante.model.file import Model
from napari_dante.model.merging import simulate
from napari_dante.model.segmenter import Segmenter

__all__ = ["compare", "merged"]


def merged(server: Model, ours: Model) -> Model:
    """Return what a Dafne server would make of its version and ours.

    Raises
    ------
    ModelError
        If the two have different layouts.
    """
    old, new = (
        {key: torch.from_numpy(np.array(value)) for key, value in model.weights.items()}
        for model in (server, ours)
    )
    check_same_weights(old, new)
    weights = {key: value.numpy() for key, value in simulate(old, new).items()}
    return replace(server, weights=weights)


def compare(
    case: CaseData,
    split: Split,
    before: Model,
    after: Model,
    device: torch.device,
    on_window: Callable[[int, int], None] = lambda done, total: None,
) -> ExamReport | None:
    """Examine two models on the slices of a case that neither learned from.

    Parameters
    ----------
    case, split
        The reference, and which of its slices are examined.
    before, after
        The models; they name the same structures.
    device
        Where to compute.
    on_window
        Called with how much of both predictions is done; what it raises ends them.

    Returns
    -------
    ExamReport or None
        None where no slice was set aside.

    Raises
    ------
    ModelError
        If the models name other structures, or weights do not fit.
    TeachError
        If a slice holds a structure that the models do not know.
    """
    if [label.name for label in before.spec.labels] != [label.name for label in after.spec.labels]:
        raise ModelError("The two models are for other structures, so they cannot be compared.")
    masks = []
    for index, model in enumerate((before, after)):

        def told(done: int, total: int, index: int = index) -> None:
            on_window(index * total + done, 2 * total)

        image = np.asarray(case.image)
        masks.append(Segmenter(model, device).analyse(image, case.spacing, told).classes)
    return examine_case(case, split, before.spec, masks[0], masks[1], ())
