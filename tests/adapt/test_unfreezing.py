"""Gradual unfreezing opens from the output end, by weight, and never steps twice."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.networks.nets import UNet
from torch import nn

from napari_dante.adapt.method import prepare
from napari_dante.adapt.recipe import GradualUnfreezing, Training
from napari_dante.adapt.unfreezing import Schedule, stages


def network() -> nn.Module:
    return UNet(3, 1, 3, channels=(8, 16, 32), strides=(2, 2), num_res_units=1)


def test_every_parameter_is_in_exactly_one_stage() -> None:
    net = network()
    grouped = [id(parameter) for group in stages(net) for parameter in group]
    assert sorted(grouped) == sorted(id(parameter) for parameter in net.parameters())


def test_the_last_layer_is_in_the_last_stage() -> None:
    net = network()
    *_, last = net.parameters()
    assert any(parameter is last for parameter in stages(net)[-1])


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
