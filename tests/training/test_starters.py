"""The long run in small: it resumes exactly, and its two heads come apart exactly."""

from __future__ import annotations

import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from training.anatomy import STRUCTURES, TISSUES, Head
from training.generate import Generator
from training.muon import orthogonal
from training.network import MIXING, STARTERS, Starter, both_heads, join, keep_apart, split
from training.starters import Run, budget, soft_dice_ce

from napari_dante.model.file import read_header
from napari_dante.model.network import build_network, load_weights
from napari_dante.model.segmenter import Segmenter
from training import export, starters

CHANNELS = (4, 6, 8)


def network() -> nn.Module:
    torch.manual_seed(3)
    return build_network(both_heads(CHANNELS))


def run(head: Head, out: Path, steps: int) -> Run:
    out.mkdir(exist_ok=True)
    painter = Generator([head], 16, 2.0, 5)
    return Run(network(), painter, [painter.draw(10**6)], budget(None, steps), out)


def test_a_resumed_run_is_the_uninterrupted_one(
    head: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starters, "EVERY", 2)
    monkeypatch.setattr(starters, "CHECK_EVERY", 2)
    whole = run(head, tmp_path / "whole", 4)
    whole.train()
    first = run(head, tmp_path / "parts", 4)
    first.progress = lambda step, spent: 1.0 if step == 2 else step / 4
    first.train()
    second = run(head, tmp_path / "parts", 4)
    second.resume()
    assert second.step == 2
    second.train()
    expected = whole.network.state_dict()
    assert all(
        torch.equal(value, expected[key]) for key, value in second.network.state_dict().items()
    )
    fresh = network().state_dict()
    assert any(not torch.equal(value, fresh[key]) for key, value in expected.items())
    tissues, structures = (starter.channels for starter in STARTERS)
    assert not expected[MIXING][tissues, structures].any()
    assert not expected[MIXING][structures, tissues].any()
    assert expected[MIXING][tissues, tissues].any()
    rows = export.curve(tmp_path / "parts")
    assert [row[0] for row in rows] == ["1", "2", "4"]
    assert [bool(row[3]) for row in rows] == [False, True, True]


def test_the_loss_is_least_at_the_shares() -> None:
    torch.manual_seed(0)
    shares = torch.softmax(3 * torch.randn(2, 5, 4, 4, 4), dim=1)
    logits = shares.log().requires_grad_()
    least = soft_dice_ce(logits, shares)
    for scale in (0.5, 2.0):
        assert soft_dice_ce(scale * shares.log(), shares) > least
    for _ in range(5):
        assert soft_dice_ce(shares.log() + 0.3 * torch.randn_like(shares), shares) > least


def test_a_class_that_is_not_there_costs_no_dice() -> None:
    shares = torch.zeros(1, 3, 4, 4, 4)
    shares[:, 0] = 1
    answer = torch.zeros_like(shares)
    answer[:, 0] = 20
    assert float(soft_dice_ce(answer, shares)) < 1e-3


@pytest.mark.parametrize("starter", STARTERS, ids=lambda starter: starter.name)
def test_each_starter_says_what_its_head_said(starter: Starter) -> None:
    whole = network().eval()
    keep_apart(whole)
    model = split(whole.state_dict(), starter)
    alone = build_network(model.spec)
    load_weights(alone, {key: torch.from_numpy(value) for key, value in model.weights.items()})
    alone.eval()
    image = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        assert torch.allclose(alone(image), whole(image)[:, starter.channels], atol=1e-5)
    assert model.spec.out_channels == alone(image).shape[1]


def test_the_starters_come_together_again() -> None:
    whole = network()
    keep_apart(whole)
    weights = whole.state_dict()
    again = join([split(weights, starter) for starter in STARTERS])
    assert again.keys() == weights.keys()
    assert all(torch.equal(value, weights[key]) for key, value in again.items())


@pytest.mark.parametrize("shape", [(8, 40), (40, 8), (12, 30)])
def test_a_step_is_about_as_long_in_every_direction(shape: tuple[int, int]) -> None:
    torch.manual_seed(1)
    matrix = torch.randn(shape) * torch.logspace(0, -2, shape[1])
    first, _, second = torch.linalg.svd(matrix, full_matrices=False)
    found = orthogonal(matrix)
    assert found.shape == matrix.shape
    lengths = torch.linalg.svdvals(found)
    assert 0.5 < float(lengths.min()) <= float(lengths.max()) < 1.3
    turned = first.T @ found @ second.T
    assert torch.allclose(turned, torch.diag(turned.diag()), atol=0.02)


def test_the_starters_share_the_channels() -> None:
    count = len(STRUCTURES) + 1 + len(TISSUES) + 1
    taken = [range(count)[starter.channels] for starter in STARTERS]
    assert sorted(chain(*taken)) == list(range(count))
    assert len({starter.model_id for starter in STARTERS}) == len(STARTERS)


def test_a_quick_run_ends_in_two_models(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starters, "CHECKS", 1)
    out, models = tmp_path / "run", tmp_path / "models"
    words = ["training.starters", "--data", str(data), "--quick", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", words)
    starters.main()
    words = ["training.export", "--run", str(out), "--out", str(models), "--unmeasured"]
    monkeypatch.setattr(sys, "argv", words)
    export.main()
    for starter in STARTERS:
        path = models / f"{starter.name}.safetensors"
        assert path.stat().st_size <= 5_000_000
        spec, lineage = read_header(path)
        assert spec.labels == starter.labels
        assert lineage.model_id == starter.model_id
        mask = Segmenter.from_file(path, "cpu").predict(
            np.random.default_rng(0).normal(size=(12, 14, 16)), (4.0, 2.0, 2.0)
        )
        assert mask.shape == (12, 14, 16)
