"""A small job that can be learned in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_dante.adapt.recipe import LoRA, Recipe
from napari_dante.adapt.training import Training
from napari_dante.jobs.folder import CaseData, JobFolder, create_job

NAMES = {1: "core", 2: "shell"}
SLICES = (6, 8, 12, 14, 16)


def case(
    ball: tuple[NDArray[np.float32], NDArray[np.uint8]], slices: tuple[int, ...] = SLICES
) -> CaseData:
    image, labels = ball
    trusted = np.zeros(len(image), bool)
    trusted[list(slices)] = True
    return CaseData(image, labels, NAMES, (2.0, 2.0, 2.0), 0, trusted)


def recipe(steps: int = 6, **training: object) -> Recipe:
    return LoRA(rank=2, training=Training(steps=steps, check_every=2, **training))  # type: ignore[arg-type]


def job(
    folder: Path,
    model_file: Path,
    ball: tuple[NDArray[np.float32], NDArray[np.uint8]],
    **training: object,
) -> JobFolder:
    return create_job(folder, model_file, [case(ball)], recipe(**training))  # type: ignore[arg-type]
