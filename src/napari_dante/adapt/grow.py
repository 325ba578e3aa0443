"""A head that grows: new structures beside old ones, which keep their logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from napari_dante.errors import ModelError
from napari_dante.model.file import Model
from napari_dante.model.head import AdaptedNetwork, split_head
from napari_dante.model.network import build_network
from napari_dante.volume import Label

__all__ = ["MARGIN", "grown"]

MARGIN = 1.0
"""How far the logit of a new structure starts below that of the background."""

_CONVS = (nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose2d, nn.ConvTranspose3d)
_PER_CHANNEL = (
    *_CONVS,
    *_TRANSPOSED,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.PReLU,
)


def grown(base: Model, labels: Sequence[Label]) -> Model:
    """Return `base` with further structures that it has yet to learn.

    Every number of `base` is kept, wherever the number of classes shapes a weight: a
    U-Net's residual unit, normalisation and head, the outputs of a ``DynUNet``. What new
    channels feed into old ones starts at zero, so the logits of the background and of the
    old structures stay what they are.

    What was not a structure until now was background. So a new structure starts with the
    background's own weights, a bias lower by `MARGIN`, and the grown model's mask is that
    of `base` (Cermelli et al., CVPR 2020, who share the background's probability evenly;
    the margin keeps it ahead). Random rows would not do: normalisation in a U-Net's head
    brings a new channel to unit deviation however small its weights are.

    Parameters
    ----------
    base
        Any model of ours.
    labels
        The structures to add, behind those of `base`.

    Raises
    ------
    ModelError
        If the last layers of `base` do not keep its structures apart, or it names one of
        `labels` already.
    """
    if not labels:
        return base
    spec = replace(base.spec, labels=(*base.spec.labels, *labels))
    with torch.random.fork_rng():
        network = build_network(spec)
        _check_separable(build_network(base.spec), network)
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    transposed = {
        f"{name}.weight"
        for name, module in network.named_modules(remove_duplicate=False)
        if isinstance(module, _TRANSPOSED)
    }
    weights = {
        key: _grown(value, shapes.get(key, value.shape), axis=int(key in transposed))
        for key, value in base.weights.items()
    }
    for key in _last_biases(network):
        weights[key][base.spec.out_channels :] -= MARGIN
    return replace(base, spec=spec, weights=weights)


def _grown(old: NDArray[Any], shape: tuple[int, ...], axis: int) -> NDArray[Any]:
    """Return `old` enlarged: zeros from new inputs, the background's row for new outputs.

    Parameters
    ----------
    old, shape
        A weight and its new shape.
    axis
        Of the outputs.
    """
    if old.shape == shape:
        return old
    new = np.zeros(shape, old.dtype)
    new[tuple(slice(size) for size in old.shape)] = old
    rows = np.moveaxis(new, axis, 0)
    rows[old.shape[axis] :] = rows[0]
    return new


def _last_biases(network: nn.Module) -> list[str]:
    """Return the keys of the bias that is added to the logits last, if there is one."""
    _, head = split_head(network.base if isinstance(network, AdaptedNetwork) else network)
    *_, last = (module for module in head.modules() if isinstance(module, _CONVS + _TRANSPOSED))
    return [
        f"{name}.bias"
        for name, module in network.named_modules(remove_duplicate=False)
        if module is last and last.bias is not None
    ]


def _check_separable(old: nn.Module, new: nn.Module) -> None:
    """Refuse a network in which a new class would change the logits of the others."""
    for before, after in zip(old.modules(), new.modules(), strict=True):
        if before.extra_repr() != after.extra_repr() and not isinstance(after, _PER_CHANNEL):
            raise ModelError(
                "The last layers of this model do not keep its structures apart, so it cannot "
                "learn a new one beside them; train a model from scratch.",
                detail=repr(after),
            )
