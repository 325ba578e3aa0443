"""What is air, how bright the body is, and how probabilities come back to the image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_dante.model import grids
from napari_dante.model.grids import (
    body_box,
    cubic_weights,
    normalise_head,
    resample_image,
    resampled_shape,
    resampled_slabs,
)

Shape = tuple[int, int, int]
shapes = st.tuples(*[st.integers(12, 70)] * 3)


def whole(shape: Shape) -> tuple[slice, ...]:
    return tuple(slice(0, size) for size in shape)


@st.composite
def bodies(draw: st.DrawFn) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A block at least five voxels thick anywhere in noisy air, any scale and offset."""
    shape = draw(shapes)
    body = np.zeros(shape, bool)
    sides = [draw(st.integers(5, size)) for size in shape]
    starts = [draw(st.integers(0, size - side)) for size, side in zip(shape, sides, strict=True)]
    box = tuple(slice(a, a + side) for a, side in zip(starts, sides, strict=True))
    body[box] = True
    random = np.random.default_rng(draw(st.integers(0, 99)))
    image = np.abs(random.normal(0, 3, shape)) + body * random.uniform(60, 140, shape)
    return (image * draw(st.floats(0.01, 100)) - draw(st.floats(-1e3, 1e3))).astype(
        np.float32
    ), body


@settings(max_examples=60, deadline=None)
@given(bodies())
def test_the_body_is_never_cut(case: tuple[NDArray[np.float32], NDArray[np.bool_]]) -> None:
    """The box ends two voxels beyond the body, or with the volume."""
    image, body = case
    box = body_box(image)
    for axis, (part, size) in enumerate(zip(box, image.shape, strict=True)):
        places = np.flatnonzero(body.any(axis=tuple({0, 1, 2} - {axis})))
        assert part.start <= max(0, places[0] - 2)
        assert part.stop >= min(size, places[-1] + 3)


def test_air_is_left_out() -> None:
    image = np.abs(np.random.default_rng(0).normal(0, 5, (90, 100, 110)))
    image[40:60, 20:70, 30:80] += 100
    box = body_box(image)
    expected = ((40, 60), (20, 70), (30, 80))
    for part, (start, stop) in zip(box, expected, strict=True):
        assert start - 6 <= part.start <= start
        assert stop <= part.stop <= stop + 6


def test_wild_voxels_neither_hide_nor_stretch_the_body() -> None:
    image = np.zeros((60, 60, 60), np.float32)
    image[20:40, 20:40, 20:40] = 100
    expected = body_box(image)
    image[[0, 0, 58, 58], [0, 58, 0, 58], [0, 58, 58, 0]] = [300, 1e9, 120, 90]
    assert body_box(image) == expected


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(np.full((40, 50, 60), -7.0), id="constant"),
        pytest.param(np.random.default_rng(0).uniform(0, 1, (40, 50, 60)), id="noise"),
        pytest.param(np.zeros((1, 2, 3)), id="tiny"),
    ],
)
def test_without_a_body_the_box_is_the_volume(image: NDArray[np.float64]) -> None:
    assert body_box(image) == whole(image.shape)


def test_where_the_air_is_bright_the_box_is_the_volume() -> None:
    """As in an MP2RAGE: the air is noise between the darkest and the brightest."""
    image = np.random.default_rng(0).uniform(0, 4095, (60, 60, 60))
    image[20:40, 20:40, 20:40] = 2500
    assert body_box(image) == whole(image.shape)


@given(scale=st.floats(1e-3, 1e4), offset=st.floats(-1e4, 1e4), seed=st.integers(0, 99))
def test_normalisation_ignores_scale_and_offset(scale: float, offset: float, seed: int) -> None:
    image = np.random.default_rng(seed).gamma(2.0, 50.0, (7, 8, 9))
    first, second = normalise_head(image), normalise_head(image * scale + offset * scale)
    assert np.allclose(first, second, atol=2e-2 * max(1.0, abs(offset) / 1e3))


def test_normalisation_ignores_the_size_of_the_air() -> None:
    image = np.zeros((48, 48, 48))
    image[8:40, 8:40, 8:40] = np.random.default_rng(0).gamma(20.0, 5.0, (32, 32, 32))
    padded = normalise_head(np.pad(image, 24))
    assert np.allclose(padded[24:-24, 24:-24, 24:-24], normalise_head(image), atol=1e-5)


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


