"""The way from an empty window to a kept model, in the order in which a person goes it.

A new state is a function below the decorator, at the place where the window is in the state
before it.
"""

from __future__ import annotations

import os
import signal

from napari_dante.jobs.events import Progress
from napari_dante.ui.demo import SLICES
from napari_dante.ui.plan import Plan
from napari_dante.ui.pump import pump
from napari_dante.ui.states import Step
from tests.screenshots.stage import Stage, state

MIDDLE = SLICES[2]


@state(fresh=True)
def opened(stage: Stage) -> None:
    """An image without a mask."""
    stage.open("mni152_t2")
    stage.controller.choose_model("brain-tissue")
    stage.show(MIDDLE)


@state()
def any_contrast(stage: Stage) -> None:
    """What the usual starter proposes on a T2."""
    stage.predict()
    stage.show(MIDDLE)


@state(fresh=True)
def structures(stage: Stage) -> None:
    """The other starter on the same image."""
    stage.open("mni152_t2")
    stage.controller.choose_model("brain-structures")
    stage.predict()
    stage.show(MIDDLE)


@state(fresh=True, light=True)
def empty(stage: Stage) -> None:
    """Nothing is open."""
    while stage.controller.engine.ready is None:
        pump(200)


@state()
def predicted(stage: Stage) -> None:
    """A first proposal."""
    stage.open("mni152_t2")
    stage.predict()
    stage.show(MIDDLE)


@state(light=True)
def correcting(stage: Stage) -> None:
    """Five corrected slices, three of them approved."""
    stage.correct(approved=3)
    stage.show(MIDDLE)


@state()
def advanced(stage: Stage) -> None:
    """What can be set before a lesson."""
    stage.controller.choose_method("lora-decoder")
    stage.dock.teach.drawer.open()
    stage.scroll_to(stage.dock.cards[Step.TEACH])


@state()
def interrupted(stage: Stage) -> None:
    """The background process died in the middle of a lesson."""
    controller = stage.controller
    stage.dock.teach.drawer.open(False)
    if stage.steps is None:
        controller.choose_method("auto")
    else:
        controller.choose_plan(Plan({"steps": str(stage.steps)}))
    _wait_for_step(stage, 8, lambda: controller.teach())
    os.kill(controller.engine.worker.pid, signal.SIGKILL)
    pump(1500)


@state()
def teaching(stage: Stage) -> None:
    """A lesson, a while after its first look at the exam."""
    last = (stage.steps or 120) * 2 // 3
    _wait_for_step(stage, last, stage.dock.teach.teach.click)


@state(light=True)
def result(stage: Stage) -> None:
    """The exam and the new mask."""
    while stage.controller.lesson.report is None:
        pump(500)
    stage.dock.result.look.click()
    stage.show(MIDDLE + 5)


@state(light=True)
def result_errors(stage: Stage) -> None:
    """What the new model gets wrong on an exam slice."""
    stage.dock.result.look.click()
    stage.dock.result.errors.click()
    stage.controller.session.tracker.go_to(stage.controller.lesson.report.exam[0])
    stage.scroll_to(stage.dock.result.keep)


@state()
def result_old_errors(stage: Stage) -> None:
    """The same slice under the old model."""
    stage.controller.lesson.overlays.show_errors("before")
    stage.scroll_to(stage.dock.result.keep)


@state()
def result_details(stage: Stage) -> None:
    """Earlier cases, pairs of dots and the learning curve."""
    stage.controller.lesson.overlays.show_errors(None)
    stage.dock.result.exam.details.open()
    stage.scroll_to(stage.dock.result.exam.details)


@state()
def export(stage: Stage) -> None:
    """What can be exported; the page of this lesson goes beside the pictures."""
    stage.dock.result.exam.details.open(False)
    stage.dock.result.export.open()
    stage.dock.result.exporting.save(stage.out.parent / "report.html")
    stage.scroll_to(stage.dock.result.export)


@state()
def history(stage: Stage) -> None:
    """The kept version, and the way back."""
    stage.dock.result.export.open(False)
    stage.wait(stage.controller.kept, stage.dock.result.keep.click)
    stage.dock.history.open()
    stage.show(MIDDLE + 5)
    stage.scroll_to(stage.dock.history)


def _wait_for_step(stage: Stage, step: int, start: object) -> None:
    """Start a lesson and wait until it is so far."""
    reached: list[int] = []
    stage.controller.told.connect(
        lambda event: reached.append(event.step) if isinstance(event, Progress) else None
    )
    start()  # type: ignore[operator]
    while not reached or reached[-1] < step:
        pump(200)
