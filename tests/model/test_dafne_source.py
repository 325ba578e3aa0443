"""The functions in our .model files predict what we predict."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations, product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_dante.errors import ModelError
from napari_dante.model.dafne_apply import display_order, segment
from napari_dante.model.dafne_source import PARTS, apply_source, init_source
from napari_dante.model.inference import predict_volume
from napari_dante.model.network import build_network, load_weights
from napari_dante.model.segmenter import Segmenter
from napari_dante.volume import Geometry, Label
from tests.federated.tiny import SPEC, affine, tiny_model, volume

CODES = [
    "".join(pair[flip] for pair, flip in zip(order, flips, strict=True))
    for order in permutations(("LR", "PA", "IS"))
    for flips in product((0, 1), repeat=3)
]


def dafne_function(text: str) -> Callable[..., Any]:
    """The first callable that the text defines, with the globals that dafne-dl gives."""
    found: dict[str, Any] = {}
    exec(text, {"DynamicTorchModel": object}, found)
    function: Callable[..., Any] = next(value for value in found.values() if callable(value))
    return function


def network() -> torch.nn.Module:
    net = build_network(SPEC)
    load_weights(net, {key: torch.from_numpy(v) for key, v in tiny_model().weights.items()})
    return net.eval()


def our_mask(image: NDArray[np.float32], matrix: NDArray[np.float64]) -> NDArray[np.uint8]:
    geometry = Geometry.from_affine(image.shape, matrix)
    prediction = predict_volume(
        network(),
        geometry.to_display(image),
        geometry.spacing,
        target_spacing=SPEC.spacing,
        patch=SPEC.patch,
    )
    return geometry.to_stored(prediction.classes)


def test_init_builds_our_network() -> None:
    net = dafne_function(init_source(SPEC))()
    expected = build_network(SPEC).state_dict()
    assert {k: v.shape for k, v in net.state_dict().items()} == {
        k: v.shape for k, v in expected.items()
    }


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LSA", "PIR", "SLA", "IAL"])
def test_apply_predicts_what_we_predict(codes: str) -> None:
    image, matrix = volume((18, 13, 21)), affine(codes, (1.2, 0.9, 2.5))
    apply = dafne_function(apply_source(SPEC))
    net = network().train()
    result = apply(SimpleNamespace(model=net), {"image": image, "affine": matrix.tolist()})
    expected = our_mask(image, matrix)
    assert set(result) == {"grey 'matter'", "white"}
    assert len(np.unique(expected)) == 3
    for number, label in enumerate(SPEC.labels, start=1):
        assert result[label.name].dtype == np.uint8
        np.testing.assert_array_equal(result[label.name], expected == number)


@pytest.mark.parametrize("flipped", [(), (0,), (0, 2), (1,)])
def test_apply_knows_how_a_foreign_network_sees(flipped: tuple[int, ...]) -> None:
    spec = replace(SPEC, normalisation="nonzero", flipped=flipped)
    image, matrix = volume((18, 13, 21)), affine("RAS", (1.2, 0.9, 2.5))
    model = replace(tiny_model(), spec=spec)
    geometry = Geometry.from_affine(image.shape, matrix)
    shown = geometry.to_display(image)
    classes = Segmenter(model, torch.device("cpu")).predict(shown, geometry.spacing)
    expected = geometry.to_stored(classes)
    assert len(np.unique(expected)) == 3
    result = dafne_function(apply_source(spec))(
        SimpleNamespace(model=network()), {"image": image, "affine": matrix}
    )
    for number, label in enumerate(spec.labels, start=1):
        np.testing.assert_array_equal(result[label.name], expected == number)
    upright = Segmenter(replace(model, spec=replace(spec, flipped=())), torch.device("cpu"))
    turned = upright.predict(np.flip(shown, flipped).copy(), geometry.spacing)
    # The body's box is looked for in whole steps, so the windows may lie a voxel apart.
    assert (np.flip(turned, flipped) == classes).mean() > 0.98


def test_the_mask_turns_with_the_volume() -> None:
    """Every stored order of one anatomy gets the same mask, in that order."""
    image, spacing = volume((12, 14, 10)), (1.2, 0.9, 2.5)
    base = Geometry.from_affine(image.shape, affine("RAS", spacing))
    shown, net = base.to_display(image), network()
    reference = segment(
        net, {"image": image, "affine": base.affine}, ["a", "b"], SPEC.spacing, SPEC.patch
    )["a"]
    for codes in CODES[::5]:
        axes = [next(n for n, pair in enumerate(("LR", "PA", "IS")) if c in pair) for c in codes]
        matrix = affine(codes, tuple(spacing[axis] for axis in axes))  # type: ignore[arg-type]
        geometry = Geometry.from_affine([image.shape[axis] for axis in axes], matrix)
        turned = geometry.to_stored(shown)
        data = {"image": turned, "affine": matrix}
        mask = segment(net, data, ["a", "b"], SPEC.spacing, SPEC.patch)["a"]
        np.testing.assert_array_equal(geometry.to_display(mask), base.to_display(reference))


def test_without_an_affine_the_resolution_counts() -> None:
    image = volume((12, 14, 10))
    apply = dafne_function(apply_source(SPEC))
    model = SimpleNamespace(model=network())
    data = {"image": image, "resolution": [1.2, 0.9, 2.5], "split_laterality": True}
    diagonal = np.diag([1.2, 0.9, 2.5, 1.0])
    expected = apply(model, {"image": image, "affine": diagonal})
    for name, mask in apply(model, data).items():
        np.testing.assert_array_equal(mask, expected[name])


@pytest.mark.parametrize("codes", CODES)
def test_display_order_is_that_of_the_volume_room(codes: str) -> None:
    geometry = Geometry.from_affine((5, 6, 7), affine(codes, (1, 2, 3)))
    assert display_order(geometry.affine) == [geometry.display_axis_to_stored(a) for a in range(3)]


@settings(max_examples=300, deadline=None)
@given(
    angles=st.tuples(*[st.sampled_from([0, 15, 30, 45, 60, 90, 135, 200, 315])] * 3),
    spacing=st.tuples(*[st.sampled_from([0.5, 1.0, 3.3])] * 3),
    shear=st.floats(-0.3, 0.3),
)
def test_display_order_of_oblique_volumes(
    angles: tuple[int, ...], spacing: tuple[float, ...], shear: float
) -> None:
    matrix = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(angles)):
        turn = np.eye(3)
        first, second = (axis + 1) % 3, (axis + 2) % 3
        turn[[first, first, second, second], [first, second, first, second]] = (
            np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle),
        )  # fmt: skip
        matrix = matrix @ turn
    matrix = matrix @ (np.eye(3) + np.eye(3, k=1) * shear) @ np.diag(spacing)
    whole = np.eye(4)
    whole[:3, :3] = matrix
    geometry = Geometry.from_affine((5, 6, 7), whole)
    assert display_order(whole) == [geometry.display_axis_to_stored(axis) for axis in range(3)]


def test_the_text_is_complete_and_needs_nothing_of_ours() -> None:
    text = apply_source(SPEC)
    assert "napari_dante." not in "".join(
        line for line in text.splitlines() if "import" in line.split("#")[0].split('"')[0]
    )
    (function,) = ast.parse(text).body
    assert isinstance(function, ast.FunctionDef)
    defined = [
        node.name for node in function.body if isinstance(node, ast.FunctionDef | ast.ClassDef)
    ]
    assert len(set(defined)) == len(defined), "one name means two things"
    for module in PARTS:
        own = ast.parse(inspect.getsource(module)).body
        names = {node.name for node in own if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        assert names <= set(defined)


def test_a_name_that_dafne_would_rewrite_is_refused() -> None:
    spec = replace(SPEC, labels=(Label("from dl", (0, 0, 0)),))
    with pytest.raises(ModelError, match="cannot be written"):
        apply_source(spec)


def test_a_name_cannot_become_code() -> None:
    name = 'x\']); raise SystemExit #\n"""'
    text = apply_source(replace(SPEC, labels=(Label(name, (0, 0, 0)), SPEC.labels[1])))
    result = dafne_function(text)(
        SimpleNamespace(model=network()), {"image": volume((8, 8, 8)), "resolution": [1, 1, 1]}
    )
    assert list(result) == [name, "white"]
