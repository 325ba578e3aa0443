"""LoRA at its start changes nothing; merged it is the same network under the old keys."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrize

from napari_dante.adapt.lora import (
    DenseUpdate,
    add_dense,
    add_lora,
    merge_lora,
    named_updates,
    without_lora,
)
from napari_dante.adapt.method import merged_weights
from napari_dante.model.low_rank import LowRank
from tests.adapt.nets import NETWORKS, network, shaken

IMAGE = torch.randn(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("layout", ["kernel_in", "per_tap"])
@pytest.mark.parametrize("name", NETWORKS)
def test_starts_unchanged_merges_exactly_and_can_be_switched_off(name: str, layout: Any) -> None:
    net = network(name)
    keys = {key: value.shape for key, value in net.state_dict().items()}
    with torch.no_grad():
        before = net(IMAGE)
        trained = add_lora([net], LowRank(rank=4, alpha=8.0, layout=layout), others=True)
        assert torch.equal(net(IMAGE), before)
        wrapped = shaken(net)(IMAGE)
        assert not torch.allclose(wrapped, before, atol=1e-3)
        with without_lora(net):
            assert torch.equal(net(IMAGE), before)
        assert torch.equal(net(IMAGE), wrapped)
        weights = merged_weights(net)
        merge_lora(net)
        assert torch.allclose(net(IMAGE), wrapped, atol=1e-6)
    state = net.state_dict()
    assert {key: value.shape for key, value in state.items()} == keys
    assert weights.keys() == keys.keys()
    assert all(torch.equal(state[key], weights[key]) for key in keys)
    assert trained
    assert not any(parametrize.is_parametrized(module) for module in net.modules())


def test_switching_off_ends_with_its_block_whatever_happens() -> None:
    net = network("plain UNet")
    add_dense([net])
    shaken(net)
    with torch.no_grad():
        wrapped = net(IMAGE)
        with pytest.raises(ZeroDivisionError), without_lora(net), without_lora(net):
            raise ZeroDivisionError
        assert torch.equal(net(IMAGE), wrapped)
        with without_lora(net):
            with without_lora(net):
                pass
            assert not torch.equal(net(IMAGE), wrapped), "an inner block ended the outer one"


LAYERS: list[type[nn.Module]] = [
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
]


@settings(max_examples=80, deadline=None)
@given(
    kind=st.sampled_from(LAYERS),
    groups=st.sampled_from([1, 2, 8]),
    dilation=st.integers(1, 2),
    padding_mode=st.sampled_from(["zeros", "replicate", "reflect", "circular"]),
    rank=st.integers(1, 3),
    layout=st.sampled_from(["kernel_in", "per_tap"]),
    scaling=st.sampled_from(["alpha/r", "rank-stabilised"]),
)
def test_any_convolution_is_one_convolution_with_the_summed_weight(
    kind: type[nn.Module],
    groups: int,
    dilation: int,
    padding_mode: str,
    rank: int,
    layout: Any,
    scaling: Any,
) -> None:
    if "Transpose" in kind.__name__:
        padding_mode = "zeros"  # torch has no other one for them
    layer: Any = kind(
        8, 16, 3, groups=groups, dilation=dilation, padding=2, padding_mode=padding_mode
    )
    original = layer.weight.detach().clone()
    plain: Any = kind(
        8, 16, 3, groups=groups, dilation=dilation, padding=2, padding_mode=padding_mode
    )
    size = LowRank(rank=rank, alpha=2.0, layout=layout, scaling=scaling)
    image = torch.randn(1, 8, *[9] * (original.dim() - 2))
    with torch.no_grad():
        before = layer(image)
        add_lora([layer], size, others=False)
        assert torch.equal(layer(image), before)
        shaken(layer)
        ((_, update),) = named_updates(layer)
        change = layer.weight - original
        assert change.any()
        plain.weight.copy_(layer.weight)
        plain.bias.copy_(layer.bias)
        wrapped = layer(image)
        assert torch.equal(wrapped, plain(image))
        merge_lora(layer)
        assert torch.equal(layer(image), wrapped)
    if isinstance(update, DenseUpdate):
        return
    assert sum(factor.numel() for factor in update.parameters()) <= original.numel() / 2
    if layout == "kernel_in":
        assert torch.linalg.matrix_rank(change.flatten(1), atol=1e-4) <= rank
    else:
        assert (torch.linalg.matrix_rank(change.flatten(2).movedim(2, 0), atol=1e-4) <= rank).all()


@pytest.mark.parametrize("layout", ["kernel_in", "per_tap"])
def test_linear_layers_are_adapted(layout: Any) -> None:
    layer = nn.Linear(12, 20)
    original = layer.weight.detach().clone()
    vector = torch.randn(3, 12)
    with torch.no_grad():
        before = layer(vector)
        trained = add_lora([layer], LowRank(rank=2, alpha=4.0, layout=layout), others=False)
        assert torch.equal(layer(vector), before)
        assert sum(factor.numel() for factor in trained) == 2 * (12 + 20)
        shaken(layer)
        wrapped = layer(vector)
        merge_lora(layer)
        assert torch.equal(layer(vector), wrapped)
    assert torch.linalg.matrix_rank(layer.weight.detach() - original, atol=1e-5) == 2


@pytest.mark.parametrize("layout", ["kernel_in", "per_tap"])
@pytest.mark.parametrize("rank", [16, 10**6])
def test_no_update_outgrows_its_layer_and_every_layer_learns(rank: int, layout: Any) -> None:
    """A rank larger than any layer is an update of half the layer, not a refusal."""
    net = network("UNet")
    size = LowRank(rank=rank, alpha=float(rank), layout=layout)
    add_lora([net], size, others=False)
    state = dict(net.named_parameters())
    found = dict(named_updates(net))
    layers = [m for m in net.modules() if isinstance(m, nn.Conv3d | nn.ConvTranspose3d)]
    assert len(found) == len(layers)
    factors = 0
    for key, update in found.items():
        weight = state[key.replace("weight", "parametrizations.weight.original")]
        numbers = sum(parameter.numel() for parameter in update.parameters())
        if isinstance(update, DenseUpdate):
            assert numbers == weight.numel()
        else:
            factors += 1
            assert numbers <= weight.numel() / 2
    assert factors > len(layers) / 2
    net(IMAGE).square().mean().backward()
    for _, update in found.items():
        assert any(p.grad is not None and p.grad.any() for p in update.parameters())


def test_scalings() -> None:
    assert LowRank(rank=4, alpha=8.0).scale == 2.0
    assert LowRank(rank=4, alpha=8.0, scaling="rank-stabilised").scale == 4.0


@pytest.mark.parametrize("others", [True, False])
def test_norms_and_biases_learn_only_when_asked(others: bool) -> None:
    net = network("SegResNet")
    trained = add_lora([net], LowRank(rank=2), others=others)
    assert len({id(parameter) for parameter in trained}) == len(trained)
    adapted = {key for key, _ in named_updates(net)}
    small = {
        key.replace("parametrizations.", "").replace(".original", "")
        for key, value in net.named_parameters()
        if value.dim() == 1 and not key.endswith("delta")
    }
    assert small
    assert small <= adapted if others else not small & adapted
    assert all(p.requires_grad == any(p is t for t in trained) for p in net.parameters())
