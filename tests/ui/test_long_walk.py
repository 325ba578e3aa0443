"""Ten thousand edits in any order: what the tracker says is what can be recomputed."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import pytest

from napari_dante.ui.locks import Locks
from napari_dante.ui.tracker import Tracker
from tests.corrections.test_record import SHAPE, Bench, do, per_slice, proposal


@dataclass
class TrackedBench(Bench):
    """The bench of the record, with the tracker of the panel in between."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.layer.events.paint.disconnect(self._painted)
        self.tracker = Tracker(self.viewer, self.layer, lambda: None, lambda: None)
        self.record = self.tracker.record
        self.locks = Locks(self.layer)
        self.layer.events.paint.connect(self._count)

    def _count(self) -> None:
        self.steps += 1

    def undo(self) -> None:
        if len(self.past) > 1:
            self.layer.undo()
            self.undone.append(self.past.pop())

    def redo(self) -> None:
        if self.undone:
            self.layer.redo()
            self.past.append(self.undone.pop())

    def model(self, seed: int) -> None:
        self.model_writes = True
        self.tracker.propose(proposal(seed))
        self.settle()
        self.model_writes = False

    def fill_between(self, value: int) -> bool:
        filled = self.tracker.fill_between(value, self.locks.values)
        self.settle()
        return bool(filled)

    def rewind(self) -> None:
        while self.layer._undo_history:
            self.undo()


def action(chance: random.Random) -> tuple:
    place = tuple(chance.randrange(size) for size in SHAPE)
    label = chance.randrange(5)
    return chance.choice(
        [
            ("paint", place, label, chance.randint(1, 5)),
            ("paint", place, 0, chance.randint(1, 5)),
            ("fill", place, label),
            ("polygon", place, label),
            ("setitem", place, label),
            ("group", place, label),
            ("view", place[0]),
            ("thick", chance.choice((2, 3))),
            ("model", chance.randint(1, 5)),
            ("undo",),
            ("undo",),
            ("redo",),
            ("lock", label),
            ("between", chance.randint(1, 4)),
            ("between", chance.randint(1, 4)),
            ("rewind",) if chance.random() < 0.2 else ("view", 0),
        ]
    )


@pytest.mark.parametrize(
    "count", [500, pytest.param(10_000, marks=pytest.mark.slow, id="ten thousand")]
)
def test_the_record_equals_the_truth_after_every_edit(count: int) -> None:
    bench, chance = TrackedBench(), random.Random(count)
    fills = 0
    for _ in range(count):
        name, *values = one = action(chance)
        if name == "lock":
            bench.locks.toggle(values[0])
        elif name == "between":
            fills += bench.fill_between(values[0])
        elif name == "rewind":
            bench.rewind()
        else:
            do(bench, one)
            bench.settle()
        data = bench.layer.data
        np.testing.assert_array_equal(data, bench.past[-1].data)
        found = bench.record.corrections(data)
        whole = np.zeros(SHAPE, bool)
        whole[found.box] = found.mask
        np.testing.assert_array_equal(whole, bench.truth)
        np.testing.assert_array_equal(bench.record.changed(data), per_slice(bench.truth, 0))
        assert (bench.record.edited(data) <= per_slice(bench.truth, 0)).all()
    assert fills > count / 250
