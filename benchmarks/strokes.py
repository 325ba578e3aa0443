"""What the record of corrections costs while a person paints.

Two equal masks of 300 slices of 512 x 512: one in napari alone, one under the panel's
tracker and journal. Both get the same strokes of a hundred dabs in turn, with some slices
corrected and approved already. Reported is the time of the thread that paints.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Labels

from benchmarks.pairs import Result, Row, in_turn, rounds
from napari_dante.ui.keeper import Keeper
from napari_dante.ui.tracker import Tracker
from napari_dante.volume import Label

__all__ = ["run"]

SHAPE = (300, 512, 512)
DABS = 100
CORRECTED = range(100, 130, 3)


def run(quick: bool) -> Result:
    """Measure strokes with and without the record."""
    found = strokes(rounds(quick))
    row = Row(
        "300 x 512 x 512, stroke of 100 dabs",
        "record and journal",
        f"{found['added_ms']:.2f} ms added to {found['alone_ms']:.1f} ms",
    )
    return Result(found, [row])


def strokes(count: int) -> dict[str, Any]:
    """Return the median ms of a stroke alone, recorded, and of what recording adds."""
    alone, recorded = _layer(), _layer()
    viewer = ViewerModel()
    viewer.add_layer(recorded)
    tracker = Tracker(viewer, recorded, lambda: None, lambda: None)
    keeper = Keeper(np.zeros(SHAPE, np.int16), tracker, {1: Label("ball", (1, 0, 0))}, _ignore)
    for index in CORRECTED:
        _stroke(recorded, index)
        tracker.record.approve(index, recorded.data)
    for _ in range(2):
        keeper.note()
        tracker.record.trusted(recorded.data)

    def with_record() -> None:
        _stroke(recorded, 150)
        keeper.note()

    variants: dict[str, Callable[[], object]] = {
        "alone": lambda: _stroke(alone, 150),
        "recorded": with_record,
    }
    found = in_turn(variants, 5 * count, time.thread_time)
    keeper.close()
    added = [mine - other for mine, other in zip(found["recorded"], found["alone"], strict=True)]
    return {
        "rounds": 5 * count,
        "alone_ms": 1e3 * statistics.median(found["alone"]),
        "recorded_ms": 1e3 * statistics.median(found["recorded"]),
        "added_ms": 1e3 * statistics.median(added),
    }


def _layer() -> Labels:
    z, y, x = np.ogrid[:300, :512, :512]
    ball = (z - 150) ** 2 + (y - 256) ** 2 / 4 + (x - 256) ** 2 / 4 < 100**2
    layer = Labels(ball.astype(np.uint8))
    layer.brush_size = 12
    return layer


def _stroke(layer: Labels, index: int) -> None:
    """Paint a line of dabs; each stroke changes something."""
    label = 2 if layer.data[index, 200, 200] != 2 else 3
    with layer.block_history():
        for dab in range(DABS):
            layer.paint((index, 200 + dab // 2, 200 + dab), label, refresh=False)


def _ignore(_: str) -> None: ...
