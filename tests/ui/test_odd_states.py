"""What is odd is said in the panel, and never in a dialog."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from pytestqt.qtbot import QtBot

from napari_dante.adapt.recipe import Auto, EncoderLoRA, LoRA
from napari_dante.errors import TeachError
from napari_dante.model.spec import ArchitectureSpec
from napari_dante.ui.fit import misfit
from napari_dante.ui.plan import Plan, default_of, options_of
from napari_dante.ui.states import Step
from tests.ui.conftest import SECONDS, Ball, correct
from tests.ui.test_flow import SLICES, MakeDock, predicted, settled

pytestmark = [pytest.mark.gui, pytest.mark.filterwarnings("ignore:System theme detection")]


def test_a_model_for_something_else_is_said(spec: ArchitectureSpec, ball: Ball) -> None:
    assert misfit(spec, (2.0, 2.0, 2.0), ball[1]) == ""
    assert misfit(spec, (5.0, 1.0, 1.0), ball[1]) == ""
    assert "core, shell" in misfit(spec, (2.0, 2.0, 2.0), np.zeros_like(ball[1]))
    coarse = misfit(spec, (7.0, 1.0, 1.0), ball[1])
    by = " \N{MULTIPLICATION SIGN} "
    coarse = coarse.replace("\N{NO-BREAK SPACE}", " ")
    assert f"of {by.join('222')} mm, and this image has {by.join('711')} mm" in coarse


def test_the_plan_is_what_was_typed() -> None:
    plan = Plan({"steps": " 40 ", "learning_rate": "0,01", "rank": "2", "minutes": "9"}, "20 %")
    recipe = plan.recipe("lora")
    assert isinstance(recipe, LoRA)
    assert (recipe.training.steps, recipe.rank, recipe.training.learning_rate) == (40, 2, 0.01)
    assert recipe.training.replay == 1
    assert plan.exam_fraction == pytest.approx(0.2)
    auto = plan.recipe("auto")
    assert isinstance(auto, Auto)
    assert auto.minutes == 9
    assert auto.training.steps == Auto().training.steps, "auto chooses them itself"
    assert Plan(rehearse=False).recipe("lora-decoder").training.replay == 0
    assert Plan().recipe("lora-decoder") == EncoderLoRA()
    assert Plan().exam_fraction == 0.3
    assert default_of("lora", "steps") == "120"
    assert "rank" not in options_of("full")


@pytest.mark.parametrize(
    ("options", "exam", "words"),
    [
        ({"steps": "many"}, "", "'many' is not a value for 'steps'"),
        ({"steps": "0"}, "", "'steps' must be greater than zero"),
        ({"learning_rate": "nan"}, "", "learning_rate"),
        ({"learning_rate": "inf"}, "", "learning_rate"),
        ({"rank": "-1"}, "", "rank"),
        ({}, "100", "per cent"),
        ({}, "half", "per cent"),
        ({}, "nan", "per cent"),
    ],
)
def test_a_wrong_value_is_one_sentence(options: dict[str, str], exam: str, words: str) -> None:
    plan = Plan(options, exam)
    with pytest.raises(TeachError, match=words):  # noqa: PT012
        _ = plan.exam_fraction
        plan.recipe("lora")


@pytest.mark.usefixtures("own_process")  # it is killed, and its start is waited for
def test_advanced_is_validated_before_the_lesson(
    make_dock: MakeDock, qtbot: QtBot, ball_file: Path, ball: Ball
) -> None:
    dock = make_dock()
    controller, teach = predicted(dock, qtbot, ball_file), dock.teach
    settled(dock, qtbot, Step.CORRECT)
    assert not teach.teach.isEnabled()
    assert "correct or approve at least one slice" in teach.plan.text()
    correct(controller.session.labels, ball[1], SLICES)
    qtbot.waitUntil(teach.teach.isEnabled, timeout=5000)
    teach.drawer.open()
    assert teach.advanced.fields["steps"].isHidden(), "automatic chooses them"
    controller.choose_method("lora")
    qtbot.waitUntil(lambda: not teach.advanced.fields["steps"].isHidden(), timeout=5000)
    qtbot.keyClicks(teach.advanced.fields["steps"], "0")
    qtbot.waitUntil(lambda: "greater than zero" in teach.plan.text(), timeout=5000)
    assert not teach.teach.isEnabled()
    with qtbot.waitSignal(controller.failed):
        controller.teach()
    assert controller.lesson is None
    teach.advanced.reset.click()
    qtbot.waitUntil(teach.teach.isEnabled, timeout=5000)
    qtbot.keyClicks(teach.advanced.exam, "60")
    qtbot.waitUntil(lambda: "4 slices set aside" in teach.plan.text(), timeout=5000)
    pid = controller.engine.worker.pid
    controller.teach()
    qtbot.waitUntil((controller.lesson.folder / "events.jsonl").is_file, timeout=SECONDS)
    with qtbot.waitSignal(controller.failed, timeout=SECONDS):
        os.kill(pid, signal.SIGKILL)
    qtbot.waitUntil(lambda: "Starting" in dock.status.text(), timeout=5000)
    qtbot.waitUntil(lambda: "ready" in dock.status.text(), timeout=SECONDS)
    assert controller.engine.worker.pid not in (None, pid)
