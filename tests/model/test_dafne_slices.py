"""A two-dimensional network as a model that Dafne calls slice by slice."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from napari_dante.errors import ModelError
from napari_dante.jobs import foreign_child
from napari_dante.model.dafne import from_dafne, read_dafne, to_dafne, write_dafne
from napari_dante.model.dafne_frame import Frame
from napari_dante.model.dafne_slices import ORIENTATIONS, RUNS, one_slice
from napari_dante.model.dafne_source import apply_source, learn_source
from napari_dante.model.segmenter import Segmenter
from napari_dante.model.spec import ArchitectureSpec
from tests.federated.tiny import tiny_model
from tests.model.test_dafne_learn import SPEC as BALL
from tests.model.test_dafne_source import dafne_function
from tests.model.test_slices import seeded

PATCHES = {0: (1, 16, 12), 1: (16, 1, 12), 2: (16, 12, 1)}
INIT = "init_model_function"
SPACING = (1.4, 2.6, 1.9)


@pytest.fixture(params=PATCHES)
def flat(request: pytest.FixtureRequest, spec: ArchitectureSpec) -> ArchitectureSpec:
    return replace(spec, patch=PATCHES[request.param])


@pytest.mark.parametrize("flipped", [(), (0, 2)])
def test_each_slice_gets_the_mask_that_it_has_alone(
    flat: ArchitectureSpec,
    ball: tuple[NDArray[np.float32], NDArray[np.uint8]],
    tmp_path: Path,
    flipped: tuple[int, ...],
) -> None:
    """Dafne hands the slices over in its own axes, one by one; ours come from one-slice volumes."""
    model = seeded(replace(flat, flipped=flipped))
    write_dafne(tmp_path / "flat.model", to_dafne(model, by_slice=True))
    dafne = read_dafne(tmp_path / "flat.model")
    axis, image = model.spec.patch.index(1), ball[0][:11, :13, :12]
    segmenter = Segmenter(model, torch.device("cpu"))
    alone = [
        segmenter.predict(np.take(image, [index], axis), SPACING)
        for index in range(image.shape[axis])
    ]
    expected = np.concatenate(alone, axis)
    assert len(np.unique(expected)) > 1
    found = foreign_child._segment(dafne, image, list(SPACING))
    for number, label in enumerate(model.spec.labels, start=1):
        assert found[label.name].dtype == np.uint8
        np.testing.assert_array_equal(found[label.name], expected == number)


def test_it_comes_back_as_the_model_that_it_was(flat: ArchitectureSpec, tmp_path: Path) -> None:
    model = seeded(flat)
    write_dafne(tmp_path / "flat.model", to_dafne(model, by_slice=True))
    dafne = read_dafne(tmp_path / "flat.model")
    assert (dafne.dimensionality, dafne.metadata["dimensionality"]) == (2, "2")
    assert dafne.metadata["orientation"] == ORIENTATIONS[flat.patch.index(1)]
    back = from_dafne(dafne, "flat")
    assert back.spec == model.spec
    assert back.lineage == model.lineage
    for key, value in model.weights.items():
        np.testing.assert_array_equal(back.weights[key], value)
    update = to_dafne(model, dafne)
    assert (update.dimensionality, update.metadata) == (2, dafne.metadata)
    assert update.sources == dafne.sources


def test_only_a_two_dimensional_model_is_called_slice_by_slice() -> None:
    with pytest.raises(ModelError, match="two-dimensional"):
        to_dafne(tiny_model(), by_slice=True)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_axes_are_those_in_which_dafne_hands_slices_over(axis: int) -> None:
    orientation = ORIENTATIONS[axis]
    assert RUNS[axis] == Frame.of({"orientation": orientation}, SPACING).runs
    affine = one_slice({"image": np.zeros((3, 4)), "resolution": [2.0, 5.0]}, axis)["affine"]
    assert np.linalg.norm(affine[:3], axis=0).tolist() == [2.0, 5.0, 1.0, 0.0]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_it_learns_from_slices(axis: int) -> None:
    """A core in a half shell, on slices as Dafne hands them over."""
    patch = [16, 16, 16]
    patch[axis] = 1
    spec = replace(BALL, patch=tuple(patch))  # type: ignore[arg-type]
    rows, columns = np.ogrid[:24, :22]
    radius = np.sqrt((rows - 13) ** 2 + (columns - 10) ** 2)
    truth = np.where(radius < 4, 1, np.where((radius < 8) & (columns > 8), 2, 0))
    noise = np.random.default_rng(0).normal(0, 5, (6, *truth.shape))
    images = list(np.choose(truth, [10.0, 200.0, 100.0]) + noise)
    model = SimpleNamespace(model=dafne_function(to_dafne(seeded(spec)).sources[INIT] or "")())
    model.model.load_state_dict(to_dafne(seeded(spec)).weights)
    apply = dafne_function(apply_source(spec, by_slice=True))
    learn = dafne_function(learn_source(spec, by_slice=True))
    data = {"image_list": images, "resolution": [2.0, 2.0], "classification": ""}
    outputs = [{"core": truth == 1, "shell_R": (truth == 2).astype(np.uint8)} for _ in images]

    def dice() -> list[float]:
        masks = apply(model, {"image": images[0], "resolution": [2.0, 2.0]})
        assert masks["core"].shape == truth.shape
        wanted = [truth == 1, truth == 2]
        pairs = zip(masks.values(), wanted, strict=True)
        return [2 * (mask * true).sum() / (mask.sum() + true.sum()) for mask, true in pairs]

    before = dice()
    assert not learn(model, data, outputs, 5, 7), "seven slices were asked for"
    assert dice() == before
    assert learn(model, data, outputs, 5, 5)
    assert max(before) < 0.5
    assert min(dice()) > 0.55, "a core and a shell that are not where they are learned stay below"


def test_the_text_is_one_function_with_everything_inside(flat: ArchitectureSpec) -> None:
    for text in (apply_source(flat, by_slice=True), learn_source(flat, by_slice=True)):
        (function,) = ast.parse(text).body
        assert isinstance(function, ast.FunctionDef)
        names = [node.name for node in function.body if isinstance(node, ast.FunctionDef)]
        assert len(set(names)) == len(names), "one name means two things"
        assert not any(
            isinstance(node, ast.ImportFrom) and str(node.module).startswith("napari_dante")
            for node in ast.walk(function)
        )
