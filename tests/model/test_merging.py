"""The arithmetic of a server, foretold and recognised again."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from napari_dante.model.merging import Proof, prove, simulate

Weights = dict[str, torch.Tensor]


class Net(nn.Module):
    """Every kind of tensor that a network can hold."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 4, 3)
        self.norm = nn.BatchNorm1d(4)
        self.wide = nn.Parameter(torch.zeros(5, dtype=torch.float64))
        self.register_buffer("flag", torch.zeros(3, dtype=torch.bool))


def weights(seed: int) -> Weights:
    draw = torch.Generator().manual_seed(seed)
    found: Weights = {}
    for key, value in Net().state_dict().items():
        if value.dtype == torch.bool:
            found[key] = torch.rand(value.shape, generator=draw) > 0.5
        elif value.is_floating_point():
            found[key] = torch.randn(value.shape, generator=draw, dtype=value.dtype)
        else:
            found[key] = torch.randint(-9, 2**26, value.shape, generator=draw)
    return found


def through_networks(old: Weights, new: Weights, weight: float) -> Weights:
    """As dafne-dl does it: each product, and the sum, is loaded into a network."""

    def times(values: Weights, factor: float) -> Weights:
        source, target = Net(), Net()
        source.load_state_dict(values)
        target.load_state_dict({key: value * factor for key, value in source.state_dict().items()})
        return target.state_dict()

    first, second = times(old, weight), times(new, 1 - weight)
    net = Net()
    net.load_state_dict({key: first[key] + second[key] for key in first})
    return net.state_dict()


def same(first: Weights, second: Weights) -> bool:
    return list(first) == list(second) and all(
        first[key].dtype == second[key].dtype and torch.equal(first[key], second[key])
        for key in first
    )


@settings(max_examples=40, deadline=None)
@given(
    seeds=st.tuples(st.integers(0, 99), st.integers(0, 99)),
    weight=st.sampled_from([0.5, 0.3, 0.9, 1 / 3, 0.0, 1.0]),
)
def test_the_merge_is_that_of_the_networks_bit_for_bit(
    seeds: tuple[int, int], weight: float
) -> None:
    old, new = (weights(seed) for seed in seeds)
    assert same(simulate(old, new, weight), through_networks(old, new, weight))


@pytest.mark.parametrize("small", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("which", [(True, False), (False, True), (True, True)])
def test_half_precision_in_a_file_is_widened_as_on_loading(
    small: torch.dtype, which: tuple[bool, bool]
) -> None:
    pair = []
    for seed, shrink in zip((1, 2), which, strict=True):
        values = weights(seed)
        del values["wide"]
        if shrink:
            values = {
                key: value.to(small) if value.is_floating_point() else value
                for key, value in values.items()
            }
        pair.append(values)
    full = [weights(3) | values for values in pair]
    expected = through_networks(full[0], full[1], 0.5)
    del expected["wide"]
    assert same(simulate(pair[0], pair[1]), {key: expected[key] for key in pair[0]})


@pytest.mark.parametrize("weight", [0.5, 0.25, 0.9, 0.123])
def test_an_update_is_found_again_with_its_share(weight: float) -> None:
    old, new = weights(1), weights(2)
    proof = prove(old, new, simulate(old, new, weight))
    assert proof is not None
    assert proof.exact
    assert proof.share == pytest.approx(1 - weight)


@pytest.mark.parametrize("weight", [1 / 3, 0.987654321])
def test_a_share_that_is_no_short_decimal_is_found_to_the_rounding(weight: float) -> None:
    old, new = weights(1), weights(2)
    proof = prove(old, new, simulate(old, new, weight))
    assert proof is not None
    assert not proof.exact
    assert proof.share == pytest.approx(1 - weight, rel=1e-5)


def test_a_version_without_the_update_is_told_apart() -> None:
    old, new, other = weights(1), weights(2), weights(3)
    assert prove(old, new, simulate(old, other)) == Proof(None)
    assert prove(old, new, old) == Proof(None)
    assert prove(old, new, simulate(other, new)) == Proof(None)


def test_one_changed_number_breaks_the_proof() -> None:
    old, new = weights(1), weights(2)
    after = simulate(old, new)
    after["conv.weight"][0, 0, 0] += 1e-3
    assert prove(old, new, after) == Proof(None)


def test_an_update_without_a_change_proves_nothing() -> None:
    old = weights(1)
    assert prove(old, old, simulate(old, old)) is None
    assert prove(old, old, simulate(old, weights(2))) is None


def test_another_layout_is_no_version_of_it() -> None:
    old, new = weights(1), weights(2)
    assert prove(old, new, {"conv.weight": torch.zeros(1)}) == Proof(None)
