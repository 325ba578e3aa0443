"""Real ``.model`` files that nobody can rebuild: one number, and code that learns it."""

from __future__ import annotations

import uuid
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from napari_dante.files import sha256
from napari_dante.jobs.case import CaseData
from napari_dante.model.dafne import DafneModel, write_dafne
from napari_dante.model.trust import trust

INIT = """def init():
    import torch
    class Level(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.level = torch.nn.Parameter(torch.zeros(1))
            self.register_buffer("lessons", torch.zeros(1, dtype=torch.int64))
    return Level()
"""

APPLY = """def apply(model_object, data):
    import numpy
    level = float(model_object.model.level.detach())
    return {"bright": (numpy.asarray(data["image"]) > level).astype(numpy.uint8)}
"""

LEARN = """def learn(model_object, data, outputs, batch_size=5, minimum=5):
    import numpy
    import torch
    if len(data["image_list"]) < minimum:
        return
    images = [numpy.asarray(image) for image in data["image_list"]]
    masks = [outputs[index]["bright"] > 0 for index in range(len(images))]
    inside = min(image[mask].min() for image, mask in zip(images, masks) if mask.any())
    outside = max(image[~mask].max() for image, mask in zip(images, masks))
    with torch.no_grad():
        model_object.model.level.fill_(float(inside + outside) / 2)
        model_object.model.lessons += 1
"""


def learning(*lines: str) -> str:
    """Code that does this instead of learning."""
    return "def learn(model_object, data, outputs, batch_size, minimum):\n" + "".join(
        f"    {line}\n" for line in "\n".join(lines).splitlines()
    )


def level_model(
    learn: str | None = LEARN, apply: str = APPLY, dimensionality: int = 2, orientation: str = ""
) -> DafneModel:
    """A model that takes everything brighter than 50 for a structure."""
    return DafneModel(
        model_id=uuid.UUID("3f0c1f6e-5a1b-4a7c-9d7e-000000000007"),
        kind="DynamicTorchModel",
        dimensionality=dimensionality,
        timestamp=1_700_000_000,
        weights={"level": torch.tensor([50.0]), "lessons": torch.tensor([0])},
        metadata={"orientation": orientation, "net": {"spacing": np.array([1.0, 2.0])}},
        sources={
            "init_model_function": INIT,
            "apply_model_function": apply,
            "calc_delta_function": None,
            "incremental_learn_function": learn,
        },
        extra={"something": [1, "else"]},
    )


def level_file(path: Path, *, trusted: bool = True, **change: object) -> Path:
    """Write such a model; by default as one whose code a person has allowed to run."""
    write_dafne(path, level_model(**change))  # type: ignore[arg-type]
    if trusted:
        trust(sha256(path))
    return path


def bright_case(
    ball: tuple[NDArray[np.float32], NDArray[np.uint8]], axis: int = 0, name: str = "bright"
) -> CaseData:
    """The ball with its core marked on six slices; anywhere else the mask says nonsense."""
    image, labels = ball
    trusted = np.zeros(image.shape[axis], bool)
    trusted[[8, 9, 10, 11, 12, 13]] = True
    marked = (labels == 1).astype(np.uint8)
    np.moveaxis(marked, axis, 0)[~trusted] = 1
    return CaseData(image, marked, {1: name}, (2.0, 1.5, 1.0), axis, trusted)
