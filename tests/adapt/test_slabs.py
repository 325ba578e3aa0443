"""A few rows of a tile: what the whole tile would give there, and nothing more computed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from monai.networks import nets
from torch import nn

from napari_dante.adapt.cover import Cover
from napari_dante.adapt.features import FeatureBank
from napari_dante.adapt.loss import trusted_dice_ce
from napari_dante.adapt.patches import Grid
from napari_dante.adapt.slabs import Unsupported, halo
from napari_dante.adapt.stored import StoredHead
from napari_dante.model import precision
from napari_dante.model.head import AdaptedNetwork, feature_channels, split_head

SIDE = 24
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "UNet": lambda: nets.UNet(3, 1, 3, (4, 8), (2,), num_res_units=2),
    "UNet, affine norm": lambda: nets.UNet(
        3, 1, 3, (4, 8), (2,), num_res_units=1, norm=("INSTANCE", {"affine": True})
    ),
    "UNet, group norm": lambda: nets.UNet(
        3, 1, 3, (4, 8), (2,), num_res_units=1, norm=("GROUP", {"num_groups": 1})
    ),
    "UNet, batch norm": lambda: nets.UNet(3, 1, 3, (4, 8), (2,), num_res_units=1, norm="batch"),
    "UNet, flat": lambda: nets.UNet(3, 1, 3, (4, 8), ((1, 2, 2),), num_res_units=1),
    "UNet, wide kernel": lambda: nets.UNet(
        3, 1, 3, (4, 8), (2,), up_kernel_size=5, num_res_units=1
    ),
    "UNet, plain": lambda: nets.UNet(3, 1, 3, (4, 8), (2,)),
    "DynUNet": lambda: nets.DynUNet(3, 1, 3, [3] * 3, [1, 2, 2], [2, 2], filters=[4, 8, 8]),
    "SegResNet": lambda: nets.SegResNet(3, 8, 1, 3, blocks_down=(1, 1), blocks_up=(1,)),
}
LOCAL = ("UNet, batch norm", "UNet, plain", "DynUNet")
"""Heads in which no voxel depends on the whole tile."""


@pytest.fixture(autouse=True)
def _full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "precision", lambda device: torch.float32)


def network(name: str, hidden: int | None) -> nn.Module:
    torch.manual_seed(0)
    net = NETWORKS[name]()
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm3d):
            nn.init.normal_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.5, 2)
    if hidden is not None:
        net = AdaptedNetwork(net, hidden)
        nn.init.normal_(net.adapter.outer.weight, std=0.1)
    return net.eval()


def tile(axis: int, rows: list[int], seed: int = 0) -> Grid:
    random = np.random.default_rng(seed)
    trusted = np.zeros((SIDE,) * 3, bool)
    np.moveaxis(trusted, axis, 0)[rows] = True
    labels = random.integers(0, 3, trusted.shape).astype(np.uint8)
    return Grid(random.normal(size=trusted.shape).astype(np.float32), labels, trusted)


class Both:
    """The samples of some tiles through the slabs, and their tiles through the head."""

    def __init__(self, net: nn.Module, tiles: list[Grid], folder: Path, **options: int) -> None:
        body, self.head = split_head(net)
        self.tiles = tiles
        self.bank = FeatureBank(body, folder, "ab" * 32)
        self.stored = StoredHead(self.head, self.bank, tiles, **options)
        self.samples = [self.stored.sample(number) for number in range(len(tiles))]
        self.labels, self.trusted = (
            torch.stack([getattr(sample, name) for sample in self.samples])
            for name in ("labels", "trusted")
        )

    def slabs(self) -> torch.Tensor:
        return self.stored(torch.stack([sample.image for sample in self.samples]))

    def whole(self) -> torch.Tensor:
        windows = np.stack([tile.image for tile in self.tiles])[:, None]
        logits: torch.Tensor = self.head(self.bank(torch.from_numpy(windows)))
        return logits

    def difference(self) -> float:
        """Return the greatest difference of a trusted voxel's logits."""
        with torch.no_grad():
            slabs, whole = self.slabs(), self.whole()
        found = 0.0
        for index, tile in enumerate(self.tiles):
            trusted = torch.from_numpy(tile.trusted)
            got, wanted = slabs[index][:, self.trusted[index]], whole[index][:, trusted]
            found = max(found, float((got - wanted).abs().max()))
        return found

    def gradients(self, *, slabs: bool) -> list[torch.Tensor]:
        self.head.zero_grad()
        if slabs:
            loss = trusted_dice_ce(self.slabs(), self.labels, self.trusted)
        else:
            labels, trusted = (
                torch.from_numpy(np.stack([getattr(tile, name) for tile in self.tiles]))
                for name in ("labels", "trusted")
            )
            loss = trusted_dice_ce(self.whole(), labels.long(), trusted)
        loss.backward()  # type: ignore[no-untyped-call]
        return [value.grad.clone() for value in self.head.parameters() if value.grad is not None]


