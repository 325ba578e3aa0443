"""A network that was fitted to cases builds, fits into memory and gives back its patch."""

from __future__ import annotations

import json
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd.graph import saved_tensors_hooks

from napari_dante.adapt.configuration import Configuration
from napari_dante.adapt.configure import FEW, LEAST, MOST_BATCH, TOO_THICK, configure
from napari_dante.adapt.fingerprint import Fingerprint, is_blank, take_fingerprint
from napari_dante.adapt.footprint import footprint, step_memory
from napari_dante.adapt.pooling import COARSEST, kernels, pooling
from napari_dante.adapt.recipe import FromScratch
from napari_dante.adapt.training import Training
from napari_dante.errors import JobError, ModelError, TeachError
from napari_dante.model.network import build_network
from napari_dante.model.spec import further_labels

MIB = 2**20
LABELS = further_labels((), ["one", "two", "three"])
EDGES = st.tuples(*[st.integers(1, 400)] * 3)
SPACINGS = st.tuples(*[st.sampled_from([0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0])] * 3)


def cases(shape: Any, spacing: Any, axis: int | None = 0) -> Fingerprint:
    return Fingerprint(shape, spacing, shape, axis)


def fitted(
    fingerprint: Fingerprint, memory: int = 512, *, fast: bool = False, **how: Any
) -> Configuration:
    return configure(fingerprint, LABELS, FromScratch(**how), memory * MIB, fast=fast)


@settings(max_examples=15, deadline=None)
@given(
    shape=EDGES,
    spacing=SPACINGS,
    axis=st.sampled_from([None, 0, 1, 2]),
    network=st.sampled_from(["auto", "UNet", "DynUNet", "SegResNet"]),
    dimensions=st.sampled_from(["auto", "2", "3"]),
    fast=st.booleans(),
    memory=st.sampled_from([300, 512, 2000]),
)
def test_what_fits_builds_and_gives_back_its_patch(
    shape: Any, spacing: Any, axis: Any, network: Any, dimensions: Any, fast: bool, memory: int
) -> None:
    fingerprint = cases(shape, spacing, axis)
    chosen = fitted(fingerprint, memory, fast=fast, network=network, dimensions=dimensions)
    spec = chosen.spec
    assert chosen.step_bytes == footprint(spec).step(chosen.batch) <= memory * MIB
    assert 2 <= chosen.batch <= MOST_BATCH
    assert Configuration.from_json(json.loads(json.dumps(chosen.to_json()))) == chosen
    assert chosen.sentence.endswith(".")
    assert "\n" not in chosen.sentence
    assert network in ("auto", spec.network)
    if dimensions != "auto":
        assert (spec.slice_axis is not None) == (dimensions == "2")
    with torch.device("meta"):
        net = build_network(spec)
        logits = net(torch.empty(1, 1, *spec.patch))
    assert logits.shape == (1, len(LABELS) + 1, *spec.patch)
    for index in range(3):
        if index == spec.slice_axis:
            assert spec.spacing[index] == spacing[index]
        else:
            assert spec.patch[index] >= LEAST
            shortest = min(s for a, s in enumerate(spacing) if a != spec.slice_axis)
            assert spacing[index] <= spec.spacing[index] <= max(spacing[index], 2 * shortest)


@pytest.mark.parametrize("network", ["UNet", "DynUNet", "SegResNet"])
@pytest.mark.parametrize("dimensions", ["2", "3"])
@pytest.mark.parametrize("shape", [(8, 8, 8), (1, 1, 1), (3, 40, 41)])
def test_it_trains_on_a_real_patch(network: Any, dimensions: Any, shape: Any) -> None:
    """Down to the smallest volume no map has a single voxel, which cannot be normalised."""
    chosen = fitted(cases(shape, (3.0, 3.0, 3.0)), network=network, dimensions=dimensions)
    net = build_network(chosen.spec).train()
    strides = chosen.spec.arguments.get("strides", chosen.spec.arguments.get("blocks_down"))
    assert len(strides) >= (1 if max(shape) < 16 else 2)
    logits = net(torch.randn(1, 1, *chosen.spec.patch))
    assert logits.shape[2:] == chosen.spec.patch
    logits.mean().backward()


