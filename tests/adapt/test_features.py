"""Stored features are those that would be computed, and are computed once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from napari_dante.adapt import features
from napari_dante.adapt.features import FeatureBank
from napari_dante.errors import TeachError
from napari_dante.model import inference
from napari_dante.model.head import split_head
from napari_dante.model.inference import autocast
from napari_dante.model.network import build_network
from napari_dante.model.spec import ArchitectureSpec

BASE, OTHER = "ab" * 32, "cd" * 32


class Counted(nn.Module):
    """Counts the windows that go through."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body, self.windows = body, 0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.windows += len(image)
        features: torch.Tensor = self.body(image)
        return features


@pytest.fixture
def network(spec: ArchitectureSpec) -> nn.Module:
    torch.manual_seed(0)
    return build_network(spec).eval()


@pytest.fixture
def body(network: nn.Module) -> Counted:
    return Counted(split_head(network)[0])


def windows(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 1, 16, 16, 16, generator=torch.Generator().manual_seed(1))


def test_stored_features_give_the_logits_of_the_network(
    network: nn.Module, body: Counted, tmp_path: Path
) -> None:
    """float16 keeps 11 bits: logits of order one agree to 5e-3, computed alike."""
    head = split_head(network)[1]
    for _ in range(2):
        bank = FeatureBank(body, tmp_path, BASE)
        with torch.no_grad(), autocast(torch.device("cpu")):
            logits, plain = head(bank(windows())).float(), network(windows()).float()
        assert torch.allclose(logits, plain, atol=5e-3)
        assert plain.std() > 0.05
    assert body.windows == 3


def test_each_window_is_computed_once_whatever_batch_it_comes_in(
    body: Counted, tmp_path: Path
) -> None:
    first = FeatureBank(body, tmp_path, BASE)(windows())
    again = FeatureBank(body, tmp_path, BASE)
    singly = torch.cat([again(window[None]) for window in windows()])
    assert torch.equal(first, singly)
    assert body.windows == 3
    again(windows() + 1e-3)
    assert body.windows == 6


def test_another_base_is_computed_anew_and_the_old_one_goes(body: Counted, tmp_path: Path) -> None:
    FeatureBank(body, tmp_path, BASE)(windows())
    (tmp_path / "note.txt").touch()
    FeatureBank(body, tmp_path, OTHER)(windows())
    assert body.windows == 6
    assert {path.name for path in tmp_path.iterdir()} == {OTHER, "note.txt"}


def test_the_limit_holds_over_runs_and_changes_no_number(body: Counted, tmp_path: Path) -> None:
    whole = FeatureBank(body, tmp_path / "whole", BASE)(windows())
    size = next((tmp_path / "whole" / BASE).iterdir()).stat().st_size
    limit = 2 * size + 2048
    for _ in range(2):
        bank = FeatureBank(body, tmp_path / "small", BASE, limit)
        assert torch.equal(bank(windows()), whole)
        files = list((tmp_path / "small" / BASE).iterdir())
        assert len(files) == 2
        assert sum(path.stat().st_size for path in files) <= limit
    assert body.windows == 3 + 3 + 1


def test_a_damaged_file_is_computed_anew(body: Counted, tmp_path: Path) -> None:
    whole = FeatureBank(body, tmp_path, BASE)(windows())
    for path, keep in zip(sorted((tmp_path / BASE).iterdir()), (0, 40, 500), strict=True):
        path.write_bytes(path.read_bytes()[:keep])
    assert torch.equal(FeatureBank(body, tmp_path, BASE)(windows()), whole)
    assert body.windows == 6
    assert torch.equal(FeatureBank(body, tmp_path, BASE)(windows()), whole)
    assert body.windows == 6


@pytest.mark.parametrize(
    "stranger",
    [
        np.zeros((2, 8, 8, 8), np.float32),
        np.zeros((8, 8, 8), np.float16),
        np.full((2, 8, 8, 8), np.nan, np.float16),
    ],
    ids=["type", "axes", "NaN"],
)
def test_a_file_with_anything_else_is_computed_anew(
    body: Counted, tmp_path: Path, stranger: NDArray[np.generic]
) -> None:
    whole = FeatureBank(body, tmp_path, BASE)(windows(1))
    (path,) = (tmp_path / BASE).iterdir()
    np.save(path, stranger)
    assert torch.equal(FeatureBank(body, tmp_path, BASE)(windows(1)), whole)
    assert body.windows == 2


def test_features_of_another_precision_are_others(
    body: Counted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job folder may go on on another machine."""
    for number, fast in enumerate((True, False, True), start=1):
        monkeypatch.setattr(inference, "cpu_has_fast_bf16", lambda fast=fast: fast)
        FeatureBank(body, tmp_path, BASE)(windows(1))
        assert body.windows == min(number, 2)


def test_a_full_disk_costs_time_and_nothing_else(
    body: Counted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = FeatureBank(body, tmp_path / "whole", BASE)(windows())

    def full(path: Path, array: NDArray[np.generic]) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(features, "save_array", full)
    bank = FeatureBank(body, tmp_path / "full", BASE)
    assert torch.equal(bank(windows()), whole)
    assert torch.equal(bank(windows()), whole)
    assert body.windows == 9


def test_no_gradient_reaches_the_body_and_it_is_in_evaluation_mode(tmp_path: Path) -> None:
    body = nn.Sequential(nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2)).train()
    features = FeatureBank(body, tmp_path, BASE)(windows())
    assert not features.requires_grad
    assert torch.equal(body[1].running_mean, torch.zeros(2))


@pytest.mark.parametrize("value", [1e6, float("nan")])
def test_features_beyond_float16_are_refused(tmp_path: Path, value: float) -> None:
    body = nn.Conv3d(1, 2, 1)
    nn.init.constant_(body.weight, value)
    with pytest.raises(TeachError, match="too large"):
        FeatureBank(body, tmp_path, BASE)(windows())
    assert not list(tmp_path.rglob("*.npy"))
