"""What a Dafne server makes of an update, and the proof that a version came about so.

Both servers of Dafne (the one in Python and the one in PHP with its merge client) leave the
arithmetic to dafne-dl, which takes every step through a network: a product or a sum is
rounded to the type of the network's tensor before the next one. So the result can be
foretold to the last bit, and a version that a server shows can be checked by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from napari_dante.model.dafne import read_dafne

__all__ = ["ORIGINAL_WEIGHT", "Proof", "average", "prove", "prove_files", "simulate"]

ORIGINAL_WEIGHT = 0.5
"""Share of its present version that a Dafne server keeps, unless its owner says otherwise."""

Weights = Mapping[str, torch.Tensor]
_DIGITS = range(1, 5)
_ROUNDING = 4 * torch.finfo(torch.float32).eps
_LEAST_SHARE = 1e-4


@dataclass(frozen=True)
class Proof:
    """Whether an update is part of a version.

    Attributes
    ----------
    share
        Of the update in the version: 0.5 for Dafne's usual average. None: it is not part
        of it.
    exact
        Whether every number agrees to the last bit; else to the rounding of float32, as
        when a server averages with a share that is no short decimal.
    """

    share: float | None
    exact: bool = False


def simulate(
    old: Weights, new: Weights, weight: float = ORIGINAL_WEIGHT
) -> dict[str, torch.Tensor]:
    """Return what a server makes of its version `old` and the update `new`.

    Each tensor becomes ``cast(old * W) + cast(new * (1 - W))`` in the type of the network:
    half-precision numbers in a file were widened to float32 when the network was loaded,
    whole numbers are cut off towards zero at each step.

    Parameters
    ----------
    old, new
        CPU tensors by state-dict key; the same keys and shapes.
    weight
        W, the share of `old`.
    """
    return average({key: value.to(_network_type(value)) for key, value in old.items()}, new, weight)


def _network_type(value: torch.Tensor) -> torch.dtype:
    small = value.dtype in (torch.float16, torch.bfloat16)
    return torch.float32 if small else value.dtype


def average(old: Weights, new: Weights, weight: float) -> dict[str, torch.Tensor]:
    """Return ``weight`` parts of `old` and ``1 - weight`` of `new`, in the types of `old`.

    Each product is rounded to the tensor's type before the sum (whole numbers towards
    zero), as in a Dafne server, where every step passes through a network. With
    ``weight = 0.5`` this is Dafne's merge bit for bit, so that a client can prove that its
    update went in.
    """
    return {
        key: (value * weight).to(value.dtype)
        + (new[key].to(value.dtype) * (1 - weight)).to(value.dtype)
        for key, value in old.items()
    }


def prove(old: Weights, update: Weights, after: Weights) -> Proof | None:
    """Look whether `after` is an average of `old` and `update`.

    The share is that of the usual average, or else the one that fits best (least squares
    over all numbers), which must then explain every single number.

    Parameters
    ----------
    old
        The server's version that it was averaged with.
    update
        What was sent.
    after
        A later version.

    Returns
    -------
    Proof or None
        None where nothing can be said: `update` and `old` are the same numbers.
    """
    if not _shapes(old) == _shapes(update) == _shapes(after):
        return Proof(None)
    if _is_average(old, update, after, ORIGINAL_WEIGHT):
        return None if _is_average(old, old, after, ORIGINAL_WEIGHT) else Proof(0.5, exact=True)
    share = _best_share(old, update, after)
    if share is None:
        return None
    if not _LEAST_SHARE <= share <= 1 + _ROUNDING:
        return Proof(None)
    for weight in {round(1 - share, digits) for digits in _DIGITS}:
        if _is_average(old, update, after, weight):
            return Proof(1 - weight, exact=True)
    return Proof(share if _explains(old, update, after, share) else None)


def _shapes(weights: Weights) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in weights.items()}


def _is_average(old: Weights, update: Weights, after: Weights, weight: float) -> bool:
    expected = average(
        {key: old[key].to(value.dtype) for key, value in after.items()}, update, weight
    )
    return all(torch.equal(expected[key], value) for key, value in after.items())


def _best_share(old: Weights, update: Weights, after: Weights) -> float | None:
    """Return s that brings ``old + s (update - old)`` closest to `after`."""
    along = length = 0.0
    for key, value in after.items():
        if value.is_floating_point():
            step = update[key].double() - old[key].double()
            along += float((step * (value.double() - old[key].double())).sum())
            length += float(step.square().sum())
    return along / length if length > 0 else None


def _explains(old: Weights, update: Weights, after: Weights, share: float) -> bool:
    for key, value in after.items():
        if not value.is_floating_point():
            continue
        first, second = old[key].double(), update[key].double()
        error = (first + share * (second - first) - value.double()).abs()
        if not bool((error <= _ROUNDING * torch.maximum(first.abs(), second.abs())).all()):
            return False
    return True


def prove_files(old: Path, update: Path, after: Path) -> tuple[float | None, bool] | None:
    """Look whether the ``.model`` file `after` holds `update`, averaged with `old`.

    Returns
    -------
    tuple or None
        The share of `update` (None: it is not part of it), and whether to the last bit.
        None where nothing can be said.

    Raises
    ------
    ModelError
        If a file cannot be read.
    """
    proof = prove(*(read_dafne(path).weights for path in (old, update, after)))
    return None if proof is None else (proof.share, proof.exact)