@settings(max_examples=200, deadline=None)
@given(patch=EDGES, spacing=SPACINGS, most=st.integers(1, 7))
def test_thick_slices_wait_for_their_pixels(patch: Any, spacing: Any, most: int) -> None:
    edges, sizes = np.array(patch, float), np.array(spacing)
    strides = pooling(patch, spacing, most)
    assert len(strides) <= most
    for stride in strides:
        able = edges >= 2 * COARSEST
        halved = np.array(stride) == 2
        assert halved.any()
        assert able[halved].all()
        assert (sizes[halved] < 2 * sizes[able].min()).all()
        assert sizes[able].min() in sizes[halved], "the finest axis waits"
        edges, sizes = np.ceil(edges / stride), sizes * stride
    assert len(strides) == most or (edges < 2 * COARSEST).all()


@settings(max_examples=100, deadline=None)
@given(patch=EDGES, spacing=SPACINGS, flat=st.sampled_from([None, 0, 1, 2]))
def test_kernels_open_and_stay_open(patch: Any, spacing: Any, flat: int | None) -> None:
    strides = pooling(patch, spacing, 6)
    found = np.array(kernels(strides, spacing, flat))
    assert len(found) == len(strides) + 1
    assert (np.diff(found, axis=0) >= 0).all()
    seen = [axis for axis in range(3) if axis != flat]
    finest = min(seen, key=lambda axis: spacing[axis])
    assert (found[:, finest] == 3).all()
    for axis in seen:
        assert (found[0, axis] == 1) == (spacing[axis] >= 2 * spacing[finest])


def test_the_three_situations() -> None:
    """On a graphics card; a processor sees slices whenever it can."""
    brain = fitted(cases((180, 200, 160), (1.0, 1.0, 1.0)), 4000, fast=True)
    assert brain.spec.slice_axis is None
    assert len(set(brain.spec.patch)) == 1
    assert "as long as they are wide" in brain.sentence

    prostate = fitted(cases((30, 320, 320), (3.6, 0.6, 0.6)), 8000, fast=True, dimensions="3")
    assert prostate.spec.arguments["strides"][:3] == [[1, 1, 1], [1, 2, 2], [1, 2, 2]]
    assert prostate.spec.arguments["kernel_size"][0] == [1, 3, 3]
    assert prostate.spec.arguments["kernel_size"][-1] == [3, 3, 3]
    assert "6 times thicker" in prostate.sentence

    heart = fitted(cases((10, 256, 256), (10.0, 1.4, 1.4)), 4000, fast=True)
    assert heart.spec.slice_axis == 0
    assert "7 times thicker" in heart.sentence
    few = fitted(cases((160, FEW - 1, 160), (1.0, 1.0, 1.0), axis=1), 4000, fast=True)
    assert few.spec.slice_axis == 1
    assert f"only {FEW - 1} slices" in few.sentence
    other = fitted(cases((10, 256, 256), (10.0, 1.4, 1.4), axis=2), 4000, fast=True)
    assert other.spec.slice_axis is None, "corrected slices lie across the thick ones"


def test_a_processor_sees_slices_and_starts_with_a_stride() -> None:
    chosen = fitted(cases((20, 91, 117), (3.0, 3.0, 3.0)))
    assert chosen.spec.network == "UNet"
    assert chosen.spec.slice_axis == 0
    assert chosen.spec.arguments["strides"][0] == [2, 2]
    assert "graphics card" in chosen.sentence
    apart = fitted(cases((20, 91, 117), (3.0, 3.0, 3.0), axis=None))
    assert apart.spec.slice_axis is None
    assert apart.spec.arguments["strides"][0] == [2, 2, 2]
    fast = fitted(cases((20, 91, 117), (3.0, 3.0, 3.0)), fast=True, network="UNet")
    assert fast.spec.arguments["strides"][0] == [1, 1, 1]


