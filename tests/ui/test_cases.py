"""Several corrected images in one lesson."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt

from napari_dante.adapt.recipe import LoRA
from napari_dante.adapt.training import Training
from napari_dante.ui.controller import Controller
from napari_dante.ui.dock import DanteDock
from napari_dante.ui.session import Session
from napari_dante.volume import Geometry, write_nifti
from tests.ui.conftest import SECONDS, Ball, correct

pytestmark = [pytest.mark.gui, pytest.mark.filterwarnings("ignore:System theme detection")]

MakeDock = Callable[..., DanteDock]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lessons of a few steps."""
    recipe = LoRA(rank=4, training=Training(steps=4, check_every=2))
    monkeypatch.setattr(Controller, "recipe", lambda _: recipe)


def corrected(dock: DanteDock, qtbot: QtBot, path: Path, ball: Ball, slices: tuple) -> Session:
    controller = dock.controller
    with qtbot.waitSignal(controller.opened, timeout=SECONDS):
        controller.open_volume(path)
    with qtbot.waitSignal(controller.predicted, timeout=SECONDS):
        controller.predict()
    session = controller.session
    assert session is not None
    correct(session.labels, ball[1], slices)
    return session


def learned(controller: Controller) -> list[list[int]]:
    """Return the trusted slices of each case of the lesson."""
    assert controller.lesson is not None
    return [np.flatnonzero(case.trusted).tolist() for case in controller.lesson.job.cases()]


@pytest.mark.usefixtures("quick")
def test_other_corrected_images_are_learned_from_unless_switched_off(
    make_dock: MakeDock, qtbot: QtBot, ball_file: Path, ball: Ball, geometry: Geometry
) -> None:
    dock = make_dock(show=True)
    controller = dock.controller
    other = ball_file.with_name("other.nii.gz")
    write_nifti(other, ball[0] * 2, geometry)
    first = corrected(dock, qtbot, other, ball, (8, 10, 12, 14))
    second = corrected(dock, qtbot, ball_file, ball, (7, 9, 11, 13, 15))
    assert controller.session is second
    qtbot.waitUntil(lambda: dock.teach.others.isVisible(), timeout=5000)
    assert dock.teach.others.isChecked()
    with qtbot.waitSignal(controller.taught, timeout=SECONDS):
        controller.teach()
    assert learned(controller) == [[7, 9, 11, 13, 15], [8, 10, 12, 14]]
    exam = controller.lesson.job.split().exam
    controller.discard()

    controller.choose_image(first)
    with qtbot.waitSignal(controller.taught, timeout=SECONDS):
        controller.teach()
    spared = [index for index in (7, 9, 11, 13, 15) if index not in exam]
    assert learned(controller) == [[8, 10, 12, 14], spared], "an exam slice was learned from"
    controller.discard()

    qtbot.waitUntil(lambda: dock.teach.others.isVisible(), timeout=5000)
    qtbot.mouseClick(dock.teach.others, Qt.MouseButton.LeftButton)
    with qtbot.waitSignal(controller.taught, timeout=SECONDS):
        controller.teach()
    assert len(learned(controller)) == 1


def test_images_with_other_structures_are_left_alone(
    make_dock: MakeDock, qtbot: QtBot, ball_file: Path, ball: Ball, geometry: Geometry
) -> None:
    dock = make_dock()
    other = ball_file.with_name("other.nii.gz")
    write_nifti(other, ball[0] * 2, geometry)
    first = corrected(dock, qtbot, other, ball, (8, 10))
    first.add_structure("lesion")
    corrected(dock, qtbot, ball_file, ball, (9, 11))
    assert dock.controller.others == []
    untouched = ball_file.with_name("third.nii.gz")
    write_nifti(untouched, ball[0] * 3, geometry)
    third = corrected(dock, qtbot, untouched, ball, ())
    assert third.case() is not None
    assert len(dock.controller.others) == 1
