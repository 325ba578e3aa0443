"""The viewer is killed at any moment: nothing but the stroke in hand is lost."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from contextlib import suppress
from multiprocessing.connection import Connection

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_dante.corrections.journal import read_journal
from napari_dante.corrections.place import journal_folder
from napari_dante.ui.keeper import Keeper
from napari_dante.ui.tracker import Tracker
from napari_dante.volume import Label

SHAPE = (16, 40, 44)
TABLE = {1: Label("core", (0.9, 0.6, 0.0))}


def stroke(number: int) -> tuple[tuple[int, int, int], int]:
    """Return where stroke `number` goes and which label it paints."""
    chance = random.Random(number)
    place = (chance.randrange(SHAPE[0]), chance.randrange(SHAPE[1]), chance.randrange(SHAPE[2]))
    return place, chance.randint(1, 3)


def work(pipe: Connection, home: str) -> None:
    """Paint and undo without end, as a person in a hurry, and tell of every stroke."""
    os.environ["XDG_DATA_HOME"] = home
    viewer = ViewerModel()
    layer = viewer.add_labels(np.zeros(SHAPE, np.uint8))
    tracker = Tracker(viewer, layer, lambda: None, lambda: None)
    keeper = Keeper(np.zeros(SHAPE, np.int16), tracker, TABLE, lambda _: None)
    number = 0
    while True:
        place, label = stroke(number)
        layer.paint(place, label)
        if number % 7 == 6:
            layer.undo()
        keeper.note()
        pipe.send((time.monotonic(), layer.data.copy()))
        number += 1
        time.sleep(0.02)


def listen(pipe: Connection, until: float) -> list[tuple[float, np.ndarray]]:
    """Return when each state was told of, and the state."""
    states = []
    while (left := until - time.monotonic()) > 0:
        if pipe.poll(left):
            states.append(pipe.recv())
    return states


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.slow, id="fifty kills")])
def test_a_killed_viewer_leaves_all_but_the_last_strokes(kills: int) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    chance = random.Random(kills)
    for _ in range(kills):
        for old in journal_folder().glob("*.journal"):
            old.unlink()
        here, there = context.Pipe(duplex=False)
        viewer = context.Process(
            target=work, args=(there, os.environ["XDG_DATA_HOME"]), daemon=True
        )
        viewer.start()
        there.close()
        first = here.recv()
        states = [first, *listen(here, time.monotonic() + chance.uniform(0.0, 2.5))]
        assert viewer.pid is not None
        os.kill(viewer.pid, signal.SIGKILL)
        killed = time.monotonic()
        viewer.join()
        with suppress(EOFError, OSError):
            while here.poll():
                states.append(here.recv())
        here.close()
        check(states, killed)


def check(states: list[tuple[float, np.ndarray]], killed: float) -> None:
    """A state that was, and none older than a second, is in the one readable journal."""
    old = sum(when < killed - 1 for when, _ in states)
    journals = list(journal_folder().glob("*.journal"))
    if not journals:
        assert not old, "nothing was on the disk although strokes had been made"
        return
    (path,) = journals
    data = read_journal(path).data
    start = [np.zeros(SHAPE, np.uint8)]
    same = [
        number
        for number, state in enumerate([*start, *(state for _, state in states)])
        if np.array_equal(state, data)
    ]
    assert same, "the journal holds a state that never was"
    assert same[-1] >= old, "a stroke of more than a second ago is lost"
