"""What is locked stays, whatever tool is used, and undo knows nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from napari.components import ViewerModel
from napari.layers import Labels

from napari_dante.ui.locks import Locks

SHAPE = (4, 14, 16)


def make_layer(seed: int = 0) -> Labels:
    mask = np.random.default_rng(seed).integers(0, 4, SHAPE).astype(np.uint8)
    layer: Labels = ViewerModel().add_labels(mask)
    return layer


coordinate = st.tuples(*(st.integers(0, size - 1) for size in SHAPE))
action = st.one_of(
    st.tuples(st.just("paint"), coordinate, st.integers(0, 4), st.integers(1, 9)),
    st.tuples(st.just("fill"), coordinate, st.integers(0, 4), st.just(0)),
    st.tuples(st.just("polygon"), coordinate, st.integers(0, 4), st.just(0)),
    st.tuples(st.sampled_from(["undo", "redo", "thick"]), st.none(), st.none(), st.none()),
)


def act(layer: Labels, name: str, place: tuple[int, int, int], value: int, size: int) -> None:
    if name == "paint":
        layer.brush_size = size
        layer.paint(place, value)
    elif name == "fill":
        layer.fill(place, value)
    elif name == "polygon":
        z, y, x = place
        layer.n_edit_dimensions = 2
        layer.paint_polygon([(z, y, x), (z, y, x + 6), (z, y + 6, x + 2)], value)
    elif name == "thick":
        layer.n_edit_dimensions = 5 - layer.n_edit_dimensions
    else:
        getattr(layer, name)()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(action, max_size=25), st.sets(st.integers(0, 3), max_size=3))
def test_nothing_is_taken_from_a_locked_structure(actions: list[tuple], locked: set[int]) -> None:
    layer = make_layer()
    start = layer.data.copy()
    locks = Locks(layer)
    for value in locked:
        locks.toggle(value)
    for one in actions:
        act(layer, *one)
        for value in locked:
            assert (layer.data[start == value] == value).all()
    while len(layer._undo_history):
        layer.undo()
    np.testing.assert_array_equal(layer.data, start)


def test_a_locked_structure_can_grow() -> None:
    layer = make_layer()
    locks = Locks(layer)
    locks.toggle(2)
    before = (layer.data == 2).sum()
    layer.brush_size = 9
    layer.paint((1, 7, 8), 2)
    assert (layer.data == 2).sum() > before


def test_unlocked_and_released_it_is_an_ordinary_layer() -> None:
    layer = make_layer()
    locks = Locks(layer)
    locks.toggle(1)
    assert locks.values == {1}
    locks.toggle(1)
    assert locks.values == frozenset()
    locks.toggle(1)
    locks.release()
    layer.brush_size = 40
    layer.n_edit_dimensions = 3
    layer.paint((1, 7, 8), 3)
    assert (layer.data == 3).all()


@pytest.mark.parametrize("locked", [(), (0,), (1, 3)])
def test_napari_preserving_all_labels_works_beside_it(locked: tuple[int, ...]) -> None:
    layer = make_layer()
    start = layer.data.copy()
    locks = Locks(layer)
    for value in locked:
        locks.toggle(value)
    layer.preserve_labels = True
    layer.brush_size = 40
    layer.paint((1, 7, 8), 3)
    np.testing.assert_array_equal(layer.data[start != 0], start[start != 0])
    assert ((layer.data[1] == start[1]).all()) == (0 in locked)