def test_a_large_image_is_scaled_like_every_second_voxel_of_it() -> None:
    image = np.random.default_rng(0).gamma(2.0, 50.0, (200, 30, 210))
    assert (
        np.abs(normalise_head(image)[::2, :, ::2] - normalise_head(image[::2, :, ::2])).max() < 1e-5
    )


@given(
    shape=st.tuples(*[st.integers(1, 40)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 8)] * 3),
)
def test_resampled_shape_covers_the_same_field_of_view(
    shape: Shape, spacing: tuple[float, float, float]
) -> None:
    new = resampled_shape(shape, spacing, (2, 2, 2))
    for size, width, count in zip(shape, spacing, new, strict=True):
        assert abs(size * width - count * 2) <= 1 or count == 1


@settings(max_examples=20, deadline=None)
@given(st.tuples(*[st.integers(2, 30)] * 3), st.tuples(*[st.integers(2, 30)] * 3))
def test_resampling_keeps_a_ramp_in_place(old: Shape, new: Shape) -> None:
    position = (np.arange(old[0]) + 0.5) / old[0]
    ramp = np.broadcast_to(position[:, None, None], old).astype(np.float32)
    found = resample_image(ramp.copy(), new)[:, 0, 0]
    expected = (np.arange(new[0]) + 0.5) / new[0]
    assert np.abs(found - expected).max() < 1.5 / min(old[0], new[0])


@given(old=st.integers(1, 60), new=st.integers(1, 150))
def test_cubic_weights_keep_constants_and_parabolas(old: int, new: int) -> None:
    """Of all cubic convolutions only a = -1/2 gives a parabola back (Keys 1981)."""
    weights = cubic_weights(old, new)
    assert weights.shape == (new, old)
    assert np.allclose(weights.sum(axis=1), 1, atol=1e-6)
    place = (np.arange(old) + 0.5) / old
    wanted = (np.arange(new) + 0.5) / new
    inside = (wanted > 1.5 / old) & (wanted < 1 - 1.5 / old)
    assert np.allclose((weights @ place**2)[inside], wanted[inside] ** 2, atol=1e-5)


def test_cubic_weights_of_the_same_size_change_nothing() -> None:
    assert np.array_equal(cubic_weights(9, 9), np.eye(9))


def probabilities(shape: Shape, seed: int) -> torch.Tensor:
    """Three classes with a blob of uncertainty, certain background elsewhere."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 3, (3, *shape)).astype(np.float32)
    found = torch.softmax(torch.from_numpy(logits), dim=0)
    blob = np.ones(shape, bool)
    box = [sorted(random.integers(0, size + 1, 2)) for size in shape]
    blob[tuple(slice(*pair) for pair in box)] = False
    found[:, torch.from_numpy(blob)] = torch.tensor([1.0, 0.0, 0.0])[:, None]
    return found


@settings(max_examples=60, deadline=None)
@given(
    old=st.tuples(*[st.integers(1, 12)] * 3),
    new=st.tuples(*[st.integers(1, 30)] * 3),
    seed=st.integers(0, 999),
    thickness=st.sampled_from([1, 500, 2**22]),
)
def test_slabs_are_the_whole_where_it_matters(
    old: Shape, new: Shape, seed: int, thickness: int
) -> None:
    """What lies outside the slabs is background, whatever they are limited to."""
    coarse = probabilities(old, seed)
    weights = [torch.from_numpy(cubic_weights(a, b)) for a, b in zip(old, new, strict=True)]
    expected = torch.einsum("kz,ly,mx,czyx->cklm", *weights, coarse)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grids, "SLAB", thickness)
        for below in (0.9, 1.0, 2.0):
            found = torch.zeros(3, *new)
            found[0] = 1
            seen = torch.zeros(new, dtype=torch.int)
            for where, slab in resampled_slabs(coarse, new, below):
                found[(slice(None), *where)] = slab
                seen[where] += 1
            assert int(seen.max()) <= 1
            assert torch.allclose(found[:, seen > 0], expected[:, seen > 0], atol=1e-5)
            if below >= 1:
                assert torch.allclose(found, expected, atol=1e-5)
            assert torch.equal(found.argmax(dim=0), expected.argmax(dim=0))
    assert bool((seen == 1).all()), "below 2 is everywhere"
