"""Whether the window answers as well while the worker trains.

One window, one lesson. The lesson is paused and resumed in turn, and in each stretch a
person scrolls and paints ten times a second. Reported are the pauses of the event loop.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import QTimer

from benchmarks.pairs import Result, Row, rounds
from napari_dante.adapt.recipe import LoRA
from napari_dante.adapt.training import Training
from napari_dante.model.library import Library
from napari_dante.ui.app import window_with_panel
from napari_dante.ui.controller import Controller
from napari_dante.ui.demo import MODEL, SLICES
from napari_dante.ui.pump import event_loop_pauses, pump, wait_for
from napari_dante.ui.samples import sample_path

__all__ = ["run"]


def run(quick: bool) -> Result:
    """Measure the pauses of the window."""
    with tempfile.TemporaryDirectory() as home:
        found = pauses(Path(home), rounds(quick), 4.0)
    rows = [
        Row(
            f"lesson {state}",
            "pauses of the window",
            f"p95 {found[state]['p95_ms']:.0f} ms, max {found[state]['max_ms']:.0f} ms, "
            f"worst {found[state]['worst_ms']:.0f} ms",
        )
        for state in ("paused", "training")
    ]
    return Result(found, rows)


def pauses(home: Path, count: int, seconds: float) -> dict[str, Any]:
    """Return the pauses in ms, paused and training, and their differences.

    Parameters
    ----------
    home
        Folder for the library.
    count, seconds
        How many pairs of stretches, and how long each is.
    """
    viewer, dock = window_with_panel(Library(home))
    viewer.window.resize(1366, 768)
    controller = dock.controller
    wait_for(
        controller.opened,
        controller.failed,
        lambda: controller.open_volume(sample_path("mni152_t2")),
    )
    controller.choose_model(MODEL)
    wait_for(controller.predicted, controller.failed, controller.predict)
    session = controller.session
    assert session is not None
    assert session.tracker is not None
    for index in SLICES:
        session.tracker.go_to(index)
        session.tracker.toggle_approval()

    def act() -> None:
        step = viewer.dims.current_step[0]
        viewer.dims.set_current_step(0, (step + 1) % 90)
        layer = session.labels
        if layer is not None:
            layer.paint((step, 50 + step % 9, 50), 1 + step % 3)

    endless = LoRA(training=Training(steps=100_000, patience=100_000))
    controller.__dict__["recipe"] = lambda: endless
    found: dict[str, list[list[int]]] = {"paused": [], "training": []}

    def measure() -> None:
        for _ in range(count):
            for state in found:
                if (state == "paused") != controller.engine.paused:
                    controller.pause()
                    wait_for_state(controller, paused=state == "paused")
                found[state].append(event_loop_pauses(lambda: pump(int(seconds * 1000)), act))
        controller.cancel()

    QTimer.singleShot(8000, measure)
    wait_for(controller.notice, controller.failed, controller.teach)
    viewer.close()
    return _summary(found)


def wait_for_state(controller: Controller, *, paused: bool) -> None:
    """Let the event loop run until the lesson is paused, or runs."""
    while controller.engine.paused != paused:
        pump(50)
    pump(300)


def _summary(found: dict[str, list[list[int]]]) -> dict[str, Any]:
    figures: dict[str, Any] = {"rounds": len(found["paused"])}
    for state, stretches in found.items():
        figures[state] = {
            "p95_ms": statistics.median(float(np.percentile(one, 95)) for one in stretches),
            "max_ms": statistics.median(max(one) for one in stretches),
            "worst_ms": max(max(one) for one in stretches),
        }
    figures["p95_difference_ms"] = round(
        figures["training"]["p95_ms"] - figures["paused"]["p95_ms"], 2
    )
    return figures
