"""Resampling keeps every corrected slice and invents no trust; patches are repeatable."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_dante.adapt.data import to_grid
from napari_dante.adapt.patches import Grid, PatchSampler
from napari_dante.model.spec import ArchitectureSpec
from napari_dante.volume import Label

SPEC = ArchitectureSpec(
    network="UNet",
    arguments={},
    labels=(Label("one", (1, 0, 0)),),
    spacing=(2.0, 2.0, 2.0),
    patch=(8, 8, 8),
)


@settings(max_examples=60, deadline=None)
@given(
    spacing=st.tuples(*[st.floats(0.5, 6.0)] * 3),
    axis=st.integers(0, 2),
    data=st.data(),
)
def test_every_trusted_slice_arrives_with_its_own_labels(
    spacing: tuple[float, float, float], axis: int, data: st.DataObject
) -> None:
    shape = (14, 12, 10)
    slices = data.draw(st.sets(st.integers(0, shape[axis] - 1), min_size=1))
    # Every slice carries its own number, so that one can tell where a voxel came from.
    index = np.arange(1, shape[axis] + 1, dtype=np.uint8)
    along = [1, 1, 1]
    along[axis] = -1
    classes = np.broadcast_to(index.reshape(along), shape).copy()
    image = np.random.default_rng(0).normal(size=shape)
    grid = to_grid(image, classes, spacing=spacing, axis=axis, slices=sorted(slices), spec=SPEC)
    others = tuple(other for other in range(3) if other != axis)
    found = set((grid.labels[grid.trusted] - 1).tolist())
    assert found <= slices, "an untrusted slice is taught"
    if spacing[axis] >= SPEC.spacing[axis]:
        assert found == slices, "a corrected slice is lost"
    assert found
    assert grid.trusted.any(axis=others).sum() == grid.trusted.all(axis=others).sum()


@pytest.mark.parametrize("flipped", [(0,), (0, 2), (1,)])
def test_a_network_that_sees_it_the_other_way_round_learns_so(flipped: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    image, classes = random.normal(5, 1, (9, 10, 11)), random.integers(0, 2, (9, 10, 11))
    image[:2] = 0
    grids = [
        to_grid(
            image,
            classes.astype(np.uint8),
            spacing=(2, 3, 2),
            axis=1,
            slices=[3, 7],
            spec=replace(SPEC, normalisation="nonzero", flipped=turned),
        )
        for turned in ((), flipped)
    ]
    for name in ("image", "labels", "trusted"):
        upright, turned = (getattr(grid, name) for grid in grids)
        assert np.array_equal(np.flip(upright, flipped), turned)
        assert not np.array_equal(upright, turned) or name == "trusted"
    assert not grids[0].image[:2].any(), "zero stays zero"
    assert abs(grids[0].image[2:].mean()) < 0.1


def test_same_grid_is_untouched() -> None:
    classes = np.random.default_rng(0).integers(0, 2, (9, 10, 11)).astype(np.uint8)
    grid = to_grid(classes, classes, spacing=(2, 2, 2), axis=1, slices=[3, 7], spec=SPEC)
    assert np.array_equal(grid.labels, classes)
    assert np.flatnonzero(grid.trusted.any(axis=(0, 2))).tolist() == [3, 7]


def half(shape: tuple[int, int, int] = (20, 18, 16)) -> Grid:
    labels = np.zeros(shape, np.uint8)
    labels[:, 9:] = 1
    trusted = np.zeros(shape, bool)
    trusted[10] = True
    return Grid(labels.astype(np.float32), labels, trusted)


@pytest.mark.parametrize("augmentation", ["none", "mild", "strong"])
def test_a_patch_is_repeatable_and_holds_trusted_voxels(augmentation: str) -> None:
    first, second = (
        PatchSampler([half()], (8, 8, 8), augmentation, 3)  # type: ignore[arg-type]
        for _ in range(2)
    )
    second.draw(0)
    for number in (7, 2):
        one, two = first.draw(number), second.draw(number)
        assert torch.equal(one.image, two.image)
        assert torch.equal(one.labels, two.labels)
        assert one.image.shape == (1, 8, 8, 8)
        assert one.trusted.any()
        assert not one.trusted.all()
    assert not torch.equal(first.draw(1).image, first.draw(2).image)


def test_labels_follow_the_image_through_the_affine() -> None:
    grid = half()
    sampler = PatchSampler([replace(grid, trusted=np.ones_like(grid.trusted))], (8,) * 3, "mild", 0)
    crop = sampler._augment.transforms[0]
    crop.prob = 1.0
    sampler._augment.transforms = [crop]
    agree = 0.0
    for number in range(20):
        patch = sampler.draw(number)
        inside = patch.trusted & ((patch.image[0] - 0.5).abs() > 0.4)
        agree += float(((patch.image[0] > 0.5) == (patch.labels == 1))[inside].float().mean())
    assert agree / 20 > 0.98


def test_rare_structures_are_drawn_as_often_as_common_ones() -> None:
    grid = half((24, 24, 24))
    labels: NDArray[np.uint8] = np.zeros_like(grid.labels)
    labels[10, 3, 3] = 1
    sampler = PatchSampler([replace(grid, labels=labels)], (8, 8, 8), "none", 0)
    hits = sum(bool((sampler.draw(number).labels == 1).any()) for number in range(60))
    assert hits >= 20
