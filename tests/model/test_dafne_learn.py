"""The learning that our .model files bring along, where nothing of ours is installed."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_dante.model import dafne_learn
from napari_dante.model.dafne import to_dafne, write_dafne
from napari_dante.model.dafne_learn import learn, learning_case
from napari_dante.model.dafne_source import learn_source
from napari_dante.model.file import Lineage, Model
from napari_dante.model.network import build_network
from napari_dante.model.spec import ArchitectureSpec
from napari_dante.volume import Geometry, Label
from tests.federated.tiny import affine

SPEC = ArchitectureSpec(
    network="UNet",
    arguments={"channels": [8, 16], "strides": [2], "num_res_units": 1, "norm": "instance"},
    labels=(Label("core", (1.0, 0.0, 0.0)), Label("shell", (0.0, 1.0, 0.0))),
    spacing=(2.0, 2.0, 2.0),
    patch=(16, 16, 16),
)
SHAPE = (22, 24, 20)

PROGRAM = """
import json, pickle, sys
sys.modules["napari_dante"] = None
import numpy as np
from types import SimpleNamespace

def function(text):
    found = {}
    exec(text, {"DynamicTorchModel": object}, found)
    return next(value for value in found.values() if callable(value))

with open(sys.argv[1], "rb") as stream:
    entries = pickle.load(stream)
apply = function(entries["apply_model_function"])
learn = function(entries["incremental_learn_function"])

def lesson(path):
    model = SimpleNamespace(model=function(entries["init_model_function"])())
    model.model.load_state_dict(entries["weights"])
    data = np.load(path)
    image, labels, matrix = data["image"], data["labels"], data["affine"]

    def dice():
        masks = apply(model, {"image": image, "affine": matrix, "resolution": [2, 2, 2]})
        pairs = [(masks[name], labels == n) for n, name in enumerate(["core", "shell"], start=1)]
        return [float(2 * (ours * true).sum() / (ours.sum() + true.sum())) for ours, true in pairs]

    before = dice()
    slices = np.flatnonzero((labels > 0).any(axis=(0, 1)))
    stacked = np.stack([image[:, :, index] for index in slices]).astype(np.float32)
    outputs = {0: {
        "core": np.stack([labels[:, :, index] == 1 for index in slices]),
        "shell_L": np.stack([labels[:, :, index] == 2 for index in slices]),
    }}
    training = {"image_list": [stacked], "affine": [matrix], "resolution": [2, 2, 2]}
    learn(model, training, outputs, 1, 10)
    unchanged = dice() == before
    learn(model, training, outputs, 1, 1)
    return before, unchanged, dice()

lessons = [lesson(path) for path in sys.argv[2:]]
ours = sorted(name for name in sys.modules if name.startswith("napari"))
print(json.dumps([lessons, ours]))
"""


def ball(codes: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A core in a shell, off the middle so that a wrong axis shows; stored as `codes`."""
    x, y, z = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    radius = np.sqrt((x - 13) ** 2 + (y - 10) ** 2 + (z - 11) ** 2)
    labels = np.where(radius < 4, 1, np.where((radius < 8) & (y > 8), 2, 0)).astype(np.uint8)
    noise = np.random.default_rng(0).normal(0, 5, labels.shape)
    image = np.choose(labels, [10.0, 200.0, 100.0]) + noise
    return image, labels, affine(codes, (2.0, 2.0, 2.0))


def fresh() -> Model:
    torch.manual_seed(0)
    weights = {key: value.numpy() for key, value in build_network(SPEC).state_dict().items()}
    return Model(SPEC, weights, Lineage("Ball", "6f3f6c5e-7a55-4b5b-8a3e-0f3d8f6f0001"))


def test_the_file_learns_where_nothing_of_ours_is(tmp_path: Path) -> None:
    """Two volumes that are stored in different ways, each learned from the same beginning."""
    write_dafne(tmp_path / "ball.model", to_dafne(fresh()))
    volumes = [tmp_path / f"{codes}.npz" for codes in ("RPI", "LAS")]
    for path in volumes:
        image, labels, matrix = ball(path.stem)
        np.savez(path, image=image, labels=labels, affine=matrix)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "ball.model"), *map(str, volumes)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lessons, ours = json.loads(done.stdout)
    assert ours == ["napari_dante"], "it was blocked"
    assert len(lessons) == len(volumes)
    for path, (before, unchanged, after) in zip(volumes, lessons, strict=True):
        assert unchanged, f"{path.stem}: ten volumes were asked for"
        assert max(before) < 0.5, path.stem
        assert min(after) > 0.7, (path.stem, before, after)


def test_training_volumes_lie_as_the_network_sees_them() -> None:
    for codes in ("RPI", "LAS", "PIR"):
        image, labels, matrix = ball(codes)
        masks = {"core": labels == 1, "shell_R": labels == 2, "other": labels >= 0}
        for flipped in ((), (0, 2)):
            grid = (SPEC.spacing, SPEC.patch, "head", flipped)
            seen, truth = learning_case(image, matrix, masks, ["core", "shell"], grid)
            shown = Geometry.from_affine(image.shape, matrix).to_display(labels)
            np.testing.assert_array_equal(truth.numpy(), np.flip(shown, flipped))
            assert seen.shape == (1, *truth.shape)
            assert (
                seen[0][truth == 1].mean() > seen[0][truth == 2].mean() > seen[0][truth == 0].mean()
            )


def test_what_does_not_get_better_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    network = build_network(SPEC)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    image, labels, matrix = ball("RPI")
    data = {"image_list": [np.moveaxis(image, -1, 0)], "affine": [matrix]}
    outputs = [{"core": np.moveaxis(labels == 1, -1, 0)}]
    arguments: Any = (network, data, outputs, ["core", "shell"], SPEC.spacing, SPEC.patch)
    monkeypatch.setattr(dafne_learn, "STEPS", 3)
    monkeypatch.setattr(dafne_learn, "RATE", 30.0)
    assert not learn(*arguments)
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key])
    monkeypatch.setattr(dafne_learn, "RATE", 1e-3)
    monkeypatch.setattr(dafne_learn, "STEPS", 10)
    assert learn(*arguments)
    assert any(not torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert not learn(network, data, [{}], *arguments[3:]), "nothing is marked"


def test_the_text_is_one_function_with_everything_inside() -> None:
    spec = replace(SPEC, labels=(Label("x'); import os #", (0, 0, 0)), SPEC.labels[1]))
    (function,) = ast.parse(learn_source(spec)).body
    assert isinstance(function, ast.FunctionDef)
    for node in ast.walk(function):
        if isinstance(node, ast.ImportFrom):
            assert str(node.module).split(".")[0] in {
                "collections", "functools", "monai", "numpy", "scipy", "typing"
            }  # fmt: skip
