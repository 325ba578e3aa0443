"""A job for a model that runs by its own code. Torch-free.

The folder is that of :mod:`napari_dante.jobs.folder`, with ``base.model`` and ``best.model``
instead of the models of ours, and ``own.json``, see :mod:`napari_dante.jobs.outcome`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from napari_dante.errors import JobError, TeachError
from napari_dante.files import atomic_path, sha256, write_text
from napari_dante.jobs.case import CaseData, check_cases
from napari_dante.jobs.folder import JobFolder, check_free, write_case
from napari_dante.model.file import check_name
from napari_dante.model.shelf import name_of
from napari_dante.model.trust import check_trusted

__all__ = ["NO_NEW", "ONE_IMAGE", "OWN_CODE", "create_own_job"]

OWN_CODE = "own code"
"""The method of such a lesson, in its events and in the history of what came of it."""

NO_NEW = "A model that runs by its own code cannot learn new structures"

ONE_IMAGE = (
    "A model that runs by its own code learns from one image at a time, because Dafne tells it "
    "the voxel size of one image only."
)


def create_own_job(
    folder: Path,
    model: Path,
    cases: Sequence[CaseData],
    exam_fraction: float = 0.3,
    frozen_exam: Sequence[int] = (),
    name: str = "",
) -> JobFolder:
    """Write a job folder; ``job.json`` comes last, so a half-written one is not a job.

    Parameters
    ----------
    folder
        Where to write it.
    model
        A ``.model`` file whose code a person has allowed to run.
    cases
        What to learn from; one.
    exam_fraction
        Share of the trusted slices that is kept for the exam.
    frozen_exam
        Slices that an earlier lesson was examined on: they stay its exam.
    name
        What the model is called; by default after its SHA-256.

    Raises
    ------
    UnsafeFile
        If nobody has allowed the code of this file to run.
    TeachError
        If there is nothing to learn, or more than one image to learn from.
    JobError
        If the folder already holds a job.
    """
    check_free(folder)
    if len(cases) != 1:
        raise TeachError(ONE_IMAGE)
    digest = check_trusted(model)
    case, name = cases[0], name or name_of(digest)
    check_name(name)
    check_cases([case], case.structures(), (), exam_fraction, frozen_exam)
    job = JobFolder(folder)
    write_case(folder / "cases" / "0", case)
    with atomic_path(folder / "base.model") as temporary:
        shutil.copyfile(model, temporary)
        if sha256(temporary) != digest:
            raise JobError("The model file has changed meanwhile; try again.")
    description = {
        "software": version("napari-dante"),
        "own_code": name,
        "base": digest,
        "exam_fraction": exam_fraction,
        "frozen_exam": list(frozen_exam),
    }
    write_text(folder / "job.json", json.dumps(description, indent=1))
    return job
