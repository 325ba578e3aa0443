"""The report of a finished job. Torch-free."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from napari_dante.adapt.recipe import RECIPES
from napari_dante.errors import JobError
from napari_dante.evaluate.page import page
from napari_dante.evaluate.pictures import outlined
from napari_dante.evaluate.run_report import Picture, RunReport
from napari_dante.files import write_text
from napari_dante.jobs.comparison import Comparison, compare
from napari_dante.jobs.course import read_curve, read_events
from napari_dante.jobs.events import Event, Started
from napari_dante.jobs.folder import JobFolder
from napari_dante.jobs.outcome import outcome_of
from napari_dante.volume.geometry import VIEWS

__all__ = ["FORMATS", "pictures_of", "report_of", "write_run"]

FORMATS = (".html", ".csv", ".json")
PICTURES = 3
_WINDOW = (0.5, 99.5)


def report_of(job: JobFolder) -> RunReport:
    """Return the report of a finished job, without pictures.

    Raises
    ------
    JobError
        If the job is not finished or is damaged.
    """
    if not job.candidate.is_file() or job.last.is_file():
        raise JobError("This job is not finished, so there is nothing to report yet.")
    comparison, events = compare(job), read_events(job)
    lineage = outcome_of(job).lineage
    return RunReport(
        model=lineage.name,
        date=lineage.created[:10],
        software=lineage.software,
        method=_method(job, events),
        view=VIEWS[comparison.case.axis],
        structures=tuple(comparison.classes.values()),
        learned=job.split().learn,
        exam=job.report() if job.exam.is_file() else None,
        slices=comparison.scores(),
        curve=read_curve(events),
    )


def pictures_of(comparison: Comparison) -> tuple[Picture, ...]:
    """Return pictures of up to three exam slices: the first, a middle and the last one."""
    exam = [index for index in comparison.exam if index in comparison.slices]
    chosen = np.linspace(0, len(exam) - 1, min(PICTURES, len(exam))).round().astype(int)
    image = np.asarray(comparison.case.image)
    low, high = np.percentile(image, _WINDOW)
    window = float(low), float(high)
    return tuple(_picture(comparison, exam[place], window) for place in chosen)


def _picture(comparison: Comparison, index: int, window: tuple[float, float]) -> Picture:
    case = comparison.case
    spacing = [step for axis, step in enumerate(case.spacing) if axis != case.axis]
    # Axes run towards superior: the head is up where slices hold that axis.
    turn = slice(None, None, -1 if case.axis != 0 else 1)
    image, truth = (
        comparison.plane(array, index)[turn] for array in (case.image, comparison.truth)
    )
    before, after = (
        outlined(image, truth, comparison.plane(mask, index)[turn], spacing, window)
        for mask in (comparison.before, comparison.after)
    )
    return Picture(index, before, after)


def write_run(target: Path, report: RunReport) -> None:
    """Write a report; the suffix says as what: a page, a table or JSON.

    Raises
    ------
    JobError
        If it is none of them.
    """
    suffix = target.suffix.lower()
    if suffix == ".html":
        write_text(target, page(report))
    elif suffix == ".csv":
        write_text(target, report.to_csv())
    elif suffix == ".json":
        write_text(target, json.dumps(report.to_json(), indent=1))
    else:
        raise JobError(f"A report is one of: {', '.join(FORMATS)}.")


def _method(job: JobFolder, events: list[Event]) -> str:
    started = next((event for event in reversed(events) if isinstance(event, Started)), None)
    if started is not None and started.note:
        return started.note
    title = RECIPES[started.method if started is not None else job.recipe().method].title
    return f"{title}, at most {job.recipe().training.steps} steps."
