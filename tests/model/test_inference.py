"""Prediction does not care about scanner scale or air, and keeps to the grid it was given."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from napari_dante.errors import ModelError
from napari_dante.model.file import Model
from napari_dante.model.inference import (
    Prediction,
    predict_volume,
    slide,
    window_steps,
    windows_at_once,
)
from napari_dante.model.network import build_network
from napari_dante.model.segmenter import Segmenter, choose_device
from napari_dante.model.spec import ArchitectureSpec

Ball = tuple[NDArray[np.float32], NDArray[np.uint8]]
Shape = tuple[int, int, int]
PATCH = (16, 16, 16)
CPU = torch.device("cpu")
GRIDS: list[tuple[Shape, tuple[float, float, float]]] = [
    ((5, 6, 7), (2.0, 2.0, 2.0)),
    ((24, 20, 22), (1.0, 1.0, 1.0)),
    ((3, 40, 41), (8.0, 0.9, 0.9)),
    ((1, 30, 30), (2.0, 2.0, 2.0)),
]


class Voxelwise(nn.Module):
    """A network that looks at one voxel only, so that windows make no difference.

    `steepness` 0 never decides; a large one is certain.
    """

    def __init__(self, steepness: float) -> None:
        super().__init__()
        self.steepness = nn.Parameter(torch.tensor(steepness))
        self.windows = 0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.windows += len(image)
        levels = torch.tensor([-2.0, 0.0, 1.0]).reshape(1, 3, 1, 1, 1)
        return -self.steepness * (image - levels).abs()


def predict(
    network: nn.Module, image: NDArray[np.float32], spacing: tuple[float, float, float] = (2, 2, 2)
) -> Prediction:
    return predict_volume(
        network,
        image,
        spacing,
        target_spacing=(2, 2, 2),
        patch=PATCH,
        entropy=True,
        probabilities=True,
    )


def body_in_air(margin: int = 8, seed: int = 0) -> NDArray[np.float32]:
    """A block of tissue in black air."""
    tissue = np.random.default_rng(seed).gamma(20.0, 5.0, (33, 24, 40))
    return np.pad(tissue, margin).astype(np.float32)


@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
def test_what_is_returned_agrees_with_itself(
    model: Model, shape: Shape, spacing: tuple[float, float, float]
) -> None:
    segmenter = Segmenter(model, CPU)
    image = np.random.default_rng(0).gamma(2.0, 50.0, shape)
    found = segmenter.analyse(image, spacing, entropy=True, probabilities=True)
    assert found.probabilities is not None
    assert found.entropy is not None
    assert found.probabilities.shape == (3, *shape)
    assert found.probabilities.dtype == found.entropy.dtype == np.float32
    assert found.probabilities.min() >= 0
    assert np.allclose(found.probabilities.sum(axis=0), 1, atol=1e-5)
    shannon = -(found.probabilities * np.log(found.probabilities + 1e-30)).sum(axis=0) / math.log(3)
    assert np.allclose(found.entropy, shannon, atol=1e-5)
    assert 0 <= found.entropy.min() <= found.entropy.max() <= 1
    assert found.classes.dtype == np.uint8
    assert np.array_equal(found.classes, found.probabilities.argmax(axis=0))


@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
def test_nothing_is_returned_that_was_not_asked_for(
    model: Model, shape: Shape, spacing: tuple[float, float, float]
) -> None:
    segmenter = Segmenter(model, CPU)
    image = np.random.default_rng(0).gamma(2.0, 50.0, shape)
    every = segmenter.analyse(image, spacing, entropy=True, probabilities=True)
    sure = segmenter.analyse(image, spacing, entropy=True)
    alone = segmenter.analyse(image, spacing)
    assert sure.probabilities is alone.probabilities is alone.entropy is None
    assert every.entropy is not None
    assert sure.entropy is not None
    assert np.array_equal(sure.entropy, every.entropy)
    for found in (sure.classes, alone.classes, segmenter.predict(image, spacing)):
        assert np.array_equal(found, every.classes)


def test_entropy_is_zero_where_the_network_is_certain_and_one_where_it_is_not() -> None:
    image = body_in_air()
    body = image > 0
    certain, undecided = predict(Voxelwise(1e8), image), predict(Voxelwise(0.0), image)
    assert certain.entropy is not None
    assert undecided.entropy is not None
    assert len(np.unique(certain.classes)) == 3
    assert not certain.entropy.any()
    assert np.allclose(undecided.entropy[body], 1, atol=1e-5)
    assert set(np.unique(undecided.entropy.round(5))) == {0, 1}


def test_outside_of_the_body_all_is_background_exactly() -> None:
    found = predict(Voxelwise(0.0), body_in_air(margin=20))
    assert found.probabilities is not None
    for axis in (1, 2, 3):
        for side in (slice(None, 10), slice(-10, None)):
            edge = np.moveaxis(found.probabilities, axis, 1)[:, side]
            assert np.array_equal(edge[0], np.ones_like(edge[0]))
            assert not edge[1:].any()


@pytest.mark.parametrize("negative", [0, -1000])
def test_air_around_a_body_changes_nothing_but_the_size(model: Model, negative: int) -> None:
    """The windows lie on the body, so they are the same; the numbers are, bit for bit."""
    network = build_network(model.spec).eval()
    image = body_in_air() + negative
    padding = ((20, 6), (0, 34), (12, 8))
    inside = tuple(slice(a, a + size) for (a, _), size in zip(padding, image.shape, strict=True))
    plain = predict(network, image)
    padded = predict(network, np.pad(image, padding, constant_values=negative))
    assert plain.probabilities is not None
    assert padded.probabilities is not None
    assert np.array_equal(padded.probabilities[(slice(None), *inside)], plain.probabilities)
    assert not np.delete(padded.classes, np.r_[inside[0]], axis=0).any()


def test_windows_over_air_cost_nothing() -> None:
    tight, wide = Voxelwise(1.0), Voxelwise(1.0)
    predict(tight, body_in_air())
    predict(wide, body_in_air(margin=60))
    assert tight.windows == wide.windows > 1


@settings(max_examples=20, deadline=None)
@given(
    shape=st.tuples(*[st.integers(4, 40)] * 3),
    overlap=st.floats(0, 0.7),
    seed=st.integers(0, 99),
)
def test_windows_blend_into_what_each_of_them_says(shape: Shape, overlap: float, seed: int) -> None:
    """For a network that looks at one voxel, the windows must not show at all."""
    image = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    network = Voxelwise(1.0)
    found = slide(network, image, PATCH, overlap)
    with torch.inference_mode():
        expected = torch.softmax(network(torch.from_numpy(image)[None, None]), dim=1)
    assert torch.allclose(found, expected, atol=1e-5)


@given(
    shape=st.tuples(*[st.integers(1, 300)] * 3),
    patch=st.tuples(*[st.integers(1, 96)] * 3),
    overlap=st.floats(0, 0.9),
)
def test_windows_are_as_few_as_the_overlap_allows_and_even(
    shape: Shape, patch: Shape, overlap: float
) -> None:
    for size, edge, step in zip(shape, patch, window_steps(shape, patch, overlap), strict=True):
        if size <= edge:
            assert step == edge
            continue
        furthest = max(1, int(edge * (1 - overlap)))
        count = math.ceil((size - edge) / step)
        assert 1 <= step <= furthest
        assert count == math.ceil((size - edge) / furthest)
        # The last window, moved back to the end of the volume, is no closer than it must be.
        assert size - edge - (count - 1) * step > step - count


def test_progress_counts_the_windows(model: Model) -> None:
    segmenter = Segmenter(model, CPU)
    for shape, spacing in GRIDS:
        image = np.random.default_rng(0).gamma(2.0, 50.0, shape)
        seen: list[tuple[int, int]] = []
        segmenter.predict(image, spacing, lambda *pair, seen=seen: seen.append(pair))
        total = seen[0][1]
        assert seen == [(done, total) for done in range(1, total + 1)]


def test_what_a_window_raises_ends_the_prediction(model: Model) -> None:
    segmenter = Segmenter(model, CPU)
    segmenter.network.train()

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segmenter.predict(body_in_air(), (2.0, 2.0, 2.0), stop)
    assert segmenter.network.training, "the network is left as it was"


@given(patch=st.tuples(*[st.integers(1, 256)] * 3), device=st.sampled_from(["cpu", "cuda", "mps"]))
def test_windows_at_once_are_bounded_in_voxels(patch: Shape, device: str) -> None:
    count = windows_at_once(torch.device(device), patch)
    least = 2 if device == "cpu" else 1
    assert count >= least
    assert count == least or count * math.prod(patch) <= 2**20


@settings(max_examples=10, deadline=None)
@given(power=st.integers(-8, 8), offset=st.integers(-3000, 3000))
def test_the_mask_ignores_scale_and_offset(power: int, offset: int) -> None:
    """Whole numbers and powers of two: the intensities are exact in float32."""
    image = np.round(body_in_air())
    network = Voxelwise(1.0)
    changed = ((image + offset) * 2.0**power).astype(np.float32)
    first, second = predict(network, image), predict(network, changed)
    assert first.probabilities is not None
    assert second.probabilities is not None
    # Sums of thousands round a little differently with an offset.
    assert np.allclose(first.probabilities, second.probabilities, atol=1e-3)


def test_weights_of_another_network_are_refused(model: Model) -> None:
    key = next(iter(model.weights))
    for weights in (
        {name: value for name, value in model.weights.items() if name != key},
        {**model.weights, "extra": np.zeros(3, np.float32)},
        {**model.weights, key: np.zeros((1, 2), np.float32)},
    ):
        with pytest.raises(ModelError, match="do not belong"):
            Segmenter(replace(model, weights=weights), CPU)


def test_a_network_that_cannot_be_built_is_refused(spec: ArchitectureSpec) -> None:
    for arguments in ({"channels": [8]}, {"nonsense": 1}, {}):
        with pytest.raises(ModelError):
            build_network(replace(spec, arguments=arguments))


@pytest.mark.parametrize(
    ("usable", "chosen"),
    [({"cuda", "mps"}, "cuda"), ({"cuda"}, "cuda"), ({"mps"}, "mps"), (set(), "cpu")],
)
def test_auto_takes_the_graphics_card_that_is_here(
    monkeypatch: pytest.MonkeyPatch, usable: set[str], chosen: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in usable)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in usable)
    assert choose_device("auto").type == chosen
    for name in ("cuda", "mps", "abacus"):
        if name in usable:
            assert choose_device(name).type == name
        else:
            with pytest.raises(ModelError, match="graphics card"):
                choose_device(name)
    assert choose_device("cpu").type == "cpu"


def test_the_same_file_predicts_the_same(model_file: Path, ball: Ball) -> None:
    masks = [Segmenter.from_file(model_file).predict(ball[0], (2.0,) * 3) for _ in range(2)]
    assert np.array_equal(*masks)
