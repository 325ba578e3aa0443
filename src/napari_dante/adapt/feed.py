"""What a recipe draws, and through which part of the network it goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from napari_dante.adapt.features import FeatureBank
from napari_dante.adapt.patches import Grid, Patch, PatchSampler
from napari_dante.adapt.recipe import Adapter, Recipe
from napari_dante.adapt.stored import StoredHead
from napari_dante.adapt.tiles import TileSampler, tiles
from napari_dante.model.file import Lineage, Model
from napari_dante.model.head import split_head
from napari_dante.model.network import build_network, load_weights
from napari_dante.model.spec import ArchitectureSpec

__all__ = ["Feed", "feed", "fresh_model", "starting_model"]

NARROW = 16


@dataclass(frozen=True)
class Feed:
    """Samples and the way from them, and from an image, to logits.

    Attributes
    ----------
    draw
        Returns sample `number`.
    forward
        From a batch of samples to logits.
    whole
        From a batch of image windows to logits, with the weights of `forward`.
    rehearse
        Returns sample `number` of earlier cases, or is None.
    """

    draw: Callable[[int], Patch]
    forward: Callable[[torch.Tensor], torch.Tensor]
    whole: nn.Module
    rehearse: Callable[[int], Patch] | None = None


def feed(
    network: nn.Module,
    recipe: Recipe,
    grids: Sequence[Grid],
    patch: tuple[int, int, int],
    features: Path,
    base: str,
    earlier: Sequence[Grid] = (),
) -> Feed:
    """Return what `recipe` teaches `network` with.

    Parameters
    ----------
    network
        On its device.
    recipe
        Augmented patches through the network, or, for an adapter, stored features
        through the end of it.
    grids, patch
        Cases on the network's grid; patch in voxels (z, y, x).
    features, base
        Folder for stored features, and SHA-256 of the model file that they belong to.
    earlier
        Cases to rehearse; an adapter, whose features would fill the disk, does without.
    """
    training = recipe.training
    _narrow_channels_last(network)
    if not isinstance(recipe, Adapter):
        new, old = (
            PatchSampler(cases, patch, training.augmentation, training.seed, earlier=again)
            for cases, again in ((grids, False), (earlier, True))
        )
        return Feed(new.draw, network, network, old.draw if earlier else None)
    body, head = split_head(network)
    bank = FeatureBank(body, features, base)
    stored = StoredHead(head, bank, [tile for grid in grids for tile in tiles(grid, patch)])
    draw = TileSampler(stored.sample, len(stored), training.seed).draw
    return Feed(draw, stored, nn.Sequential(bank, head))


def _narrow_channels_last(network: nn.Module) -> None:
    """Let narrow convolutions run channels-last on a processor.

    oneDNN fills channels up to sixteen in its own layout: teaching a layer of four at full
    resolution, as a U-Net ends with, takes three times as long as it does so.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv3d) and layer.weight.device.type == "cpu":
            width = layer.weight.shape[:2]
            if min(width) > 1 and max(width) < NARROW:
                layer.weight.data = layer.weight.data.to(memory_format=torch.channels_last_3d)


def starting_model(base: Model, recipe: Recipe) -> Model:
    """Return the model that a lesson starts from: `base`, with an adapter if need be.

    It predicts what `base` predicts.

    Raises
    ------
    ModelError
        If the network of `base` takes no adapter.
    """
    if not isinstance(recipe, Adapter) or recipe.linear_probe or base.spec.adapter is not None:
        return base
    spec = replace(base.spec, adapter=recipe.hidden)
    network = _fresh(spec, recipe.training.seed)
    weights = {key: torch.from_numpy(value) for key, value in base.weights.items()}
    load_weights(network.get_submodule("base"), weights)
    state = {key: value.numpy() for key, value in network.state_dict().items()}
    return Model(spec, state, base.lineage)


def fresh_model(spec: ArchitectureSpec, lineage: Lineage, seed: int) -> Model:
    """Return a model that has learned nothing; the same seed gives the same weights."""
    state = {key: value.numpy() for key, value in _fresh(spec, seed).state_dict().items()}
    return Model(spec, state, lineage)


def _fresh(spec: ArchitectureSpec, seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build_network(spec)
