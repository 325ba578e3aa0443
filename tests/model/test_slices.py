"""A two-dimensional network takes volumes, and each slice is on its own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from monai.networks import nets
from numpy.typing import NDArray

from napari_dante.errors import ModelError
from napari_dante.model import inference
from napari_dante.model.dafne import from_dafne, read_dafne, to_dafne, write_dafne
from napari_dante.model.dafne_source import apply_source, init_source
from napari_dante.model.file import Lineage, Model
from napari_dante.model.head import AdaptedNetwork, feature_channels, split_head
from napari_dante.model.network import build_network
from napari_dante.model.segmenter import Segmenter
from napari_dante.model.slices import SliceNetwork
from napari_dante.model.spec import ArchitectureSpec
from tests.conftest import MODEL_ID
from tests.model.test_dafne_source import dafne_function

CPU = torch.device("cpu")
PATCHES = {0: (1, 16, 12), 1: (16, 1, 12), 2: (16, 12, 1)}
Ball = tuple[NDArray[np.float32], NDArray[np.uint8]]


@pytest.fixture(params=PATCHES)
def flat(request: pytest.FixtureRequest, spec: ArchitectureSpec) -> ArchitectureSpec:
    return replace(spec, patch=PATCHES[request.param])


def seeded(spec: ArchitectureSpec) -> Model:
    torch.manual_seed(0)
    weights = {key: value.numpy() for key, value in build_network(spec).state_dict().items()}
    return Model(spec, weights, Lineage("flat", MODEL_ID))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_window_is_the_stack_of_its_slices(axis: int) -> None:
    torch.manual_seed(0)
    plane = nets.UNet(2, 1, 3, channels=(4, 8), strides=(2,)).eval()
    volume = torch.randn(2, 1, 8, 8, 8).narrow(axis + 2, 0, 5)
    with torch.no_grad():
        whole = SliceNetwork(plane, axis)(volume)
        slices = [plane(part) for part in volume.unbind(axis + 2)]
    assert whole.shape == (2, 3, *volume.shape[2:])
    assert torch.allclose(whole, torch.stack(slices, axis + 2), atol=1e-6)


def test_the_patch_makes_the_network_two_dimensional(flat: ArchitectureSpec) -> None:
    network = build_network(flat)
    assert isinstance(network, SliceNetwork)
    assert flat.slice_axis == network.axis == flat.patch.index(1)
    assert not any(isinstance(module, torch.nn.Conv3d) for module in network.modules())
    assert all(key.startswith("plane.") for key in network.state_dict())
    assert ArchitectureSpec.from_json(json.loads(json.dumps(flat.to_json()))) == flat
    logits = network(torch.zeros(2, 1, *flat.patch))
    assert logits.shape == (2, 3, *flat.patch)


def test_a_patch_of_one_line_is_refused(spec: ArchitectureSpec) -> None:
    assert spec.slice_axis is None
    for patch in ((1, 1, 8), (8, 1, 1), (1, 1, 1)):
        with pytest.raises(ModelError, match="patch"):
            replace(spec, patch=patch)


def test_slices_know_nothing_of_each_other(
    flat: ArchitectureSpec, ball: Ball, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shuffle the slices of a volume: the mask is shuffled in the same way.

    Where the body is, is a question to the whole volume, so it is taken out of this.
    """
    monkeypatch.setattr(
        inference, "body_box", lambda image: tuple(slice(0, size) for size in image.shape)
    )
    segmenter, axis = Segmenter(seeded(flat), CPU), flat.patch.index(1)
    image, spacing = ball[0], [2.5, 2.5, 2.5]
    spacing[axis] = 7.0
    order = np.random.default_rng(0).permutation(image.shape[axis])
    windows: list[tuple[int, int]] = []
    mask = segmenter.predict(
        image,
        tuple(spacing),  # type: ignore[arg-type]
        lambda done, total: windows.append((done, total)),
    )
    shuffled = segmenter.predict(np.take(image, order, axis), tuple(spacing))  # type: ignore[arg-type]
    assert mask.shape == image.shape
    assert len(np.unique(mask)) > 1
    assert np.array_equal(np.take(mask, order, axis), shuffled)
    done, total = windows[-1]
    assert done == total
    assert total % image.shape[axis] == 0


def test_the_distance_of_slices_changes_nothing(flat: ArchitectureSpec, ball: Ball) -> None:
    segmenter, axis = Segmenter(seeded(flat), CPU), flat.patch.index(1)
    masks = []
    for distance in (0.5, 2.0, 9.0):
        spacing = [2.0, 2.0, 2.0]
        spacing[axis] = distance
        masks.append(segmenter.analyse(ball[0], tuple(spacing), probabilities=True).probabilities)  # type: ignore[arg-type]
    assert np.array_equal(masks[0], masks[1])
    assert np.array_equal(masks[0], masks[2])


def test_body_and_head_are_the_network(flat: ArchitectureSpec) -> None:
    torch.manual_seed(0)
    network = build_network(flat).eval()
    image = torch.randn(2, 1, *flat.patch)
    with torch.no_grad():
        body, head = split_head(network)
        assert torch.equal(head(body(image)), network(image))
        assert feature_channels(network) == body(image).shape[1]
        adapted = AdaptedNetwork(network, 4).eval()
        assert torch.equal(adapted(image), network(image))
        torch.nn.init.normal_(adapted.adapter.outer.weight)
        assert not torch.allclose(adapted(image), network(image))
    kernel = adapted.adapter.inner.kernel_size
    assert [size == 1 for size in kernel] == [size == 1 for size in flat.patch]


def test_a_dafne_file_predicts_the_same(flat: ArchitectureSpec, ball: Ball, tmp_path: Path) -> None:
    model = seeded(flat)
    write_dafne(tmp_path / "flat.model", to_dafne(model))
    dafne = read_dafne(tmp_path / "flat.model")
    back = from_dafne(dafne, "flat")
    assert back.spec == flat
    network = dafne_function(init_source(flat))()
    network.load_state_dict(dafne.weights)
    apply = dafne_function(apply_source(flat))
    image, affine = ball[0], np.diag([2.0, 2.0, 2.0, 1.0])
    # The array is (x, y, z) for Dafne; display order is (z, y, x) with y and x reversed.
    masks = apply(SimpleNamespace(model=network), {"image": image, "affine": affine})
    shown = np.ascontiguousarray(image.transpose(2, 1, 0)[:, ::-1, ::-1])
    expected = Segmenter(back, CPU).predict(shown, (2.0, 2.0, 2.0))
    assert len(np.unique(expected)) > 1
    for number, label in enumerate(flat.labels, start=1):
        mask = masks[label.name].transpose(2, 1, 0)[:, ::-1, ::-1]
        assert np.array_equal(mask, expected == number)
