"""Encoder, decoder and head by structure: nothing twice, nothing forgotten."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.networks import nets
from torch import nn

from napari_dante.errors import ModelError
from napari_dante.model.head import split_head
from napari_dante.model.roles import parts
from tests.adapt.nets import NETWORKS, network


def assert_a_partition(net: nn.Module) -> None:
    found = [
        id(parameter)
        for modules in parts(net).values()
        for module in modules
        for parameter in module.parameters()
    ]
    assert sorted(found) == sorted(id(parameter) for parameter in net.parameters())


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_has_exactly_one_role(name: str) -> None:
    assert_a_partition(network(name))


@settings(max_examples=20, deadline=None)
@given(
    channels=st.lists(st.integers(2, 6), min_size=2, max_size=5),
    units=st.integers(0, 2),
    dimensions=st.sampled_from([2, 3]),
    classes=st.integers(2, 6),
)
def test_every_parameter_of_any_unet_has_exactly_one_role(
    channels: list[int], units: int, dimensions: int, classes: int
) -> None:
    """Also where a hidden layer has as many channels as there are classes."""
    net = nets.UNet(
        dimensions, 1, classes, channels, [2] * (len(channels) - 1), num_res_units=units
    )
    assert_a_partition(net)
    found = parts(net)
    assert len(found["encoder"]) == len(channels)
    assert len(found["decoder"]) == len(channels) - 2
    _, head = split_head(net)
    assert found["head"] == [head]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_encoder_does_not_see_the_decoder(name: str) -> None:
    """The encoder's outputs depend on no weight of decoder and head; the logits on all."""
    net = network(name)
    found = parts(net)
    seen: list[torch.Tensor] = []
    for module in found["encoder"]:
        leaves = module if isinstance(module, nn.ModuleList) else [module]
        for leaf in leaves:
            leaf.register_forward_hook(lambda module, inputs, output: seen.append(output))
    for role in ("decoder", "head"):
        for module in found[role]:  # type: ignore[index]
            module.requires_grad_(requires_grad=False)
    image = torch.randn(1, 1, 16, 16, 16)
    logits = net(image)
    assert logits.requires_grad
    assert seen
    assert all(output.requires_grad for output in seen)
    net.requires_grad_(requires_grad=False)
    for role in ("decoder", "head"):
        for module in found[role]:  # type: ignore[index]
            module.requires_grad_()
    seen.clear()
    assert net(image).requires_grad
    assert not any(output.requires_grad for output in seen)


def test_a_network_without_a_known_head_is_refused() -> None:
    with pytest.raises(ModelError):
        parts(nn.Sequential(nn.Conv3d(1, 3, 1)))