@pytest.mark.parametrize("hidden", [None, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_at_the_start_slabs_give_the_logits_of_whole_tiles(
    name: str, hidden: int | None, tmp_path: Path
) -> None:
    """Tiles with one slab and with many, at the edges too, along each axis."""
    net = network(name, hidden)
    for axis in range(3):
        tiles = [tile(axis, rows, seed) for seed, rows in enumerate(([0, 9, 10], [23], [4, 17]))]
        both = Both(net, tiles, tmp_path)
        assert not both.stored._cover.whole
        assert both.difference() < 1e-5


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    name=st.sampled_from(sorted(NETWORKS)),
    axis=st.integers(0, 2),
    rows=st.lists(
        st.lists(st.integers(0, SIDE - 1), min_size=1, max_size=6), min_size=1, max_size=3
    ),
)
def test_whichever_rows_are_trusted(
    name: str, axis: int, rows: list[list[int]], tmp_path: Path
) -> None:
    tiles = [tile(axis, one, seed) for seed, one in enumerate(rows)]
    both = Both(network(name, 2), tiles, tmp_path / name)
    assert both.difference() < 1e-5


@pytest.mark.parametrize("name", LOCAL)
def test_without_moments_of_a_tile_they_stay_exact_and_so_are_the_gradients(
    name: str, tmp_path: Path
) -> None:
    net = network(name, 3)
    both = Both(net, [tile(0, [3, 4, 19]), tile(0, [8], 1)], tmp_path)
    for value in both.head.parameters():
        value.data += 0.1 * torch.randn_like(value)
    assert both.difference() < 1e-5
    for mine, other in zip(both.gradients(slabs=True), both.gradients(slabs=False), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", sorted(set(NETWORKS) - {"SegResNet", *LOCAL}))
def test_the_moments_of_a_tile_follow_the_weights(name: str, tmp_path: Path) -> None:
    """A normalisation undoes any scale and shift before it; stale moments would not."""
    net = network(name, None)
    both = Both(net, [tile(0, [3, 4, 19]), tile(0, [8], 1)], tmp_path)
    assert both.difference() < 1e-5
    with torch.no_grad():
        before = both.slabs()
        layer = next(m for m in both.head.modules() if isinstance(m, nn.ConvTranspose3d))
        layer.weight *= 3
        layer.bias *= 3
        layer.bias += 5
        after = both.slabs()
    assert both.difference() < 1e-4
    assert torch.allclose(before, after, atol=1e-3)


def test_untrusted_rows_of_a_sample_get_no_gradient(tmp_path: Path) -> None:
    """The tile with fewer slabs is filled up, and the filling is nobody's label."""
    both = Both(network("UNet", 3), [tile(0, [0, 9, 18]), tile(0, [5], 1)], tmp_path)
    logits = both.slabs().detach().requires_grad_()
    trusted_dice_ce(logits, both.labels, both.trusted).backward()
    assert logits.grad is not None
    assert not logits.grad.movedim(1, -1)[~both.trusted].any()
    assert logits.grad.movedim(1, -1)[both.trusted].any()


def test_with_no_memory_they_are_the_same(tmp_path: Path) -> None:
    net, tiles = network("UNet", 3), [tile(0, [3, 19]), tile(0, [8], 1)]
    with torch.no_grad():
        kept = Both(net, tiles, tmp_path)
        first = [kept.slabs() for _ in range(2)]
        bare = Both(net, tiles, tmp_path, memory=0)
        second = [bare.slabs() for _ in range(2)]
    assert all(torch.equal(one, first[0]) for one in first + second)
    assert len(kept.stored._kept) == 2
    assert not bare.stored._kept


def test_a_head_that_is_not_known_here_is_taught_on_whole_tiles(tmp_path: Path) -> None:
    net = network("UNet", None)
    net.model[2] = nn.Sequential(net.model[2], nn.Upsample(scale_factor=1))
    with pytest.raises(Unsupported):
        halo(net.model[2], feature_channels(network("UNet", None)), 0, 2)
    both = Both(net, [tile(0, [3]), tile(1, [8], 1)], tmp_path)
    assert both.stored._cover.whole
    assert both.difference() == 0


def test_trusted_voxels_everywhere_are_taught_on_whole_tiles(tmp_path: Path) -> None:
    both = Both(network("UNet", 3), [tile(0, list(range(SIDE)))], tmp_path)
    assert both.stored._cover.whole
    assert both.difference() == 0


@given(st.data())
def test_a_cover_holds_every_trusted_voxel_once_and_nothing_else(data: st.DataObject) -> None:
    shape = (8, 8, 8)
    tiles = []
    for _ in range(data.draw(st.integers(1, 3))):
        seed, share = data.draw(st.integers(0, 99)), data.draw(st.sampled_from([0.004, 0.1, 0.9]))
        trusted = np.random.default_rng(seed).random(shape) < share
        trusted[seed % 8] |= data.draw(st.booleans())
        trusted.flat[seed] = True
        labels = np.arange(512, dtype=np.uint16).reshape(shape)
        tiles.append(Grid(np.zeros(shape, np.float32), labels.astype(np.uint8), trusted))
    cover = Cover.best(nn.Conv3d(2, 3, 3, padding=1).eval(), (2, *shape), tiles)
    sizes = set()
    for number, one in enumerate(tiles):
        sample = cover.sample(number, one)
        sizes.add(sample.labels.shape)
        found = np.sort(sample.labels[sample.trusted].numpy())
        assert np.array_equal(found, np.sort(one.labels[one.trusted]))
        assert cover.share(number).sum() == pytest.approx(1)
    assert len(sizes) == 1, "samples of one feed must stack"
