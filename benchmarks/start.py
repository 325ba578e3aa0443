"""What the panel adds to the start of napari: each start in a process of its own, in turn."""

from __future__ import annotations

import statistics
import time
from typing import Any

from benchmarks.pairs import Result, Row, fresh, rounds

__all__ = ["run"]


def run(quick: bool) -> Result:
    """Measure how long napari takes to open, with and without the panel."""
    found: dict[str, list[float]] = {"napari": [], "with the panel": []}
    for number in range(rounds(quick) + 1):
        order = list(found) if number % 2 else list(found)[::-1]
        for variant in order:
            seconds = fresh(start, panel=variant != "napari")
            if number:
                found[variant].append(seconds)
    added = [
        mine - other for mine, other in zip(found["with the panel"], found["napari"], strict=True)
    ]
    figures: dict[str, Any] = {
        "rounds": len(added),
        **{f"{variant}_s": statistics.median(seconds) for variant, seconds in found.items()},
        "added_s": statistics.median(added),
    }
    words = f"{figures['added_s']:.2f} s added to {figures['napari_s']:.2f} s"
    return Result(figures, [Row("start of napari", "the panel", words)])


def start(*, panel: bool) -> float:
    """Return the seconds from nothing to a window that has been drawn."""
    begin = time.perf_counter()
    from napari import Viewer

    from napari_dante.ui.pump import pump

    viewer = Viewer(show=True)
    if panel:
        from napari_dante.ui.dock import DanteDock

        viewer.window.add_dock_widget(DanteDock(viewer), name="Dante", area="right")
    pump(1)
    seconds = time.perf_counter() - begin
    viewer.close()
    return seconds
