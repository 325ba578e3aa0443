"""A head that grows says of the old structures what it said before."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_dante.adapt.grow import MARGIN, grown
from napari_dante.errors import ModelError
from napari_dante.model.file import Lineage, Model
from napari_dante.model.network import build_network, load_weights
from napari_dante.model.spec import ArchitectureSpec, further_labels
from napari_dante.volume import Label
from tests.conftest import MODEL_ID

AFFINE = ["INSTANCE", {"affine": True}]
PRELU = ["PRELU", {"num_parameters": 1, "init": 0.3}]
NETWORKS: dict[str, tuple[Any, dict[str, Any]]] = {
    "UNet": ("UNet", {"channels": [4, 8, 8], "strides": [2, 2], "num_res_units": 2}),
    "affine UNet": (
        "UNet",
        {"channels": [4, 8], "strides": [2], "num_res_units": 1, "norm": AFFINE, "act": PRELU},
    ),
    "batch UNet": (
        "UNet",
        {"channels": [4, 8], "strides": [2], "num_res_units": 1, "norm": "BATCH"},
    ),
    "plain UNet": ("UNet", {"channels": [4, 8], "strides": [2]}),
    "UNet without bias": (
        "UNet",
        {"channels": [4, 8], "strides": [2], "num_res_units": 1, "bias": False},
    ),
    "DynUNet": (
        "DynUNet",
        {
            "kernel_size": [3, 3, 3],
            "strides": [1, 2, 2],
            "upsample_kernel_size": [2, 2],
            "filters": [4, 8, 8],
            "deep_supervision": True,
        },
    ),
    "SegResNet": ("SegResNet", {"init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1]}),
}


def spec_of(name: str, labels: int, *, flat: bool, adapter: int | None) -> ArchitectureSpec:
    network, arguments = NETWORKS[name]
    return ArchitectureSpec(
        network,
        arguments,
        further_labels((), [f"old {index}" for index in range(labels)]),
        (1.0, 1.0, 1.0),
        (1, 16, 16) if flat else (16, 16, 16),
        adapter=adapter,
    )


def shaken(spec: ArchitectureSpec) -> Model:
    """Return a model whose every number, running statistics too, is its own."""
    torch.manual_seed(0)
    state = build_network(spec).state_dict()
    weights = {
        key: (value + 0.1 * torch.rand_like(value) if value.is_floating_point() else value).numpy()
        for key, value in state.items()
    }
    return Model(spec, weights, Lineage("old", MODEL_ID))


def logits(model: Model, image: torch.Tensor) -> torch.Tensor:
    network = build_network(model.spec)
    load_weights(network, {key: torch.from_numpy(np.array(v)) for key, v in model.weights.items()})
    with torch.no_grad():
        return network.eval()(image)  # type: ignore[no-any-return]


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(list(NETWORKS)),
    old=st.integers(1, 4),
    new=st.integers(1, 3),
    flat=st.booleans(),
    adapter=st.sampled_from([None, 3]),
    seed=st.integers(0, 99),
)
def test_old_logits_stay_and_the_mask_too(
    name: str, old: int, new: int, flat: bool, adapter: int | None, seed: int
) -> None:
    base = shaken(spec_of(name, old, flat=flat, adapter=adapter))
    labels = further_labels(base.spec.labels, [f"new {index}" for index in range(new)])
    larger = grown(base, labels)
    assert larger.spec == replace(base.spec, labels=(*base.spec.labels, *labels))
    assert larger.lineage == base.lineage
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(2, 1, *base.spec.patch, generator=generator)
    before, after = logits(base, image), logits(larger, image)
    scale = max(1.0, float(before.abs().max()))
    assert torch.allclose(after[:, : old + 1], before, atol=1e-6 * scale, rtol=0)
    if "UNet" in name and name != "DynUNet":
        assert torch.equal(after[:, : old + 1], before)
    assert torch.equal(after.argmax(1), before.argmax(1))
    margin = 0.0 if name == "UNet without bias" else MARGIN
    below = after[:, :1] - after[:, old + 1 :]
    assert torch.allclose(below, torch.full_like(below, margin), atol=1e-5 * scale)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_number_of_the_base_is_kept(name: str) -> None:
    base = shaken(spec_of(name, 2, flat=False, adapter=None))
    larger = grown(base, further_labels((), ["lesion"]))
    changed = 0
    for key, value in base.weights.items():
        corner = larger.weights[key][tuple(slice(size) for size in value.shape)]
        assert np.array_equal(corner, value), key
        changed += larger.weights[key].shape != value.shape
    assert changed
    build_network(larger.spec).load_state_dict(
        {key: torch.from_numpy(np.array(value)) for key, value in larger.weights.items()}
    )


@pytest.mark.parametrize("name", ["UNet", "plain UNet", "DynUNet", "SegResNet"])
def test_a_new_structure_can_be_learned(name: str) -> None:
    """Nothing of it is stuck at zero: every new number gets a gradient within two steps."""
    base = shaken(spec_of(name, 1, flat=False, adapter=None))
    larger = grown(base, further_labels((), ["lesion", "scar"]))
    spec = larger.spec
    if name == "DynUNet":
        spec = replace(spec, arguments={**spec.arguments, "deep_supervision": False})
    network = build_network(spec)
    state = network.state_dict()
    network.load_state_dict({key: torch.from_numpy(larger.weights[key]) for key in state})
    image = torch.randn(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    target = torch.randint(0, 4, (1, 16, 16, 16), generator=torch.Generator().manual_seed(1))
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(2):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(network(image), target).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    after = network.state_dict()
    grew = [key for key in state if larger.weights[key].shape != base.weights[key].shape]
    assert grew
    for key in grew:
        if "running" not in key and "bias" not in key:
            new = np.ones(after[key].shape, bool)
            new[tuple(slice(size) for size in base.weights[key].shape)] = False
            moved = after[key].numpy() != larger.weights[key]
            assert moved[new].mean() > 0.9, key


def test_nothing_new_is_the_base_itself() -> None:
    base = shaken(spec_of("UNet", 1, flat=False, adapter=None))
    assert grown(base, ()) is base


def test_a_name_that_is_there_already_is_refused() -> None:
    base = shaken(spec_of("UNet", 1, flat=False, adapter=None))
    with pytest.raises(ModelError, match="twice"):
        grown(base, [Label("old 0", (0, 0, 0))])


def test_a_head_that_mixes_its_structures_is_refused() -> None:
    name, arguments = NETWORKS["affine UNet"]
    arguments = {**arguments, "norm": ["GROUP", {"num_groups": 1}]}
    spec = replace(spec_of("UNet", 2, flat=False, adapter=None), network=name, arguments=arguments)
    with pytest.raises(ModelError, match="from scratch"):
        grown(shaken(spec), further_labels((), ["lesion"]))


def test_new_colours_are_new_while_there_are_any() -> None:
    known = further_labels((), ["a", "b", "c"])
    more = further_labels(known, [str(index) for index in range(18)])
    assert len({label.colour for label in (*known, *more)}) == 21
    assert len(further_labels((*known, *more), ["x"] * 30)) == 30
