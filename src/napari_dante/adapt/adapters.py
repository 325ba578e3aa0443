"""The change that LoRA made to a network, taken from it and put onto its base again."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from napari_dante.adapt.lora import low_rank_product, named_updates
from napari_dante.adapt.recipe import EncoderLoRA, LoRA, recipe_to_json
from napari_dante.errors import ModelError
from napari_dante.files import sha256
from napari_dante.model.file import Model, read_model
from napari_dante.model.lora_file import LoRAAdapter
from napari_dante.model.low_rank import LowRank
from napari_dante.model.segmenter import Segmenter

__all__ = ["adapted_model", "adapter_of", "add_to", "matching_base"]


def adapter_of(network: nn.Module, recipe: LoRA | EncoderLoRA, base: str) -> LoRAAdapter:
    """Return what `recipe` has added to `network` so far.

    Parameters
    ----------
    network
        As :func:`napari_dante.adapt.method.prepare` has changed it.
    recipe
        How it learns.
    base
        SHA-256 of the model file that the lesson started from.
    """
    tensors = {
        f"{key}.{name}": parameter.detach().cpu().numpy().copy()
        for key, update in named_updates(network)
        for name, parameter in update.named_parameters()
    }
    size = LowRank(
        rank=recipe.rank, alpha=recipe.alpha, scaling=recipe.scaling, layout=recipe.layout
    )
    targets = recipe.targets if isinstance(recipe, LoRA) else ("encoder",)
    return LoRAAdapter(base, size, targets, recipe_to_json(recipe), tensors)


def adapted_model(base: Path, adapter: LoRAAdapter) -> Model:
    """Return the model that the lesson gave, from the file of its base.

    Raises
    ------
    ModelError
        If `base` is not the model that the adapter was made from, or no model at all.
    """
    model, network = matching_base(base, adapter)
    add_to(network, adapter)
    weights = {key: value.numpy() for key, value in network.state_dict().items()}
    return Model(model.spec, weights, model.lineage.child(adapter.base, adapter.recipe, None))


def matching_base(base: Path, adapter: LoRAAdapter) -> tuple[Model, nn.Module]:
    """Return the model that an adapter belongs to, and its network, on the CPU.

    Raises
    ------
    ModelError
        If `base` is another model, or no model at all.
    """
    model = read_model(base)
    if sha256(base) != adapter.base:
        raise ModelError(
            "This adapter was made for another model, or for another version of this one.",
            detail=f"made for {adapter.base}",
        )
    return model, Segmenter(model, torch.device("cpu")).network


def add_to(network: nn.Module, adapter: LoRAAdapter) -> None:
    """Add what `adapter` holds to the weights of `network`, in place.

    Raises
    ------
    ModelError
        If a weight is missing or has another shape.
    """
    state = network.state_dict()
    try:
        for key, (up, down) in adapter.factors.items():
            if up.shape[-2] != state[key].shape[0]:
                raise ValueError(f"{key}: {up.shape}")
            product = low_rank_product(
                torch.from_numpy(up), torch.from_numpy(down), state[key].shape
            )
            state[key] += adapter.size.scale * product
        for key, delta in adapter.deltas.items():
            if delta.shape != state[key].shape:
                raise ValueError(f"{key}: {delta.shape}")
            state[key] += torch.from_numpy(delta)
    except (KeyError, RuntimeError, ValueError, IndexError) as error:
        raise ModelError("This adapter does not fit the model.", detail=repr(error)) from error
