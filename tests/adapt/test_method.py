"""What each recipe trains: the head always, nothing twice, and nothing that it should not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from napari_dante.adapt.lora import DenseUpdate, named_updates, without_lora
from napari_dante.adapt.method import merged_weights, prepare
from napari_dante.adapt.recipe import (
    DecoderOnly,
    EncoderLoRA,
    FullFineTuning,
    GradualUnfreezing,
    LoRA,
    Recipe,
)
from napari_dante.adapt.training import Training
from napari_dante.model.low_rank import Role
from napari_dante.model.roles import parts
from tests.adapt.nets import NETWORKS, network, shaken

RECIPES: dict[str, Callable[[], Recipe]] = {
    "lora": lambda: LoRA(rank=2),
    "lora per tap": lambda: LoRA(rank=2, layout="per_tap"),
    "lora without norms": lambda: LoRA(rank=2, train_norms=False),
    "lora in the encoder": lambda: LoRA(rank=2, targets=("encoder",)),
    "lora in the decoder": lambda: LoRA(rank=2, targets=("decoder", "decoder")),
    "lora in the head": lambda: LoRA(rank=2, targets=("head",)),
    "lora-decoder": lambda: EncoderLoRA(rank=2),
    "lora-decoder without norms": lambda: EncoderLoRA(rank=2, train_norms=False),
    "decoder": DecoderOnly,
    "full": FullFineTuning,
    "full, discriminative": lambda: FullFineTuning(decay=0.5),
    "unfreeze": lambda: GradualUnfreezing(start=0.0, training=Training(steps=10)),
}
FROZEN: dict[str, set[Role]] = {
    "lora in the encoder": {"decoder"},
    "lora in the decoder": {"encoder"},
    "lora in the head": {"encoder", "decoder"},
    "decoder": {"encoder"},
}
IMAGE = torch.randn(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
every_case = pytest.mark.parametrize(
    ("name", "method"), [(name, method) for name in NETWORKS for method in RECIPES]
)


def tensors(net: nn.Module, roles: set[Role]) -> set[int]:
    """Return the identities of all parameters of these parts, those of updates too."""
    found = parts(net)
    return {id(p) for role in roles for module in found[role] for p in module.parameters()}


@every_case
def test_the_head_trains_and_nothing_is_stepped_twice(name: str, method: str) -> None:
    net = network(name)
    plan = prepare(net, RECIPES[method]())
    plan.set_step(0)
    trained = [id(parameter) for group in plan.groups for parameter in group]
    assert len(set(trained)) == len(trained) == sum(len(group) for group in plan.groups)
    assert set(trained) <= {id(parameter) for parameter in net.parameters()}
    assert set(trained) & tensors(net, {"head"})
    assert not set(trained) & tensors(net, FROZEN.get(method, set()))
    assert {id(p) for p in net.parameters() if p.requires_grad} <= set(trained)


@pytest.mark.parametrize("method", [method for method in RECIPES if method != "unfreeze"])
def test_one_step_moves_what_learns_and_nothing_else(method: str) -> None:
    net = network("UNet").train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    plan = prepare(net, RECIPES[method]())
    plan.set_step(0)
    optimiser = torch.optim.SGD([{"params": group} for group in plan.groups], lr=1.0)
    for _ in range(2):  # the first step moves only the factor that starts at zero
        optimiser.zero_grad()
        net(IMAGE).square().mean().backward()
        optimiser.step()
    changed = {key for key, value in merged_weights(net).items() if (value != before[key]).any()}
    frozen = FROZEN.get(method, set())
    fresh = network("UNet")
    names = {id(p): key for key, p in fresh.named_parameters()}
    roles: dict[Role, set[str]] = {
        role: {names[id(p)] for module in modules for p in module.parameters()}
        for role, modules in parts(fresh).items()
    }
    for role, keys in roles.items():
        assert bool(changed & keys) is (role not in frozen), role
    assert changed & {key for key in roles["head"] if key.endswith("conv.weight")}


@pytest.mark.parametrize("method", ["decoder", "lora in the decoder"])
@pytest.mark.parametrize("name", NETWORKS)
def test_no_graph_is_recorded_for_a_frozen_encoder(name: str, method: str) -> None:
    net = network(name)
    prepare(net, RECIPES[method]()).set_step(0)
    outputs: list[torch.Tensor] = []
    for module in parts(net)["encoder"]:
        for leaf in module.modules():
            leaf.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    logits = net(IMAGE)
    assert logits.requires_grad
    assert outputs
    assert not any(output.requires_grad for output in outputs)


@pytest.mark.parametrize("method", [key for key in RECIPES if key.startswith("lora")])
@pytest.mark.parametrize("name", NETWORKS)
def test_with_lora_switched_off_it_is_the_base(name: str, method: str) -> None:
    """Also where biases, norms and a whole decoder have learned."""
    net = network(name)
    with torch.no_grad():
        before = net(IMAGE)
        prepare(net, RECIPES[method]())
        assert torch.equal(net(IMAGE), before)
        shaken(net)
        assert not torch.allclose(net(IMAGE), before, atol=1e-3)
        with without_lora(net):
            assert torch.equal(net(IMAGE), before)


def test_full_fine_tuning_learns_more_slowly_towards_the_input() -> None:
    plan = prepare(network("UNet"), FullFineTuning(decay=0.5))
    factors = [plan.factor(group, 0) for group in range(len(plan.groups))]
    assert factors[-1] == 1
    assert factors == [0.5**depth for depth in reversed(range(len(factors)))]
    even = prepare(network("UNet"), FullFineTuning())
    assert {even.factor(group, step) for group in range(len(even.groups)) for step in (0, 9)} == {1}
    assert even.trained == sum(p.numel() for p in network("UNet").parameters())


def test_decoder_and_head_of_encoder_lora_are_whole() -> None:
    net = network("UNet")
    prepare(net, EncoderLoRA(rank=2))
    kinds = {key: type(update) for key, update in named_updates(net)}
    fresh = network("UNet")
    names = {id(p): key for key, p in fresh.named_parameters()}
    for role, modules in parts(fresh).items():
        keys = [names[id(p)] for module in modules for p in module.parameters()]
        if role == "encoder":
            assert any(kinds[key] is not DenseUpdate for key in keys)
        else:
            assert all(kinds[key] is DenseUpdate for key in keys)
