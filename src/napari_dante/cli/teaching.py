"""``teach`` and ``run``."""

from __future__ import annotations

import shutil
import tempfile
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from napari_dante.adapt.recipe import recipe_with
from napari_dante.cli.console import emit_json, notice, progress, say
from napari_dante.cli.parser import RECIPE, CaseOption
from napari_dante.errors import JobError, ModelError, TeachError
from napari_dante.files import atomic_path, sha256
from napari_dante.jobs import casebook
from napari_dante.jobs.events import (
    Adjusted,
    Elapsed,
    Event,
    Failed,
    Finished,
    Progress,
    Started,
    Validated,
)
from napari_dante.jobs.folder import CaseData, JobFolder, create_job
from napari_dante.jobs.foreign_job import NO_NEW, ONE_IMAGE, OWN_CODE, create_own_job
from napari_dante.jobs.outcome import outcome_of
from napari_dante.jobs.rehearsal import rehearsal
from napari_dante.jobs.run import run_job
from napari_dante.model.dafne import is_recognised, read_dafne
from napari_dante.model.file import read_header
from napari_dante.model.library import Library
from napari_dante.model.low_rank import LowRank
from napari_dante.model.spec import ArchitectureSpec
from napari_dante.model.trust import trust
from napari_dante.volume import Geometry, LabelMap, match_grid, open_labels, open_volume

__all__ = ["run", "teach"]


def teach(options: Namespace) -> None:
    """Adapt a model and write the new one.

    Slices that an earlier lesson on an image was examined on, here or in the panel, are
    never learned from.
    """
    model = None if options.model is None else Library().resolve(options.model)
    if model is not None and model.suffix.lower() == ".model":
        _teach_own(options, model)
        return
    recipe = recipe_with(options.recipe, dict(options.set))
    if options.adapter_out is not None and not isinstance(recipe, LowRank):
        raise TeachError(f"The recipe '{recipe.method}' leaves no adapter; only LoRA does.")
    spec = None if model is None else read_header(model)[0]
    named = {value: name for value, name in options.new_label if value is not None}
    cases = [_case(case, options.axis, options.series, spec, named) for case in options.case]
    earlier = [_case(CaseOption(*pair), options.axis, None, spec, {}) for pair in options.earlier]
    if model is not None and not options.no_rehearsal:
        earlier += rehearsal(model)
    new_labels = tuple(name for _, name in options.new_label)
    with _job_folder(options) as folder:
        job = create_job(
            folder,
            model,
            [cases[0], *map(casebook.without_exam, cases[1:])],
            recipe,
            options.exam_fraction,
            new_labels,
            earlier,
            frozen_exam=casebook.frozen(cases[0]),
        )
        _learn(job, options.out)
        if options.adapter_out is not None:
            _copy(job.adapter, options.adapter_out)
        _report(job, as_json=options.json)


def _teach_own(options: Namespace, model: Path) -> None:
    """Let a file that only its own code can run learn by that code, once that is allowed.

    The new file may run as the old one may: nothing but its weights and its time differ.
    """
    _check_own(options, model)
    if options.trust_code:
        trust(sha256(model))
    cases = [_case(case, options.axis, options.series, None, {}) for case in options.case]
    with _job_folder(options) as folder:
        frozen = casebook.frozen(cases[0])
        job = create_own_job(folder, model, cases, options.exam_fraction, frozen)
        _learn(job, options.out)
        if (digest := sha256(options.out)) == outcome_of(job).digest:
            trust(digest)
        _report(job, as_json=options.json)


def _learn(job: JobFolder, out: Path) -> None:
    """Run a job, remember it, and write the new model."""
    _follow(job)
    casebook.note(job, "examined")
    _copy(job.candidate, out)


def _copy(source: Path, target: Path) -> None:
    """Copy a file in one step that cannot be seen half done."""
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)


def _check_own(options: Namespace, model: Path) -> None:
    """Refuse what the code inside a file cannot be told."""
    if is_recognised(read_dafne(model)):
        raise ModelError(
            "This Dafne model needs none of its own code here: bring it in with 'napari-dante "
            "model import', and teach what that writes."
        )
    if options.out.suffix.lower() != ".model":
        raise ModelError("A model that runs by its own code is written as a .model file.")
    if options.new_label:
        raise TeachError(f"{NO_NEW}.")
    if len(options.case) > 1:
        raise TeachError(ONE_IMAGE)
    if options.earlier or options.set or options.adapter_out or options.recipe != RECIPE:
        raise TeachError(
            "A model that runs by its own code learns as that code decides, from corrected "
            "slices alone: leave out --recipe, --set, --earlier and --adapter-out."
        )


