"""The record equals what can be recomputed from the whole history, whatever is done."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from napari.components import ViewerModel
from napari.layers import Labels

from napari_dante.corrections import CorrectionRecord

SHAPE = (5, 12, 14)


def proposal(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 3, SHAPE).astype(np.uint8)


@dataclass
class Moment:
    """One state of the truth: values, who wrote them last, and the model's own values."""

    data: np.ndarray
    human: np.ndarray
    baseline: np.ndarray


@dataclass
class Bench:
    """A real layer, the record fed as the tracker feeds it, and the whole history."""

    axis: int = 0
    undone: list[Moment] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.viewer = ViewerModel()
        self.layer: Labels = self.viewer.add_labels(proposal())
        self.record = CorrectionRecord(self.layer.data, self.axis)
        start = self.layer.data.copy()
        self.past = [Moment(start, np.zeros(SHAPE, bool), start.copy())]
        self.model_writes = False
        self.steps = 0
        self.layer.events.paint.connect(self._painted)

    def _painted(self, event: object) -> None:
        """The event comes before the array changes, so the truth is taken afterwards."""
        if not self.model_writes:
            self.record.note(event.value)
        self.steps += 1

    def settle(self) -> None:
        """Take the state after an action that may have been a step."""
        if not self.steps:
            return
        assert self.steps == 1
        before, now = self.past[-1], self.layer.data.copy()
        changed = now != before.data
        if self.model_writes:
            moment = Moment(now, before.human & ~changed, np.where(changed, now, before.baseline))
        else:
            moment = Moment(now, before.human | changed, before.baseline)
        self.past.append(moment)
        self.undone.clear()
        self.steps = 0

    def undo(self) -> None:
        if len(self.past) > 1:
            self.layer.undo()
            self.record.undone()
            self.undone.append(self.past.pop())

    def redo(self) -> None:
        if self.undone:
            self.layer.redo()
            self.record.redone()
            self.past.append(self.undone.pop())

    def model(self, seed: int) -> None:
        new = proposal(seed)
        free = self.record.free(self.layer.data)
        where = np.nonzero(free & (new != self.layer.data))
        self.model_writes = True
        self.layer.data_setitem(where, new[where])
        self.record.rebase(self.layer.data, free, step=self.steps > 0)
        self.settle()
        self.model_writes = False

    @property
    def truth(self) -> np.ndarray:
        now = self.past[-1]
        return now.human & (now.data != now.baseline)


coordinate = st.tuples(*(st.integers(0, size - 1) for size in SHAPE))
label = st.integers(0, 4)
step = st.one_of(
    st.tuples(st.just("paint"), coordinate, label, st.integers(1, 5)),
    st.tuples(st.just("fill"), coordinate, label),
    st.tuples(st.just("polygon"), coordinate, label),
    st.tuples(st.just("setitem"), coordinate, label),
    st.tuples(st.just("group"), coordinate, label),
    st.tuples(st.just("view"), st.integers(0, SHAPE[0] - 1)),
    st.tuples(st.just("thick"), st.sampled_from([2, 3])),
    st.tuples(st.just("model"), st.integers(1, 5)),
    st.tuples(st.just("undo")),
    st.tuples(st.just("undo")),
    st.tuples(st.just("redo")),
)


def act(bench: Bench, action: tuple) -> None:
    do(bench, action)
    bench.settle()


def do(bench: Bench, action: tuple) -> None:
    layer, (name, *values) = bench.layer, action
    match name:
        case "paint":
            layer.brush_size = values[2]
            layer.paint(values[0], values[1])
        case "fill":
            layer.fill(values[0], values[1])
        case "polygon":
            z, y, x = values[0]
            bench.viewer.dims.set_point(0, z)
            layer.n_edit_dimensions = 2
            layer.paint_polygon([(z, y, x), (z, y, x + 4), (z, y + 4, x + 2)], values[1])
        case "setitem":
            layer.data_setitem(tuple(np.array([part, part]) for part in values[0]), values[1])
        case "group":
            with layer.block_history():
                layer.paint(values[0], values[1])
                layer.fill((0, 0, 0), values[1])
        case "view":
            bench.viewer.dims.set_point(0, values[0])
        case "thick":
            layer.n_edit_dimensions = values[0]
        case "model":
            bench.model(values[0])
        case "undo":
            bench.undo()
        case "redo":
            bench.redo()


def per_slice(mask: np.ndarray, axis: int) -> np.ndarray:
    return mask.any(axis=tuple(other for other in range(3) if other != axis))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(step, max_size=30), st.integers(0, 2))
