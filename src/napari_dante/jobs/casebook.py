"""The list of what was taught, by the key that the journal knows an image by. Torch-free."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_dante.corrections.journal import volume_key
from napari_dante.corrections.place import journal_folder, salt
from napari_dante.errors import DanteError
from napari_dante.jobs.cases import CaseBook, Taught
from napari_dante.jobs.folder import CaseData, JobFolder
from napari_dante.jobs.outcome import outcome_of

__all__ = ["frozen", "key_of", "note", "without_exam"]

_log = logging.getLogger("napari_dante")


def key_of(image: NDArray[Any]) -> str | None:
    """Return what an image is known by; it takes as long as hashing it does.

    None where the disk keeps no salt, and so no list either.
    """
    try:
        return volume_key(image, salt(journal_folder()))
    except OSError as error:
        _log.error("The list of what was taught cannot be kept: %s", error.strerror)
        return None


def frozen(case: CaseData) -> tuple[int, ...]:
    """Return the slices of a case that are never learned from.

    Raises
    ------
    TeachError
        If they are slices of another axis.
    """
    volume = key_of(np.asarray(case.image))
    return CaseBook().frozen(volume, case.axis) if volume is not None else ()


def without_exam(case: CaseData) -> CaseData:
    """Return a case that trusts none of the slices that are never learned from.

    Raises
    ------
    TeachError
        If they are slices of another axis.
    """
    trusted = case.trusted.copy()
    trusted[list(frozen(case))] = False
    return replace(case, trusted=trusted)


def note(job: JobFolder, what: Literal["examined", "kept"], volume: str | None = None) -> None:
    """Remember the lesson of a finished job.

    Parameters
    ----------
    job
        It.
    what
        What became of it.
    volume
        What its image is known by, where that was computed before.
    """
    try:
        case, split = job.case(), job.split()
        lineage = outcome_of(job).lineage
        volume = volume or key_of(np.asarray(case.image))
        if volume is not None:
            model, axis = lineage.model_id, case.axis
            CaseBook().add(Taught(volume, model, axis, split.learn, split.exam, what))
    except (OSError, DanteError) as error:
        _log.error("The list of what was taught cannot be written: %s", type(error).__name__)
