"""Prediction does not care about scanner scale, and keeps to the grid it was given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_dante.errors import ModelError
from napari_dante.model.file import Model
from napari_dante.model.inference import (
    autocast,
    normalise_head,
    resample_image,
    resampled_shape,
)
from napari_dante.model.network import build_network
from napari_dante.model.segmenter import Segmenter, choose_device, window_count
from napari_dante.model.spec import ArchitectureSpec

Ball = tuple[NDArray[np.float32], NDArray[np.uint8]]


@given(scale=st.floats(1e-3, 1e4), offset=st.floats(-1e4, 1e4), seed=st.integers(0, 99))
def test_normalisation_ignores_scale_and_offset(scale: float, offset: float, seed: int) -> None:
    image = np.random.default_rng(seed).gamma(2.0, 50.0, (7, 8, 9))
    first, second = normalise_head(image), normalise_head(image * scale + offset * scale)
    assert np.allclose(first, second, atol=2e-2 * max(1.0, abs(offset) / 1e3))


def test_normalisation_survives_constant_and_broken_images() -> None:
    assert not normalise_head(np.full((3, 3, 3), 7)).any()
    assert not normalise_head(np.full((3, 3, 3), np.nan)).any()
    image = np.random.default_rng(0).normal(size=(5, 5, 5))
    image[0, 0] = [np.nan, np.inf, -np.inf, 0, 1]
    assert np.isfinite(normalise_head(image)).all()


def test_one_wild_voxel_changes_little() -> None:
    image = np.random.default_rng(0).gamma(2.0, 50.0, (20, 20, 20))
    wild = image.copy()
    wild[0, 0, 0] = 1e6
    assert np.median(np.abs(normalise_head(image) - normalise_head(wild))) < 0.2


@given(
    shape=st.tuples(*[st.integers(1, 40)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 8)] * 3),
)
def test_resampled_shape_covers_the_same_field_of_view(
    shape: tuple[int, int, int], spacing: tuple[float, float, float]
) -> None:
    new = resampled_shape(shape, spacing, (2, 2, 2))
    for size, width, count in zip(shape, spacing, new, strict=True):
        assert abs(size * width - count * 2) <= 1 or count == 1


@settings(max_examples=20, deadline=None)
@given(st.tuples(*[st.integers(2, 30)] * 3), st.tuples(*[st.integers(2, 30)] * 3))
def test_resampling_keeps_a_ramp_in_place(
    old: tuple[int, int, int], new: tuple[int, int, int]
) -> None:
    position = (np.arange(old[0]) + 0.5) / old[0]
    ramp = np.broadcast_to(position[:, None, None], old).astype(np.float32)
    found = resample_image(ramp.copy(), new)[:, 0, 0]
    expected = (np.arange(new[0]) + 0.5) / new[0]
    assert np.abs(found - expected).max() < 1.5 / min(old[0], new[0])


def test_mask_has_the_shape_of_any_image(model: Model) -> None:
    segmenter = Segmenter(model, torch.device("cpu"))
    for shape, spacing in (
        ((5, 6, 7), (2.0, 2.0, 2.0)),
        ((24, 20, 22), (1.0, 1.0, 1.0)),
        ((3, 40, 41), (8.0, 0.9, 0.9)),
        ((1, 30, 30), (2.0, 2.0, 2.0)),
    ):
        image = np.random.default_rng(0).gamma(2.0, 50.0, shape)
        windows = 0

        def count() -> None:
            nonlocal windows
            windows += 1

        mask = segmenter.predict(image, spacing, count)
        assert mask.shape == shape
        assert mask.max() <= 2
        assert windows == window_count(shape, spacing, model.spec)
        probabilities = segmenter.probabilities(image, spacing)
        assert np.allclose(probabilities.sum(axis=0), 1, atol=1e-4)


def test_weights_of_another_network_are_refused(model: Model) -> None:
    key = next(iter(model.weights))
    for weights in (
        {name: value for name, value in model.weights.items() if name != key},
        {**model.weights, "extra": np.zeros(3, np.float32)},
        {**model.weights, key: np.zeros((1, 2), np.float32)},
    ):
        with pytest.raises(ModelError, match="do not belong"):
            Segmenter(replace(model, weights=weights), torch.device("cpu"))


def test_a_network_that_cannot_be_built_is_refused(spec: ArchitectureSpec) -> None:
    for arguments in ({"channels": [8]}, {"nonsense": 1}, {}):
        with pytest.raises(ModelError):
            build_network(replace(spec, arguments=arguments))


def test_no_float16_on_a_processor() -> None:
    with autocast(torch.device("cpu")):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype in {torch.float32, torch.bfloat16}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a graphics card here")
def test_asking_for_a_missing_graphics_card_is_a_sentence() -> None:
    with pytest.raises(ModelError, match="graphics card"):
        choose_device("cuda")
    assert choose_device("auto").type == "cpu"


def test_the_same_file_predicts_the_same(model_file: Path, ball: Ball) -> None:
    masks = [Segmenter.from_file(model_file).predict(ball[0], (2.0,) * 3) for _ in range(2)]
    assert np.array_equal(*masks)
