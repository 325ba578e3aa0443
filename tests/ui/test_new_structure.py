"""A structure that the model does not know, from the panel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pytestqt.qtbot import QtBot

from napari_dante.jobs.casebook import key_of
from napari_dante.model.library import Library
from napari_dante.ui.keeper import find_saved
from napari_dante.ui.states import Step
from tests.ui.conftest import SECONDS, Ball, correct
from tests.ui.test_flow import SLICES, MakeDock, predicted, quick, settled

__all__ = ["quick"]

pytestmark = [pytest.mark.gui, pytest.mark.filterwarnings("ignore:System theme detection")]


@pytest.mark.usefixtures("quick")
def test_a_new_structure_is_painted_taught_and_kept(
    make_dock: MakeDock, qtbot: QtBot, ball_file: Path, ball: Ball, library: Library
) -> None:
    dock = make_dock()
    controller = predicted(dock, qtbot, ball_file)
    session = controller.session
    assert session is not None
    assert controller.add_structure("  bright   rim ") == 3
    assert session.names == {1: "core", 2: "shell", 3: "bright rim"}
    assert controller.new_structures == ("bright rim",)
    truth = ball[1].copy()
    truth[:, 5:7][truth[:, 5:7] == 2] = 3
    correct(session.labels, truth, SLICES)
    settled(dock, qtbot, Step.CORRECT)
    dock.cards[Step.TEACH].open(True)
    dock.teach.refresh()
    assert "'bright rim' will be new" in dock.teach.plan.text()
    with qtbot.waitSignal(controller.taught, timeout=SECONDS):
        controller.teach()
    controller.keep()
    spec, _ = library.header("tiny")
    assert [label.name for label in spec.labels] == ["core", "shell", "bright rim"]
    assert controller.new_structures == ()
    assert session.names == {1: "core", 2: "shell", 3: "bright rim"}


def test_a_name_that_is_taken_is_refused_with_a_sentence(
    make_dock: MakeDock, qtbot: QtBot, ball_file: Path
) -> None:
    dock = make_dock()
    controller = predicted(dock, qtbot, ball_file)
    assert controller.add_structure("core") is None
    qtbot.waitUntil(lambda: "name of its own" in dock.message.sentence, timeout=5000)


def test_the_journal_knows_the_new_structure(
    make_dock: MakeDock, qtbot: QtBot, ball_file: Path, ball: Ball
) -> None:
    dock = make_dock()
    controller = predicted(dock, qtbot, ball_file)
    session = controller.session
    assert session is not None
    assert session.labels is not None
    controller.add_structure("rim")
    session.labels.data_setitem((np.array([8]),) * 3, 3)
    session.save()
    session.release()
    image = np.asarray(session.image.data)
    found = find_saved(key_of(image) or "", image.shape)
    assert found is not None
    assert "rim" in str(found[1].labels)
