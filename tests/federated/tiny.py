"""A model small enough to predict in a blink, and volumes for it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from napari_dante.model.file import Lineage, Model
from napari_dante.model.network import build_network
from napari_dante.model.spec import ArchitectureSpec
from napari_dante.volume import Label

SPEC = ArchitectureSpec(
    network="UNet",
    arguments={"channels": [4, 8], "strides": [2], "num_res_units": 1, "norm": "batch"},
    labels=(Label("grey 'matter'", (1.0, 0.0, 0.0)), Label("white", (0.0, 1.0, 0.0))),
    spacing=(2.0, 1.5, 1.0),
    patch=(16, 16, 16),
)
MODEL_ID = "3f0c1f6e-5a1b-4a7c-9d7e-000000000001"


def tiny_model(seed: int = 0, name: str = "Tiny head") -> Model:
    """A network with random weights, the same for the same seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        state = build_network(SPEC).state_dict()
    weights = {key: value.numpy().copy() for key, value in state.items()}
    for key, value in weights.items():
        if value.dtype.kind == "i":
            weights[key] = np.asarray(value + 2 * seed + 1)
    return Model(SPEC, weights, Lineage(name=name, model_id=MODEL_ID))


def volume(shape: tuple[int, int, int], seed: int = 0) -> NDArray[np.float32]:
    """Smooth-ish noise, so that more than one class is predicted."""
    random = np.random.default_rng(seed)
    coarse = random.normal(size=[size // 4 + 1 for size in shape])
    fine = coarse.repeat(4, 0).repeat(4, 1).repeat(4, 2)[: shape[0], : shape[1], : shape[2]]
    return (100 * fine + random.normal(size=shape)).astype(np.float32)


def affine(codes: str, spacing: tuple[float, float, float]) -> NDArray[np.float64]:
    """Voxel to RAS+ for array axes that run towards `codes`, such as ``"LSA"``."""
    matrix = np.eye(4)
    matrix[:3, :3] = 0
    for axis, code in enumerate(codes):
        world = next(number for number, pair in enumerate(("LR", "PA", "IS")) if code in pair)
        matrix[world, axis] = spacing[axis] * (1 if code in "RAS" else -1)
    matrix[:3, 3] = (-11.0, 7.0, 30.0)
    return matrix
