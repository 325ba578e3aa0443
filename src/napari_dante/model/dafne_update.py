"""Other weights in a ``.model`` file whose code is left alone."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from napari_dante.errors import ModelError, TeachError
from napari_dante.model.dafne import DafneModel, check_same_weights

__all__ = ["same_but_weights", "with_weights"]

_CARRIED = ("model_id", "kind", "dimensionality", "is_delta", "sources", "metadata", "extra")


def with_weights(base: DafneModel, weights: Mapping[str, torch.Tensor]) -> DafneModel:
    """Return `base` with other weights and a later time, every other entry as it was.

    Raises
    ------
    ModelError
        If the weights are not of the layout of `base`, or not finite.
    TeachError
        If they are those of `base`.
    """
    check_same_weights(base.weights, weights)
    ordered = {key: weights[key] for key in base.weights}
    if not all(bool(torch.isfinite(value).all()) for value in ordered.values()):
        raise ModelError("What was learned holds numbers that are not finite; nothing changed.")
    if all(
        torch.equal(value.to(ordered[key].dtype), ordered[key])
        for key, value in base.weights.items()
    ):
        raise TeachError("The code of this model learned nothing from these slices.")
    return replace(base, weights=ordered, timestamp=max(int(time.time()), base.timestamp + 1))


def same_but_weights(one: DafneModel, other: DafneModel) -> bool:
    """Tell whether two models differ in their weights and their time, and in nothing else.

    That is more than the same code: code may read its metadata too.
    """
    return all(_same(getattr(one, name), getattr(other, name)) for name in _CARRIED)


def _same(one: Any, other: Any) -> bool:  # noqa: ANN401
    """Tell whether two plain values are equal in type, order and every bit."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return _same(list(one.items()), list(other.items()))
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, torch.Tensor):
        return _same(one.numpy(), other.numpy())
    if isinstance(one, np.ndarray):
        alike = one.dtype == other.dtype and one.shape == other.shape
        return bool(alike and one.tobytes() == other.tobytes())
    return bool(one == other) or repr(one) == repr(other)
