"""What was known before the lesson: the old model and its mask of the first case."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from napari_dante.evaluate.overlap import dice
from napari_dante.jobs.case import CaseData
from napari_dante.jobs.folder import JobFolder
from napari_dante.model.file import Model, read_model
from napari_dante.model.segmenter import Segmenter
from napari_dante.model.spec import Named

__all__ = ["Before", "class_dice", "look_before"]


@dataclass(frozen=True, eq=False)
class Before:
    """The old model, None where there was none, and what it says of the first case.

    Attributes
    ----------
    base, digest
        The model and the SHA-256 of its file.
    mask
        Class numbers (z, y, x), all background without a model.
    seconds
        What the model took for one window.
    """

    base: Model | None
    digest: str | None
    mask: NDArray[np.uint8]
    seconds: float


def look_before(job: JobFolder, device: torch.device) -> Before:
    """Read the model of a job and let it segment the first case.

    Raises
    ------
    JobError
        If the folder is damaged or holds another model than the one it was made for.
    """
    digest, case = job.base_hash(), job.case()
    if digest is None:
        return Before(None, None, np.zeros(case.image.shape, np.uint8), 0.0)
    base = read_model(job.base)
    windows = 1

    def count(done: int, total: int) -> None:
        nonlocal windows
        windows = total

    begin = time.monotonic()
    mask = Segmenter(base, device).predict(np.asarray(case.image), case.spacing, count)
    return Before(base, digest, mask, (time.monotonic() - begin) / windows)


def class_dice(
    mask: NDArray[np.uint8], case: CaseData, slices: Sequence[int], spec: Named
) -> Mapping[str, float]:
    """Return the Dice on `slices` of each structure of `spec` that the case marks.

    Parameters
    ----------
    mask
        Class numbers of `spec` (z, y, x).
    case
        The reference; structures that `spec` does not know are left out.
    slices
        Indices along the slice axis of the case.
    spec
        The model of the mask.
    """
    answer, labels = (np.take(array, slices, case.axis) for array in (mask, case.labels))
    marked, found = case.annotated(spec), {}
    for index, label in enumerate(spec.labels, start=1):
        values = [value for value, name in case.names.items() if name == label.name]
        score = dice(answer == index, np.isin(labels, values)) if marked[index] else None
        if score is not None:
            found[label.name] = score
    return found
