"""The whole loop on a real head, driven through the real window.

Predict a T2 head with a model that only knows T1, paint the truth into five axial slices
through the Labels layer's own editing calls, teach, look at the exam, keep, start a server
on the loopback interface, push, and see the server's new version.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari._qt import qt_main_window
from numpy.typing import NDArray
from qtpy.QtCore import QTimer

from napari_dante.errors import JobError, ShareError
from napari_dante.evaluate.overlap import dice
from napari_dante.federated.client import DafneClient
from napari_dante.federated.credentials import ENVIRONMENT
from napari_dante.files import write_text
from napari_dante.model.library import Library
from napari_dante.ui.app import window_with_panel
from napari_dante.ui.dock import DanteDock
from napari_dante.ui.pump import event_loop_pauses, pump, wait_for
from napari_dante.ui.samples import SAMPLES, sample_path
from napari_dante.volume import LabelMap, open_labels, write_nifti

if TYPE_CHECKING:
    from napari import Viewer

__all__ = ["SLICES", "Demo", "run_headless"]

MODEL = "brain-tissue-t1"
SLICES = (25, 35, 45, 55, 65)
"""Axial slices that are corrected, in display order, evenly spread over the brain."""


def run_headless(out: Path) -> dict[str, Any]:
    """Drive the demo, write pictures and ``demo.json`` to `out`, and return the figures.

    Raises
    ------
    DanteError
        If a step fails; what was written until then stays in `out`.
    """
    out.mkdir(parents=True, exist_ok=True)
    # A notice of napari's about its own future would cover the pictures.
    qt_main_window.SHOW_QT_WARNING = False
    viewer, dock = window_with_panel(Library(out / "library"))
    try:
        return Demo(viewer, dock, out).run()
    finally:
        viewer.close()


@dataclass
class Demo:
    """One run of the demo in an open window."""

    viewer: Viewer
    dock: DanteDock
    out: Path
    seconds: dict[str, float] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)

    def run(self) -> dict[str, Any]:
        """Do everything and return what goes into ``demo.json``."""
        self.viewer.window.resize(1366, 768)
        truth = open_labels(sample_path("mni152_tissue"))
        steps: list[tuple[str, Callable[[], None]]] = [
            ("open", self._open),
            ("predict", self._predict),
            ("correct", lambda: self._correct(truth)),
            ("teach", lambda: self._teach(truth)),
            ("keep", self._keep),
            ("push", self._push),
        ]
        for number, (name, step) in enumerate(steps, start=1):
            if name == "teach":
                self.figures["event_loop_gap_ms"] = {"idle": self._scroll(lambda: pump(3000))}
            begin = time.monotonic()
            step()
            self.seconds[name] = round(time.monotonic() - begin, 2)
            self._picture(f"{number}_{name}")
        self.figures["seconds"] = self.seconds
        write_text(self.out / "demo.json", json.dumps(self.figures, indent=1))
        return self.figures

    def _open(self) -> None:
        controller = self.dock.controller
        name = SAMPLES["mni152_t2"]
        self._wait(
            controller.opened, lambda: controller.open_volume(sample_path("mni152_t2"), name=name)
        )
        controller.choose_model(MODEL)
        self._show(SLICES[2])

    def _predict(self) -> None:
        self._wait(self.dock.controller.predicted, self.dock.predict.predict.click)
        self._show(SLICES[2])

    def _correct(self, truth: LabelMap) -> None:
        session = self.dock.controller.session
        if session is None or session.tracker is None or session.labels is None:
            raise JobError("There is no proposal to correct.")
        layer = session.labels
        self.viewer.layers.selection.active = layer
        self.figures["slices"] = {"corrected": SLICES, "axis": 0}
        for index in SLICES:
            session.tracker.go_to(index)
            for value in np.unique(truth.array[index]):
                wrong = (truth.array[index] == value) & (layer.data[index] != value)
                where = np.nonzero(wrong)
                layer.data_setitem((np.full(len(where[0]), index), *where), int(value))
            if index in SLICES[:3]:
                session.tracker.toggle_approval()
            pump(200)
        grid = session.geometry
        write_nifti(
            self.out / "corrected.nii.gz", np.asarray(layer.data), grid, truth_labels(truth)
        )

    def _teach(self, truth: LabelMap) -> None:
        controller = self.dock.controller
        halfway = QTimer(self.dock)
        halfway.setSingleShot(True)
        halfway.timeout.connect(lambda: self._picture("3_while_teaching"))
        halfway.start(12_000)
        busy = self._scroll(lambda: self._wait(controller.taught, self.dock.teach.teach.click))
        self.figures["event_loop_gap_ms"]["teaching"] = busy
        lesson = controller.lesson
        if lesson is None or lesson.report is None:
            raise JobError("The lesson ended without an exam.")
        rest = np.setdiff1d(np.arange(len(truth.array)), SLICES)
        names = {number: label.name for number, label in truth_labels(truth).items()}
        self.figures["dice"] = {
            when: _scores(lesson.job.mask(when), truth.array, rest, names)
            for when in ("before", "after")
        }
        self.figures["slices"] |= {"learned": lesson.report.learned, "exam": lesson.report.exam}
        self.figures["exam"] = lesson.report.summary() | {"sentence": lesson.report.sentence}
        self._show(SLICES[2] + 5)
        self.dock.result.look.click()
        shutil.copyfile(lesson.job.candidate, self.out / "taught.safetensors")
        shutil.copyfile(lesson.job.exam, self.out / "exam.json")

    def _keep(self) -> None:
        self._wait(self.dock.controller.kept, self.dock.result.keep.click)
        self._show(SLICES[2] + 5)

    def _push(self) -> None:
        controller, share = self.dock.controller, self.dock.share
        with _server(self.out / "server") as url:
            share.url.setText(url)
            self._wait(controller.checked, share.check.click)
            share.push.click()
            self._picture("6_before_push")
            self._wait(controller.pushed, share.sure.click)
            receipt = controller.receipt
            if receipt is None or receipt.after_timestamp is None:
                raise ShareError("The server did not merge the weights.")
            with DafneClient(url, os.environ[ENVIRONMENT]) as client:
                latest = client.info(MODEL).latest
        self.figures["server"] = {"before": receipt.before_timestamp, "after": latest}

    def _wait(self, done: Any, start: Callable[[], None]) -> None:  # noqa: ANN401
        """Start something and run the event loop until it is done or has failed."""
        wait_for(done, self.dock.controller.failed, start)
        pump(300)

    def _scroll(self, run: Callable[[], None]) -> dict[str, float]:
        """Return the pauses of the window while `run` runs and the person scrolls."""
        slices = self.viewer.dims.nsteps[0]

        def scroll() -> None:
            self._show((self.viewer.dims.current_step[0] + 1) % slices)

        pauses = event_loop_pauses(run, scroll)
        return {"p95": float(np.percentile(pauses, 95)), "max": float(max(pauses))}

    def _show(self, index: int) -> None:
        self.viewer.dims.set_current_step(0, index)

    def _picture(self, name: str) -> None:
        pump(700)
        path = str(self.out / f"{name}.png")
        self.viewer.screenshot(path, canvas_only=False, flash=False)


def truth_labels(truth: LabelMap) -> dict[int, Any]:
    """Return names and colours of the tissues, as the starter model calls them."""
    spec, _ = Library().header(MODEL)
    return {value: spec.labels[value - 1] for value in truth.labels}


def _scores(
    mask: NDArray[np.uint8], truth: NDArray[Any], slices: NDArray[np.intp], names: dict[int, str]
) -> dict[str, float]:
    """Return the Dice of each tissue over `slices`, and their mean."""
    scores = {
        name: dice(mask[slices] == value, truth[slices] == value) or 0.0
        for value, name in names.items()
    }
    return {name: round(score, 4) for name, score in scores.items()} | {
        "mean": round(float(np.mean(list(scores.values()))), 4)
    }


@contextmanager
def _server(data: Path) -> Iterator[str]:
    """Run our server on the loopback interface; its key is in the environment only."""
    os.environ.setdefault(ENVIRONMENT, secrets.token_urlsafe(16))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "napari_dante", "serve", "--data", str(data)]
    process = subprocess.Popen([*command, "--port", str(port)], stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}/"
    try:
        _wait_for(url, process)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 90
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with DafneClient(url, os.environ[ENVIRONMENT]) as client:
                client.models()
        except ShareError:
            time.sleep(0.3)
        else:
            return
    raise ShareError("The server on this computer did not start.")
