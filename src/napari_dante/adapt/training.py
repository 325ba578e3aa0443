"""What every method of adapting shares, as one frozen value. Torch-free."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from napari_dante.errors import TeachError
from napari_dante.model.low_rank import one_of

__all__ = ["Augmentation", "Device", "Training"]

Augmentation = Literal["none", "mild", "strong"]
Device = Literal["auto", "cpu", "cuda", "mps"]


@dataclass(frozen=True)
class Training:
    """What every method shares.

    Attributes
    ----------
    steps
        Optimiser steps at most.
    batch
        Patches in a step.
    learning_rate
        Peak of a linear warm-up and cosine decay (AdamW).
    weight_decay
        Decoupled weight decay.
    check_every
        Steps between two looks at the exam slices.
    patience
        Looks without improvement after which the run ends.
    augmentation
        Strength of the MR augmentation.
    replay
        Patches of earlier cases that are rehearsed in each step beside the batch, where the
        job has such cases, so that the model does not forget them.
    distillation
        Weight with which the untrusted voxels are held to what the old model says of them.
        It keeps the model from forgetting, but also from unlearning what was wrong.
    device
        ``"auto"`` takes a GPU when there is one.
    seed
        The same job on the same device gives the same weights.
    """

    steps: int = 120
    batch: int = 2
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    check_every: int = 20
    patience: int = 4
    augmentation: Augmentation = "mild"
    replay: int = 1
    distillation: float = 0.0
    device: Device = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "check_every", "patience", "learning_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise TeachError(f"'{name}' must be greater than zero.")
        for name in ("replay", "distillation"):
            if not 0 <= getattr(self, name) < math.inf:
                raise TeachError(f"'{name}' must not be below zero.")
        one_of("augmentation", self.augmentation, Augmentation)
        one_of("device", self.device, Device)
