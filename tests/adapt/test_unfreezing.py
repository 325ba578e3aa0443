"""Gradual unfreezing opens from the output end, by weight, and never steps twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.networks import nets
from torch import nn

from napari_dante.adapt.method import prepare
from napari_dante.adapt.recipe import GradualUnfreezing
from napari_dante.adapt.training import Training
from napari_dante.adapt.unfreezing import WARMUP, Schedule, stages
from napari_dante.model.head import AdaptedNetwork, split_head

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "UNet": lambda: nets.UNet(3, 1, 3, channels=(8, 16, 32), strides=(2, 2), num_res_units=2),
    "UNet, affine norms": lambda: nets.UNet(
        3, 1, 3, (8, 16), (2,), num_res_units=1, norm=("INSTANCE", {"affine": True})
    ),
    "UNet, batch norms": lambda: nets.UNet(3, 1, 3, (8, 16, 32), (2, 2), norm="batch"),
    "DynUNet": lambda: nets.DynUNet(
        3, 1, 3, [3] * 4, [1, 2, 2, 2], [2] * 3, filters=[4, 8, 16, 32], res_block=True
    ),
    "DynUNet, deep supervision": lambda: nets.DynUNet(
        3, 1, 3, [3] * 4, [1, 2, 2, 2], [2] * 3, filters=[4, 8, 16, 32], deep_supervision=True
    ),
    "SegResNet": lambda: nets.SegResNet(3, 8, 1, 3, blocks_down=(1, 2, 2), blocks_up=(1, 1)),
    "adapted UNet": lambda: AdaptedNetwork(NETWORKS["UNet"](), 4),
    "adapted DynUNet": lambda: AdaptedNetwork(NETWORKS["DynUNet"](), 4),
    "adapted SegResNet": lambda: AdaptedNetwork(NETWORKS["SegResNet"](), 4),
}


def network(name: str = "UNet") -> nn.Module:
    torch.manual_seed(0)
    return NETWORKS[name]()


def frozen_up_to(net: nn.Module, stage: int) -> set[nn.Module]:
    """Freeze the first stages and return the layers that are frozen now."""
    groups = stages(net)
    for index, group in enumerate(groups):
        for parameter in group:
            parameter.requires_grad_(index >= stage)
    layers = [layer for layer in net.modules() if list(layer.parameters(recurse=False))]
    return {layer for layer in layers if not any(p.requires_grad for p in layer.parameters(False))}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_is_in_exactly_one_stage(name: str) -> None:
    """Twice in an optimiser would be two steps in one."""
    net = network(name)
    grouped = [id(parameter) for group in stages(net) for parameter in group]
    assert sorted(grouped) == sorted({id(parameter) for parameter in net.parameters()})
    torch.optim.AdamW([{"params": group} for group in stages(net)])


@pytest.mark.parametrize("name", NETWORKS)
def test_the_last_layer_is_in_the_last_stage(name: str) -> None:
    net = network(name)
    base = net.base if isinstance(net, AdaptedNetwork) else net
    *_, last = split_head(base)[1].parameters()
    assert any(parameter is last for parameter in stages(net)[-1])


@pytest.mark.parametrize("stage", range(1, 6))
@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_frozen_runs_without_a_graph(name: str, stage: int) -> None:
    """Nothing that a frozen layer makes is kept, unless an open layer reads it."""
    net = network(name).train()
    frozen = frozen_up_to(net, stage)
    assert frozen
    made: dict[int, torch.Tensor] = {}
    read: set[int] = set()

    def watch(layer: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        if layer in frozen:
            assert not output.requires_grad
            assert not inputs[0].requires_grad, "a frozen layer comes after an open one"
            made[output.data_ptr()] = output
        else:
            read.add(inputs[0].data_ptr())

    for layer in net.modules():
        if list(layer.parameters(recurse=False)):
            layer.register_forward_hook(watch)
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: (kept.append(tensor), tensor)[1], lambda tensor: tensor
    ):
        net(torch.randn(2, 1, 32, 32, 32))
    assert made
    assert not {tensor.data_ptr() for tensor in kept} & made.keys() - read


@pytest.mark.parametrize("name", ["UNet", "DynUNet", "SegResNet"])
def test_less_is_kept_for_the_backward_pass_the_more_is_frozen(name: str) -> None:
    sizes = []
    for stage in range(5):
        net = network(name).train()
        frozen_up_to(net, stage)
        kept: dict[int, int] = {}

        def keep(tensor: torch.Tensor, kept: dict[int, int] = kept) -> torch.Tensor:
            kept[tensor.data_ptr()] = tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            logits = net(torch.randn(2, 1, 32, 32, 32))
        sizes.append(sum(kept.values()))
        del logits
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 0.8 * sizes[0]


@given(
    start=st.floats(0, 1),
    full_at=st.floats(0.05, 1),
    decay=st.floats(0.1, 1),
    steps=st.integers(1, 400),
)
def test_schedule_opens_towards_the_input_and_stays_open(
    start: float, full_at: float, decay: float, steps: int
) -> None:
    recipe = GradualUnfreezing(
        start=start, full_at=full_at, decay=decay, training=Training(steps=steps)
    )
    schedule = Schedule.of(stages(network()), recipe)
    count = len(schedule.shares)
    opens = [schedule.opens(stage) for stage in range(count)]
    assert opens == sorted(opens, reverse=True)
    assert opens[-1] == 0
    assert opens[0] <= full_at * steps + 1
    assert schedule.openings == {step for step in opens if step > 0}
    for stage in range(count):
        factors = [schedule.factor(stage, step) for step in range(steps + 1)]
        assert factors == sorted(factors), "a stage slows down or closes again"
        assert all(0 <= factor <= 1 for factor in factors)


def test_a_frozen_stage_gets_no_gradient_and_does_not_move() -> None:
    net = network()
    plan = prepare(net, GradualUnfreezing(start=0.1, full_at=1.0, training=Training(steps=100)))
    plan.set_step(0)
    closed = [group for index, group in enumerate(plan.groups) if plan.factor(index, 0) == 0]
    assert closed
    net(torch.randn(1, 1, 16, 16, 16)).sum().backward()
    assert all(parameter.grad is None for group in closed for parameter in group)
    opened = [p for index, g in enumerate(plan.groups) if plan.factor(index, 0) > 0 for p in g]
    assert all(parameter.grad is not None for parameter in opened)


def test_a_stage_warms_up_when_it_opens_and_the_open_ones_go_on() -> None:
    """Optimiser steps count how often a tensor moved: once for each step that it is open."""
    net, steps = network(), 40
    recipe = GradualUnfreezing(start=0.1, full_at=0.5, training=Training(steps=steps))
    plan = prepare(net, recipe)
    groups = stages(net)
    schedule = Schedule.of(groups, recipe)
    assert plan.openings == schedule.openings
    optimiser = torch.optim.AdamW([{"params": group} for group in plan.groups], lr=1e-3)
    image = torch.randn(1, 1, 16, 16, 16)
    for step in range(steps):
        plan.set_step(step)
        optimiser.zero_grad(set_to_none=True)
        net(image).square().mean().backward()
        optimiser.step()
        for index, group in enumerate(groups):
            moved = {int(optimiser.state[p]["step"]) if p in optimiser.state else 0 for p in group}
            assert moved == {max(0, step + 1 - schedule.opens(index))}
    assert len({schedule.opens(index) for index in range(len(groups))}) > 2
    for index in range(len(groups)):
        opens = schedule.opens(index)
        if opens:
            rates = [schedule.factor(index, opens + age) for age in range(WARMUP + 5)]
            assert rates[0] == pytest.approx(rates[-1] / WARMUP)
            assert rates[WARMUP - 1 :] == [rates[-1]] * 6