@contextmanager
def _job_folder(options: Namespace) -> Iterator[Path]:
    """Give the folder that was named, or one that is removed afterwards."""
    if options.job is not None:
        yield options.job
        return
    folder = Path(tempfile.mkdtemp(prefix="napari-dante-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run(options: Namespace) -> None:
    """Run or resume a job folder."""
    job = JobFolder(options.job)
    _follow(job)
    _report(job, as_json=options.json)


def _case(
    option: CaseOption,
    axis: int,
    series: str | None,
    spec: ArchitectureSpec | None,
    named: Mapping[int, str],
) -> CaseData:
    volume = open_volume(option.image, series)
    labels = open_labels(option.labels)
    match_grid(labels, volume)
    display_axis, _ = volume.geometry.stored_axis_to_display(axis)
    if option.slices is None:
        others = tuple(index for index in range(3) if index != display_axis)
        trusted = np.asarray(labels.array.any(axis=others))
    else:
        trusted = np.zeros(volume.array.shape[display_axis], bool)
        trusted[_display_slices(volume.geometry, axis, option.slices)] = True
    return CaseData(
        image=volume.array,
        labels=labels.array,
        names={**_names(labels, spec), **named},
        spacing=volume.geometry.spacing,
        axis=display_axis,
        trusted=trusted,
    )


def _names(labels: LabelMap, spec: ArchitectureSpec | None) -> dict[int, str]:
    if spec is not None:
        return spec.names_for(labels.labels)
    return {value: label.name for value, label in labels.labels.items()}


def _display_slices(geometry: Geometry, axis: int, slices: tuple[int, ...]) -> list[int]:
    size = geometry.stored_shape[axis]
    if slices[-1] >= size:
        raise TeachError(f"There is no slice {slices[-1]}: the image has {size}, counted from 0.")
    return [geometry.stored_slice_to_display(axis, index)[1] for index in slices]


def _follow(job: JobFolder) -> None:
    """Run a job, showing how it goes."""
    for event in run_job(job.path):
        if isinstance(event, Failed):
            raise JobError(event.sentence, event.detail)
        if isinstance(event, Adjusted):
            notice(event.sentence)
        else:
            progress(_line(event), last=isinstance(event, Started | Finished))


def _line(event: Event) -> str:
    if isinstance(event, Started) and event.note:
        return event.note
    if isinstance(event, Started):
        share = 100 * event.trained / event.parameters
        return (
            f"{len(event.learn)} slices to learn from, {len(event.exam)} kept for the exam, "
            f"{share:.0f} % of the weights"
        )
    if isinstance(event, Progress):
        eta = f", {event.eta:.0f} s left" if event.eta is not None else ""
        return f"step {event.step} of {event.total}{eta}"
    if isinstance(event, Elapsed):
        return f"{event.what}, {event.seconds:.0f} s"
    if isinstance(event, Validated):
        return f"step {event.step}: exam Dice {event.mean:.3f}"
    return type(event).__name__.lower()


def _report(job: JobFolder, *, as_json: bool) -> None:
    report = job.report() if job.exam.is_file() else None
    chosen = job.configuration()
    if as_json:
        data: Mapping[str, Any] = {
            "recipe": OWN_CODE if job.own_code else job.recipe().method,
            "network": chosen.sentence if chosen is not None else None,
            "exam": report.to_json() if report else None,
        }
        emit_json(data)
        return
    if chosen is not None:
        say(chosen.sentence)
    if report is None:
        say("The model was adapted; no slice was set aside, so nothing can be said about it.")
        return
    for label in report.labels:
        before, after = (report.mean(when, label=label) for when in ("before", "after"))
        say(f"{label:24s} Dice {_number(before)} → {_number(after)}")
    say(report.sentence)
    if report.earlier_sentence:
        say(report.earlier_sentence)


def _number(value: float | None) -> str:
    return "  -  " if value is None else f"{value:.3f}"
