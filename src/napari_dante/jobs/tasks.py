"""What the worker can do: predict, teach, export, import, compare, prove."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_dante.adapt.events import Word
from napari_dante.adapt.loop import Cancelled
from napari_dante.errors import JobError, ModelError
from napari_dante.evaluate.report import write_report
from napari_dante.evaluate.split import Split
from napari_dante.evaluate.uncertainty import write_doubt
from napari_dante.files import save_array, sha256, write_text
from napari_dante.jobs.events import Event, Finished, Progress, Ready
from napari_dante.jobs.folder import read_case
from napari_dante.jobs.foreign import predict_foreign
from napari_dante.jobs.requests import (
    Compare,
    Export,
    Import,
    Predict,
    Prove,
    Request,
    Teach,
)
from napari_dante.jobs.run import guarded, run_job
from napari_dante.jobs.two_models import compare, merged
from napari_dante.model.dafne import DafneModel, from_dafne, read_dafne, to_dafne, write_dafne
from napari_dante.model.file import check_name, read_model, write_model
from napari_dante.model.likeness import check_likeness
from napari_dante.model.merging import prove_files
from napari_dante.model.precision import precision
from napari_dante.model.segmenter import Segmenter, choose_device
from napari_dante.model.shelf import shown

__all__ = ["answer", "ready"]

Poll = Callable[[bool], Word | None]


def ready() -> Ready:
    """Return what this process computes with."""
    device = choose_device("auto")
    name = torch.cuda.get_device_name() if device.type == "cuda" else device.type.upper()
    number = str(precision(device)).removeprefix("torch.")
    return Ready(name, number, torch.get_num_threads())


def answer(request: Request, poll: Poll, tell: Callable[[Event], None]) -> Iterator[Event]:
    """Do what is asked and yield events; the last is Finished or Failed.

    Parameters
    ----------
    request
        What to do.
    poll
        Returns the person's next word, or None; waits for one when called with True.
    tell
        Takes an event at once, from the middle of a computation that cannot yield.
    """
    if isinstance(request, Teach):
        return run_job(Path(request.folder), poll)
    if isinstance(request, Predict):
        return guarded(_predict(request, poll, tell))
    if isinstance(request, Export):
        return guarded(_export(request))
    if isinstance(request, Import):
        return guarded(_import(request))
    if isinstance(request, Compare):
        return guarded(_compare(request, poll, tell))
    if isinstance(request, Prove):
        return guarded(_prove(request))
    raise JobError("The worker was asked for something unknown.", detail=repr(request))


def _predict(request: Predict, poll: Poll, tell: Callable[[Event], None]) -> Iterator[Event]:
    begin = time.monotonic()
    folder = Path(request.folder)
    image: NDArray[Any] = np.load(folder / "image.npy", allow_pickle=False)
    if request.model.endswith(".model"):
        foreign = predict_foreign(
            Path(request.model), image, request.spacing, lambda: poll(False) == "cancel"
        )
        write_text(folder / "labels.json", json.dumps(foreign.names))
        save_array(folder / "mask.npy", foreign.classes)
        yield Finished("mask.npy", time.monotonic() - begin)
        return
    segmenter = Segmenter.from_file(Path(request.model), request.device)
    follow = _follow(poll, tell)
    found = segmenter.analyse(image, request.spacing, follow, entropy=request.doubt)
    check_likeness(segmenter.card, found, request.spacing)
    if found.entropy is not None:
        write_doubt(folder / "doubt.npy", found.entropy)
    save_array(folder / "mask.npy", found.classes)
    yield Finished("mask.npy", time.monotonic() - begin)


def _follow(poll: Poll, tell: Callable[[Event], None]) -> Callable[[int, int], None]:
    """Return what tells of each window, and ends the prediction when the person says so."""

    def on_window(done: int, total: int) -> None:
        if poll(False) == "cancel":
            raise Cancelled("The prediction was cancelled.")
        tell(Progress(done, total))

    return on_window


def _compare(request: Compare, poll: Poll, tell: Callable[[Event], None]) -> Iterator[Event]:
    begin = time.monotonic()
    folder = Path(request.folder)
    before, after = read_model(Path(request.before)), read_model(Path(request.after))
    if request.merge:
        after = merged(before, after)
    split = Split(learn=request.learned, exam=request.exam, gap=())
    device = choose_device(request.device)
    report = compare(read_case(folder), split, before, after, device, _follow(poll, tell))
    if report is None:
        raise JobError("There is no slice to examine these models on.")
    write_report(folder / "exam.json", report)
    yield Finished("exam.json", time.monotonic() - begin)


def _prove(request: Prove) -> Iterator[Event]:
    begin = time.monotonic()
    out = Path(request.out)
    files = (Path(path) for path in (request.old, request.update, request.after))
    write_text(out, json.dumps(prove_files(*files)))
    yield Finished(out.name, time.monotonic() - begin)


def _export(request: Export) -> Iterator[Event]:
    begin = time.monotonic()
    base = read_dafne(Path(request.base)) if request.base else None
    out = Path(request.out)
    write_dafne(out, to_dafne(read_model(Path(request.model)), base=base))
    yield Finished(out.name, time.monotonic() - begin)


def _import(request: Import) -> Iterator[Event]:
    begin = time.monotonic()
    out = Path(request.out)
    dafne = read_dafne(Path(request.source))
    model = from_dafne(dafne, request.name or _name_of(dafne, Path(request.source)))
    lineage = replace(model.lineage, server_timestamp=request.server_timestamp)
    write_model(out, replace(model, lineage=lineage), half=False)
    yield Finished(out.name, time.monotonic() - begin)


def _name_of(dafne: DafneModel, path: Path) -> str:
    """Return what a file calls its model, where that can be a name."""
    name = str(dafne.metadata.get("model_name", ""))
    try:
        check_name(name)
    except ModelError:
        return f"Dafne model {shown(sha256(path))}"
    return name
