"""A tiny model, a tiny head and a home of its own for every test."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_dante.model.file import Lineage, Model, write_model
from napari_dante.model.spec import ArchitectureSpec
from napari_dante.volume import Label

MODEL_ID = "6f3f6c5e-7a55-4b5b-8a3e-0f3d8f6f0001"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the tests of the window to one process: two windows would fight for the focus."""
    for item in items:
        if item.get_closest_marker("gui"):
            item.add_marker(pytest.mark.xdist_group("window"))


def pytest_collection_finish() -> None:
    """Keep what was imported out of every later round of the garbage collector."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _home_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the library, jobs and outbox of the person who runs the tests out of it."""
    for name in ("XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "home"))


@pytest.fixture
def spec() -> ArchitectureSpec:
    """A U-Net that trains in milliseconds."""
    return ArchitectureSpec(
        network="UNet",
        arguments={
            "channels": [8, 16],
            "strides": [2],
            "num_res_units": 1,
            "norm": ["INSTANCE", {"affine": True}],
        },
        labels=(Label("core", (0.9, 0.6, 0.0)), Label("shell", (0.3, 0.7, 0.9))),
        spacing=(2.0, 2.0, 2.0),
        patch=(16, 16, 16),
    )


@pytest.fixture
def model(spec: ArchitectureSpec) -> Model:
    """The tiny U-Net with seeded random weights."""
    import torch

    from napari_dante.model.network import build_network

    torch.manual_seed(0)
    weights = {key: value.numpy() for key, value in build_network(spec).state_dict().items()}
    return Model(spec, weights, Lineage("tiny", MODEL_ID))


@pytest.fixture
def model_file(model: Model, tmp_path: Path) -> Path:
    """The tiny model on disk."""
    path = tmp_path / "tiny.safetensors"
    write_model(path, model)
    return path


@pytest.fixture
def ball() -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """An image (24, 20, 22) of a bright core in a shell, and its labels 1 and 2."""
    z, y, x = np.ogrid[:24, :20, :22]
    radius = np.sqrt((z - 12) ** 2 + (y - 10) ** 2 + (x - 11) ** 2)
    labels = np.where(radius < 4, 1, np.where(radius < 8, 2, 0)).astype(np.uint8)
    noise = np.random.default_rng(0).normal(0, 5, labels.shape)
    image = np.choose(labels, [10.0, 200.0, 100.0]) + noise
    return image.astype(np.float32), labels
