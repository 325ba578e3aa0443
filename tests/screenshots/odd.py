"""What is odd, and how the panel says it."""

from __future__ import annotations

import os
import signal
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from napari_dante.jobs.events import Progress
from napari_dante.model.file import read_model, write_model
from napari_dante.ui.demo import MODEL
from napari_dante.ui.pump import pump
from napari_dante.ui.samples import sample_path
from napari_dante.volume import Geometry, open_volume, write_nifti
from tests.screenshots.stage import Stage, state

THICK = 8


@state(fresh=True)
def misfit(stage: Stage) -> None:
    """Voxels of quite another size than the model was made for."""
    head = open_volume(sample_path("mni152_t1"))
    affine = np.diag([*reversed(head.geometry.spacing), 1.0])
    affine[2, 2] *= THICK
    thick = head.array[::THICK]
    _open_made(stage, "Thick slices", thick, affine)
    stage.predict()


@state(fresh=True)
def unlike(stage: Stage) -> None:
    """A phantom that a model for heads refuses."""
    folder = Path(stage.ends.enter_context(tempfile.TemporaryDirectory()))
    model = read_model(stage.controller.library.resolve(MODEL))
    card = replace(model.lineage.card, doubt=0.02)
    path = folder / "model.safetensors"
    write_model(path, replace(model, lineage=replace(model.lineage, card=card)))
    stage.controller.library.keep(path)
    place = np.indices((80, 96, 96)) - np.array([40, 48, 48])[:, None, None, None]
    inside = (place[1] ** 2 + place[2] ** 2 < 38**2) & (abs(place[0]) < 34)
    noise = np.random.default_rng(0).normal(0.0, 12.0, inside.shape)
    _open_made(stage, "Water phantom", np.abs(400.0 * inside + noise), np.diag([2.0, 2, 2, 1]))
    stage.try_to(stage.controller.predicted, stage.dock.predict.predict.click)


@state()
def no_graphics_memory(stage: Stage) -> None:
    """What a full graphics card says; the computer of these pictures has none."""
    import torch

    from napari_dante.jobs.run import _memory_sentence

    stage.controller.failed.emit(_memory_sentence(torch.OutOfMemoryError()))
    pump(300)


@state()
def restarting(stage: Stage) -> None:
    """The background process died while it predicted, and is started anew."""
    controller = stage.controller
    begun: list[Progress] = []
    controller.told.connect(
        lambda event: begun.append(event) if isinstance(event, Progress) else None
    )
    stage.dock.predict.predict.click()
    while not begun:
        pump(20)
    os.kill(controller.engine.worker.pid, signal.SIGKILL)
    pump(300)


def _open_made(stage: Stage, title: str, array: np.ndarray, affine: np.ndarray) -> None:
    """Open an image (z, y, x) that was made for the picture."""
    folder = Path(stage.ends.enter_context(tempfile.TemporaryDirectory()))
    path = folder / "image.nii.gz"
    geometry = Geometry.from_affine(array.shape[::-1], affine)
    write_nifti(path, array.astype(np.float32), geometry)
    controller = stage.controller
    stage.wait(controller.opened, lambda: controller.open_volume(path, name=title))
    controller.choose_model(MODEL)
    stage.show(len(array) // 2)