def test_a_random_walk_leaves_exactly_the_corrections_that_stand(
    actions: list[tuple], axis: int
) -> None:
    bench = Bench(axis)
    for action in actions:
        act(bench, action)
        found = bench.record.corrections(bench.layer.data)
        whole = np.zeros(SHAPE, bool)
        whole[found.box] = found.mask
        np.testing.assert_array_equal(whole, bench.truth)
        edited = bench.record.edited(bench.layer.data)
        np.testing.assert_array_equal(edited, per_slice(bench.truth, axis))
        np.testing.assert_array_equal(bench.record.trusted(bench.layer.data), edited)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_slice_that_was_undone_is_not_edited(bench: Bench) -> None:
    act(bench, ("paint", (2, 5, 5), 4, 3))
    assert bench.record.edited(bench.layer.data).tolist() == [False, False, True, False, False]
    bench.undo()
    assert not bench.record.edited(bench.layer.data).any()


def test_a_stroke_after_an_undone_model_write_is_seen_against_the_older_proposal(
    bench: Bench,
) -> None:
    bench.model(1)
    bench.undo()
    value = proposal(1)[2, 5, 5]
    if value == bench.layer.data[2, 5, 5]:
        pytest.fail("the two proposals must differ there for this test to mean anything")
    bench.layer.brush_size = 1
    bench.layer.paint((2, 5, 5), int(value))
    assert bench.record.edited(bench.layer.data)[2]


def test_approval_is_of_what_stood_there_then(bench: Bench) -> None:
    bench.record.approve(3, bench.layer.data)
    assert bench.record.approved(bench.layer.data).tolist() == [False, False, False, True, False]
    act(bench, ("paint", (3, 5, 5), 4, 3))
    assert not bench.record.approved(bench.layer.data)[3]
    assert bench.record.trusted(bench.layer.data)[3]
    bench.undo()
    assert bench.record.approved(bench.layer.data)[3]
    bench.record.unapprove(3)
    assert not bench.record.trusted(bench.layer.data).any()


def test_approval_ends_when_the_model_write_it_saw_is_undone(bench: Bench) -> None:
    bench.model(1)
    bench.record.approve(1, bench.layer.data)
    bench.undo()
    assert not bench.record.trusted(bench.layer.data).any()


def test_a_stroke_across_the_axis_is_kept_but_makes_no_slice_one_to_learn_from(
    bench: Bench,
) -> None:
    before = bench.layer.data.copy()
    bench.layer.data[:, 5, 5] = 4
    where = np.nonzero(bench.layer.data != before)
    bench.record.note([(where, before[where], 4)], on_axis=False)
    assert not bench.record.trusted(bench.layer.data).any()
    free = bench.record.free(bench.layer.data)
    assert not free[where].any()
    assert free.sum() == free.size - where[0].size


def test_the_model_may_write_only_where_nobody_corrected(bench: Bench) -> None:
    act(bench, ("paint", (2, 5, 5), 4, 3))
    bench.record.approve(0, bench.layer.data)
    kept = bench.layer.data[[0, 2]].copy()
    bench.model(3)
    np.testing.assert_array_equal(bench.layer.data[[0, 2]], kept)
    np.testing.assert_array_equal(bench.layer.data[[1, 3, 4]], proposal(3)[[1, 3, 4]])


def test_a_full_comparison_finds_what_was_written_past_the_layer(bench: Bench) -> None:
    bench.layer.data[4, 0, 0] = 4
    assert not bench.record.corrections(bench.layer.data).mask.any()
    assert bench.record.corrections(bench.layer.data, full=True).mask.sum() == 1


def test_the_axis_turns_only_while_nothing_is_corrected(bench: Bench) -> None:
    bench.record.turn(2)
    assert bench.record.size == SHAPE[2]
    bench.record.approve(0, bench.layer.data)
    with pytest.raises(ValueError, match="one axis"):
        bench.record.turn(0)


def test_a_model_write_that_a_stroke_replaced_in_the_history_never_comes_back(
    bench: Bench,
) -> None:
    bench.model(1)
    bench.undo()
    act(bench, ("paint", (2, 5, 5), 4, 3))
    bench.undo()
    bench.redo()
    np.testing.assert_array_equal(bench.record.edited(bench.layer.data), per_slice(bench.truth, 0))
    act(bench, ("paint", (3, 5, 5), 0, 9))
    np.testing.assert_array_equal(bench.record.edited(bench.layer.data), per_slice(bench.truth, 0))
    found = bench.record.corrections(bench.layer.data)
    np.testing.assert_array_equal(found.mask, bench.truth[found.box])
