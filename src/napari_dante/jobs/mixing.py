"""Models between the old and the new one of a finished job, and their exams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from napari_dante.adapt.mix import mixed
from napari_dante.adapt.monitor import Monitor
from napari_dante.adapt.recipe import recipe_from_json
from napari_dante.errors import JobError
from napari_dante.evaluate.report import ExamReport
from napari_dante.jobs.earlier import EarlierCase, dice, retained
from napari_dante.jobs.exam import examine_case
from napari_dante.jobs.folder import JobFolder
from napari_dante.jobs.grids import case_grid
from napari_dante.jobs.start import prepared
from napari_dante.model.file import Model, read_model, write_model
from napari_dante.model.segmenter import Segmenter, choose_device

__all__ = ["SHARES", "Mixture", "examine_mixtures", "write_mixture"]

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Mixture:
    """A model between two, and its mean Dice.

    Attributes
    ----------
    share
        Weight of the new model.
    exam
        Mean Dice on the exam slices, None without an exam.
    earlier
        Mean Dice on the slices of earlier cases that are not rehearsed, None without any.
    """

    share: float
    exam: float | None
    earlier: float | None


def examine_mixtures(path: Path, shares: Sequence[float] = SHARES) -> list[Mixture]:
    """Return the exams of models between the old and the new one of the job in `path`.

    Raises
    ------
    JobError
        If the job is not finished, or had no model to begin with.
    ModelError
        If `shares` is out of range, or the models cannot be mixed.
    """
    job = JobFolder(path)
    old, new = _ends(job)
    device = choose_device(job.recipe().training.device)
    case = job.case()
    monitor = Monitor(case_grid(case, job.split().exam, new.spec), new.spec, case.axis)
    earlier = [EarlierCase.of(one, new.spec) for one in job.earlier()]
    found = []
    for share in shares:
        network = Segmenter(mixed(old, new, share), device).network
        exam = monitor.look(network).dice
        kept = [score for scores in dice(earlier, network) for score in scores.values()]
        found.append(Mixture(share, _mean(list(exam.values())), _mean(kept)))
    return found


def write_mixture(path: Path, share: float, target: Path) -> ExamReport | None:
    """Write the model with this share of the new one to `target`; return its exam.

    Raises
    ------
    JobError, ModelError
        See :func:`examine_mixtures`.
    """
    job = JobFolder(path)
    old, new = _ends(job)
    mixture = mixed(old, new, share)
    device = choose_device(job.recipe().training.device)
    segmenter, case = Segmenter(mixture, device), job.case()
    after = segmenter.predict(np.asarray(case.image), case.spacing)
    earlier = [EarlierCase.of(one, new.spec) for one in job.earlier()]
    known = dice(earlier, Segmenter(old, device).network)
    kept = retained(known, dice(earlier, segmenter.network))
    report = examine_case(case, job.split(), new.spec, job.mask("before"), after, kept)
    recipe = {**(new.lineage.recipe or {}), "share_of_new": share}
    exam = None if report is None else report.summary()
    lineage = new.lineage.child(job.base_hash(), recipe, exam, new.lineage.cases)
    write_model(target, replace(mixture, lineage=lineage))
    return report


def _mean(scores: list[float]) -> float | None:
    return float(np.mean(scores)) if scores else None


def _ends(job: JobFolder) -> tuple[Model, Model]:
    """Return the model before and after the lesson, of one shape."""
    if not job.candidate.is_file() or job.last.is_file():
        raise JobError("This job is not finished, so there is nothing to mix yet.")
    if job.base_hash() is None or job.configuration() is not None:
        raise JobError("A model from scratch has no old version to be mixed with.")
    new, base = read_model(job.candidate), read_model(job.base)
    recipe = recipe_from_json(new.lineage.recipe or {})
    return prepared(base, job.new_labels(), recipe), new
