"""LoRA at its start changes nothing; merged it is the same network under the old keys."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.networks import nets
from torch import nn
from torch.nn.utils import parametrize

from napari_dante.adapt.lora import add_lora, merge_lora
from napari_dante.adapt.method import merged_weights, prepare
from napari_dante.adapt.recipe import LoRA

NETWORKS = {
    "UNet": lambda: nets.UNet(3, 1, 3, channels=(8, 16, 32), strides=(2, 2), num_res_units=1),
    "DynUNet": lambda: nets.DynUNet(
        3, 1, 3, [3, 3, 3], [1, 2, 2], [2, 2], filters=[8, 16, 32], res_block=True
    ),
    "SegResNet": lambda: nets.SegResNet(3, 8, 1, 3, blocks_down=(1, 1), blocks_up=(1,)),
}


def shaken(network: nn.Module) -> nn.Module:
    """Give every LoRA factor a random value."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith((".up", ".down")):
                parameter.normal_(0, 0.1)
    return network


@pytest.mark.parametrize("layout", ["kernel_in", "per_tap"])
@pytest.mark.parametrize("name", NETWORKS)
def test_starts_unchanged_and_merges_exactly(name: str, layout: str) -> None:
    torch.manual_seed(1)
    network = NETWORKS[name]().eval()
    keys = set(network.state_dict())
    image = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        before = network(image)
        trained = add_lora(network, 4, 8.0, layout)  # type: ignore[arg-type]
        assert torch.equal(network(image), before)
        wrapped = shaken(network)(image)
        assert not torch.allclose(wrapped, before, atol=1e-3)
        weights = merged_weights(network)
        merge_lora(network)
        assert torch.allclose(network(image), wrapped, atol=1e-6)
    assert set(network.state_dict()) == keys == set(weights)
    assert all(torch.equal(network.state_dict()[key], weights[key]) for key in keys)
    assert trained


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from([nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d]),
    groups=st.sampled_from([1, 2]),
    dilation=st.integers(1, 2),
    rank=st.integers(1, 3),
    layout=st.sampled_from(["kernel_in", "per_tap"]),
)
def test_any_convolution_is_one_convolution_with_the_summed_weight(
    kind: type[nn.Module], groups: int, dilation: int, rank: int, layout: str
) -> None:
    layer = kind(8, 12 if groups == 1 else 8, 3, groups=groups, dilation=dilation, padding=2)
    holder = nn.Sequential(layer)
    original = layer.weight.detach().clone()
    add_lora(holder, rank, 2.0, layout)  # type: ignore[arg-type]
    shaken(holder)
    image = torch.randn(1, 8, *[9] * (layer.weight.dim() - 2))
    with torch.no_grad():
        adapted = layer.weight.clone()
        wrapped = holder(image)
        merge_lora(holder)
        assert torch.equal(holder(image), wrapped)
    assert adapted.shape == original.shape
    if layout == "kernel_in":
        update = (adapted - original).reshape(len(original), -1)
        assert torch.linalg.matrix_rank(update, atol=1e-4) <= rank


def test_no_adapter_outgrows_its_layer() -> None:
    network = NETWORKS["UNet"]()
    add_lora(network, 16, 32.0, "kernel_in")
    for module in network.modules():
        if parametrize.is_parametrized(module, "weight"):
            update = module.parametrizations.weight[0]  # type: ignore[index, union-attr]
            factors = sum(factor.numel() for factor in update.parameters())
            assert factors < module.weight.numel()
    adapted = sum(parametrize.is_parametrized(module) for module in network.modules())
    assert 0 < adapted < sum(isinstance(module, nn.Conv3d) for module in network.modules()) + 9


@pytest.mark.parametrize("train_norms", [True, False])
def test_norms_learn_only_when_asked(train_norms: bool) -> None:
    network = NETWORKS["SegResNet"]()
    plan = prepare(network, LoRA(rank=2, train_norms=train_norms))
    trained = {id(parameter) for parameter in plan.groups[0]}
    assert len(trained) == len(plan.groups[0]), "a parameter is stepped twice"
    norms = [
        parameter
        for module in network.modules()
        if isinstance(module, nn.GroupNorm)
        for parameter in module.parameters()
    ]
    assert norms
    assert all((id(parameter) in trained) is train_norms for parameter in norms)
