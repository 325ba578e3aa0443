"""The tracker follows a real layer: strokes, undo, views, model writes."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels

from napari_dante.ui.tracker import Tracker

SHAPE = (6, 20, 24)


class Desk:
    def __init__(self) -> None:
        self.viewer = ViewerModel()
        self.layer: Labels = self.viewer.add_labels(
            np.zeros(SHAPE, np.uint8), scale=(3, 1, 1), translate=(-10, 5, 5)
        )
        self.changes = 0
        self.tracker = Tracker(self.viewer, self.layer, self.count, self.count)

    def count(self) -> None:
        self.changes += 1

    @property
    def edited(self) -> list[int]:
        return np.flatnonzero(self.tracker.record.edited(self.layer.data)).tolist()

    @property
    def trusted(self) -> list[int]:
        return np.flatnonzero(self.tracker.record.trusted(self.layer.data)).tolist()


@pytest.fixture
def desk() -> Desk:
    return Desk()


def proposal(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 3, SHAPE).astype(np.uint8)


def test_strokes_and_undo(desk: Desk) -> None:
    desk.layer.paint((3, 5, 5), 1)
    assert desk.edited == [3]
    desk.layer.undo()
    assert desk.edited == []
    desk.layer.undo()
    desk.layer.redo()
    assert desk.edited == [3]
    assert desk.changes >= 3


def test_the_shown_slice_and_going_to_one(desk: Desk) -> None:
    for index in (0, 4, 5):
        desk.tracker.go_to(index)
        assert desk.tracker.current == index


def test_approving_toggles(desk: Desk) -> None:
    desk.tracker.go_to(2)
    assert desk.tracker.toggle_approval()
    assert desk.trusted == [2]
    assert desk.tracker.toggle_approval()
    assert desk.trusted == []


def test_a_proposal_is_one_step_and_spares_what_was_corrected(desk: Desk) -> None:
    desk.layer.paint((3, 5, 5), 1)
    desk.tracker.go_to(1)
    desk.tracker.toggle_approval()
    kept, before = desk.layer.data[[1, 3]].copy(), desk.layer.data.copy()
    changed = desk.tracker.propose(proposal(1))
    assert changed == (before != desk.layer.data).sum() > 0
    np.testing.assert_array_equal(desk.layer.data[[1, 3]], kept)
    np.testing.assert_array_equal(desk.layer.data[[0, 2, 4, 5]], proposal(1)[[0, 2, 4, 5]])
    assert desk.trusted == [1, 3]
    desk.layer.undo()
    np.testing.assert_array_equal(desk.layer.data, before)
    assert desk.trusted == [1, 3]


def test_a_proposal_that_changes_nothing_is_no_step(desk: Desk) -> None:
    desk.layer.paint((3, 5, 5), 1)
    assert desk.tracker.propose(desk.layer.data.copy()) == 0
    desk.layer.undo()
    assert desk.trusted == []


def test_undoing_a_proposal_does_not_make_old_strokes_new(desk: Desk) -> None:
    desk.tracker.propose(proposal(1))
    desk.layer.paint((4, 5, 5), 4)
    desk.layer.undo()
    desk.layer.undo()
    assert desk.trusted == []
    desk.layer.redo()
    desk.layer.redo()
    assert desk.trusted == [4]


def test_the_axis_is_that_of_the_first_correction(desk: Desk) -> None:
    desk.viewer.dims.order = (2, 0, 1)
    desk.viewer.dims.set_point(2, 12)
    desk.layer.paint((3, 5, 7), 1)
    assert desk.tracker.record.axis == 2
    assert desk.tracker.on_axis


def test_strokes_in_another_view_are_kept_but_not_learned_from(desk: Desk) -> None:
    desk.layer.paint((3, 5, 5), 1)
    desk.viewer.dims.order = (1, 0, 2)
    desk.layer.data_setitem((np.arange(6), np.full(6, 9), np.full(6, 9)), 2)
    assert desk.trusted == [3]
    assert not desk.tracker.on_axis
    assert not desk.tracker.toggle_approval()
    desk.tracker.propose(proposal(1))
    assert (desk.layer.data[:, 9, 9] == 2).all()
    desk.tracker.go_to(2)
    assert desk.tracker.on_axis
    assert desk.tracker.current == 2


def test_nothing_is_counted_in_three_dimensions(desk: Desk) -> None:
    desk.viewer.dims.ndisplay = 3
    assert desk.tracker.view_axis is None
    assert not desk.tracker.toggle_approval()


def test_a_replaced_array_is_kept_and_its_undo_cannot_corrupt_it(desk: Desk) -> None:
    desk.layer.paint((3, 5, 5), 1)
    new = np.full(SHAPE, 2, np.uint8)
    desk.layer.data = new
    desk.layer.undo()
    assert (desk.layer.data == 2).all()
    desk.tracker.propose(np.zeros(SHAPE, np.uint8))
    assert (desk.layer.data == 2).all()


def test_it_lets_go(desk: Desk) -> None:
    desk.tracker.detach()
    changes = desk.changes
    desk.layer.paint((3, 5, 5), 1)
    desk.layer.undo()
    desk.viewer.dims.set_point(0, 2)
    desk.viewer.dims.order = (1, 0, 2)
    assert desk.changes == changes
    assert not {"undo", "redo"} & set(vars(desk.layer))


def test_a_proposal_is_not_taken_for_a_correction(desk: Desk) -> None:
    desk.tracker.propose(proposal(1))
    assert desk.tracker.record.empty
    desk.viewer.dims.order = (1, 0, 2)
    assert desk.tracker.record.axis == 1


def test_undo_beyond_the_beginning_is_no_step(desk: Desk) -> None:
    desk.tracker.propose(proposal(1))
    for _ in range(3):
        desk.layer.undo()
    desk.layer.redo()
    np.testing.assert_array_equal(desk.layer.data, proposal(1))
    desk.layer.paint((4, 5, 5), 0)
    assert desk.trusted == [4]


def test_looking_around_is_not_a_change(desk: Desk) -> None:
    changes, moves = [], []
    desk.tracker.detach()
    tracker = Tracker(desk.viewer, desk.layer, lambda: changes.append(1), lambda: moves.append(1))
    for index in (1, 2, 3):
        tracker.go_to(index)
    assert moves
    assert not changes
    desk.layer.paint((3, 2, 2), 1)
    assert changes
    tracker.detach()


def disk(radius: float) -> np.ndarray:
    y, x = np.mgrid[: SHAPE[1], : SHAPE[2]]
    return (y - 10) ** 2 + (x - 12) ** 2 <= radius**2


def draw(desk: Desk, index: int, radius: float, value: int = 1) -> None:
    where = np.nonzero(disk(radius))
    desk.layer.data_setitem((np.full(len(where[0]), index), *where), value)


def test_filling_between_is_one_step_that_waits_for_approval(desk: Desk) -> None:
    draw(desk, 1, 3)
    draw(desk, 4, 6)
    before = desk.layer.data.copy()
    assert desk.tracker.fill_between(1, ()) == [2, 3]
    sizes = [(desk.layer.data[index] == 1).sum() for index in range(6)]
    assert 0 == sizes[0] < sizes[1] < sizes[2] < sizes[3] < sizes[4] > sizes[5] == 0
    assert desk.trusted == [1, 4]
    np.testing.assert_array_equal(
        np.flatnonzero(desk.tracker.record.changed(desk.layer.data)), [1, 2, 3, 4]
    )
    filled = desk.layer.data.copy()
    desk.tracker.propose(np.full(SHAPE, 2, np.uint8))
    np.testing.assert_array_equal(desk.layer.data == 1, filled == 1)
    desk.layer.undo()
    desk.layer.undo()
    np.testing.assert_array_equal(desk.layer.data, before)


def test_filling_between_replaces_what_the_model_said_there(desk: Desk) -> None:
    draw(desk, 2, 9)
    desk.tracker.record.rebase(desk.layer.data, np.ones(SHAPE, bool), step=False)
    draw(desk, 1, 4)
    draw(desk, 3, 4)
    assert desk.tracker.fill_between(1, ()) == [2]
    np.testing.assert_array_equal(desk.layer.data[2], disk(4))


def test_filling_between_leaves_locked_structures(desk: Desk) -> None:
    for index, radius in ((1, 8), (3, 8)):
        draw(desk, index, radius)
    draw(desk, 2, 3, value=2)
    desk.tracker.record.rebase(desk.layer.data, np.ones(SHAPE, bool), step=False)
    for index in (1, 3):
        desk.tracker.go_to(index)
        desk.tracker.toggle_approval()
    assert desk.tracker.fill_between(1, {2}) == [2]
    np.testing.assert_array_equal(desk.layer.data[2] == 2, disk(3))
    np.testing.assert_array_equal(desk.layer.data[2] == 1, disk(8) & ~disk(3))


def test_filling_between_goes_along_the_corrected_axis_in_mm(desk: Desk) -> None:
    """Across x the rows are 3 mm apart, the columns 1 mm."""
    desk.viewer.dims.order = (2, 0, 1)
    for x in (5, 9):
        z, y = np.nonzero(np.ones((2, 4), bool))
        desk.layer.data_setitem((z + 2, y + 8, np.full(len(z), x)), 1)
    assert desk.tracker.fill_between(1, ()) == [6, 7, 8]
    for x in (6, 7, 8):
        np.testing.assert_array_equal(desk.layer.data[..., x], desk.layer.data[..., 5])


def test_there_is_nothing_to_fill_next_to_one_slice(desk: Desk) -> None:
    draw(desk, 1, 4)
    before = desk.layer.data.copy()
    assert desk.tracker.fill_between(1, ()) == []
    assert desk.tracker.fill_between(2, ()) == []
    np.testing.assert_array_equal(desk.layer.data, before)
    desk.layer.undo()
    assert desk.trusted == []