def test_more_memory_is_used() -> None:
    large = cases((300, 300, 300), (1.0, 1.0, 1.0), axis=None)
    tight, ample = (fitted(large, memory).spec for memory in (300, 9000))
    assert prod(tight.patch) < prod(ample.patch)
    assert tight.spacing[0] == 2.0, "a patch that sees too little takes larger voxels"
    assert ample.spacing[0] == 1.0
    small = cases((40, 40, 40), (1.0, 1.0, 1.0), axis=None)
    assert fitted(small, 6400).batch == MOST_BATCH


def test_too_little_memory_is_a_sentence() -> None:
    with pytest.raises(TeachError, match="memory="):
        fitted(cases((20, 91, 117), (3.0, 3.0, 3.0)), 100)
    recipe = FromScratch(training=Training(batch=10**6))
    with pytest.raises(TeachError, match="batch"):
        configure(cases((9, 9, 9), (1.0,) * 3), LABELS, recipe, 512 * MIB, fast=False)


@pytest.mark.parametrize("network", ["UNet", "DynUNet", "SegResNet"])
@pytest.mark.parametrize("dimensions", ["2", "3"])
def test_the_estimate_is_what_backward_really_keeps(network: Any, dimensions: Any) -> None:
    shape = (40, 40, 40) if dimensions == "3" else (8, 200, 200)
    chosen = fitted(cases(shape, (1.0,) * 3), network=network, dimensions=dimensions)
    net = build_network(chosen.spec)
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        net(torch.randn(chosen.batch, 1, *chosen.spec.patch))
    total = sum(kept.values())
    assert total <= chosen.step_bytes <= 2.2 * total + 150 * MIB


def test_a_processor_is_not_given_all_its_memory() -> None:
    assert 0 < step_memory(torch.device("cpu")) <= 512 * MIB


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_the_fingerprint_takes_medians_and_the_box_of_the_body(data: st.DataObject) -> None:
    shapes = data.draw(st.lists(st.tuples(*[st.integers(6, 20)] * 3), min_size=1, max_size=4))
    spacings = data.draw(st.lists(SPACINGS, min_size=len(shapes), max_size=len(shapes)))
    axes = data.draw(st.lists(st.integers(0, 2), min_size=len(shapes), max_size=len(shapes)))
    images = []
    for shape in shapes:
        image = np.zeros(shape, np.float32)
        image[1:-2, 2:-1, 1:-1] = 5.0
        images.append(image)
    found = take_fingerprint(images, spacings, axes)
    assert found.shape == tuple(int(value) for value in np.median(shapes, axis=0))
    expected = np.median([[z - 3, y - 3, x - 2] for z, y, x in shapes], axis=0)
    assert found.body == tuple(int(value) for value in expected)
    assert found.spacing == tuple(np.median(spacings, axis=0))
    assert found.axis == (axes[0] if len(set(axes)) == 1 else None)
    assert found.thickness >= 0.999
    assert found.spacing[found.thick_axis] == max(found.spacing)


def test_spacing_keeps_all_its_digits() -> None:
    image = np.arange(27.0).reshape(3, 3, 3)
    spacing = (3.123456789012345, 0.7123456789012345, 0.7123456789012345)
    assert take_fingerprint([image], [spacing], [0]).spacing == spacing


def test_blank_images() -> None:
    assert is_blank(np.full((2, 2, 2), np.nan))
    assert is_blank(np.full((2, 2, 2), 7, np.int16))
    assert is_blank(np.array([np.nan, 3.0, np.inf]))
    assert not is_blank(np.array([np.nan, 3.0, 4.0]))


def test_a_damaged_configuration_is_refused() -> None:
    data = fitted(cases((20, 20, 20), (1.0,) * 3)).to_json()
    for broken in ({}, {**data, "batch": "many"}, {**data, "spec": None}):
        with pytest.raises((JobError, ModelError), match="damaged"):
            Configuration.from_json(broken)


def test_thickness_decides_only_from_its_limit_on() -> None:
    shape = (40, 128, 128)
    below = cases(shape, (TOO_THICK - 0.01, 1.0, 1.0))
    assert fitted(below, 4000, fast=True).spec.slice_axis is None
    above = replace(below, spacing=(TOO_THICK, 1.0, 1.0))
    assert fitted(above, 4000, fast=True).spec.slice_axis == 0
