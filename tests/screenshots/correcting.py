"""Correcting: what to look at next, locks, filling, and several images at once."""

from __future__ import annotations

import numpy as np

from napari_dante.ui.demo import SLICES
from napari_dante.ui.samples import sample_path
from napari_dante.ui.states import Step
from napari_dante.volume import open_labels
from tests.screenshots.stage import Stage, state

GREY, WHITE = 2, 3


@state(fresh=True, large=True)
def suggested(stage: Stage) -> None:
    """The slice where the model is most unsure, by N."""
    stage.open("mni152_t1")
    stage.predict()
    stage.controller.session.go_on(1)
    stage.scroll_to(stage.dock.cards[Step.CORRECT])


@state()
def locked(stage: Stage) -> None:
    """Grey matter is locked."""
    stage.show(SLICES[2])
    stage.mask.selected_label = GREY
    stage.scroll_to(stage.dock.correct.lock)
    stage.dock.correct.lock.click()


@state(light=True)
def filled(stage: Stage) -> None:
    """White matter was filled between two corrected slices, around the locked grey matter."""
    truth = open_labels(sample_path("mni152_tissue")).array
    for index in (44, 47):
        where = np.nonzero(truth[index] != stage.mask.data[index])
        full = (np.full(len(where[0]), index), *where)
        stage.mask.data_setitem(full, truth[full])
    stage.mask.selected_label = WHITE
    stage.show(45)
    stage.dock.correct.fill.click()
    stage.scroll_to(stage.dock.cards[Step.CORRECT])


@state()
def several(stage: Stage) -> None:
    """Two corrected images are open, and one lesson learns from both."""
    stage.open("mni152_t2")
    stage.predict()
    stage.correct(approved=3)
    stage.dock.message.clear()
    stage.show(SLICES[2])
    stage.scroll_to(stage.dock.cards[Step.TEACH])
