"""A network is its body and its head; an adapter between them starts as nothing."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
import torch
from monai.networks import nets
from torch import nn

from napari_dante.errors import ModelError
from napari_dante.model.dafne_source import init_source
from napari_dante.model.head import AdaptedNetwork, feature_channels, split_head
from napari_dante.model.network import build_network, load_weights
from napari_dante.model.spec import ArchitectureSpec

NETWORKS = {
    "UNet": lambda: nets.UNet(3, 1, 3, channels=(6, 16, 32), strides=(2, 2), num_res_units=2),
    "plain UNet": lambda: nets.UNet(3, 1, 3, channels=(6, 16), strides=(2,)),
    "DynUNet": lambda: nets.DynUNet(
        3, 1, 3, [3, 3, 3], [1, 2, 2], [2, 2], filters=[6, 16, 32], deep_supervision=True
    ),
    "SegResNet": lambda: nets.SegResNet(3, 8, 1, 3, blocks_down=(1, 1), blocks_up=(1,)),
}
CHANNELS = {"UNet": 12, "plain UNet": 22, "DynUNet": 6, "SegResNet": 8}


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return NETWORKS[request.param]().eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_body_and_head_are_the_network(name: str) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name]().eval()
    image = torch.randn(2, 1, 16, 16, 16)
    with torch.no_grad():
        before = network(image)
        body, head = split_head(network)
        features = body(image)
        assert torch.equal(head(features), before)
        assert torch.equal(network(image), before), "the network was changed"
    assert features.shape[1] == feature_channels(network) == CHANNELS[name]
    assert set(map(id, head.parameters())) < set(map(id, network.parameters()))


def test_a_new_adapter_changes_nothing_and_belongs_to_the_head(network: nn.Module) -> None:
    adapted = AdaptedNetwork(network, 5).eval()
    image = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        assert torch.equal(adapted(image), network(image))
        nn.init.normal_(adapted.adapter.outer.weight)
        assert not torch.allclose(adapted(image), network(image))
        body, head = split_head(adapted)
        assert torch.equal(head(body(image)), adapted(image))
    assert {id(p) for p in adapted.adapter.parameters()} < {id(p) for p in head.parameters()}


def test_a_copy_has_an_adapter_of_its_own(network: nn.Module) -> None:
    adapted = AdaptedNetwork(network, 5).eval()
    twin = copy.deepcopy(adapted)
    nn.init.normal_(twin.adapter.outer.weight)
    image = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        assert not torch.allclose(twin(image), adapted(image))


@pytest.mark.parametrize(
    "stranger",
    [
        nn.Conv3d(1, 3, 1),
        nets.SegResNet(3, 8, 1, 3, blocks_down=(1, 1), blocks_up=(1,), use_conv_final=False),
    ],
)
def test_a_network_without_a_known_head_is_refused(stranger: nn.Module) -> None:
    with pytest.raises(ModelError, match="takes no adapter"):
        AdaptedNetwork(stranger, 4)


def test_the_spec_builds_the_adapter(spec: ArchitectureSpec) -> None:
    plain, adapted = build_network(spec), build_network(replace(spec, adapter=7))
    assert isinstance(adapted, AdaptedNetwork)
    assert adapted.adapter.inner.out_channels == 7
    load_weights(adapted.base, plain.state_dict())
    with pytest.raises(ModelError, match="do not belong"):
        load_weights(adapted, plain.state_dict())


def test_the_spec_tells_of_the_adapter_in_json_only_when_there_is_one(
    spec: ArchitectureSpec,
) -> None:
    assert "adapter" not in spec.to_json()
    assert ArchitectureSpec.from_json(spec.to_json()).adapter is None
    adapted = replace(spec, adapter=7)
    assert ArchitectureSpec.from_json(json.loads(json.dumps(adapted.to_json()))) == adapted
    for nonsense in (0, -1, "wide", [4]):
        with pytest.raises(ModelError):
            ArchitectureSpec.from_json({**spec.to_json(), "adapter": nonsense})


def test_a_dafne_file_cannot_hold_an_adapter(spec: ArchitectureSpec) -> None:
    with pytest.raises(ModelError, match="with LoRA to share"):
        init_source(replace(spec, adapter=7))
