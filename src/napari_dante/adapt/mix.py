"""Models between the old and the new one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dante.errors import ModelError
from napari_dante.model.file import Model

__all__ = ["mixed"]


def mixed(old: Model, new: Model, share: float) -> Model:
    """Return the model whose weights lie between two.

    A way between what was known and what was learned (Wortsman et al., WiSE-FT, CVPR
    2022). It works while both still behave alike inside; after a change of contrast a
    model in the middle can be worse than either, so look at its exam.

    Parameters
    ----------
    old, new
        Versions of one model, with the same network.
    share
        Weight of `new`, 0 to 1; at the ends the weights are exactly those of one model.

    Returns
    -------
    Model
        With the description and lineage of `new`.

    Raises
    ------
    ModelError
        If the networks differ or `share` is out of range.
    """
    if not 0 <= share <= 1:
        raise ModelError("The share of the new model must lie between zero and one.")
    same = old.weights.keys() == new.weights.keys() and all(
        old.weights[key].shape == value.shape for key, value in new.weights.items()
    )
    if not same or old.spec.arguments != new.spec.arguments:
        raise ModelError("Only two versions of the same network can be mixed.")
    weights = {key: _between(old.weights[key], value, share) for key, value in new.weights.items()}
    return replace(new, weights=weights)


def _between(old: NDArray[Any], new: NDArray[Any], share: float) -> NDArray[Any]:
    if share in (0, 1) or not np.issubdtype(new.dtype, np.floating):
        return new if share > 0 else old
    between = (1 - share) * old.astype(np.float64) + share * new.astype(np.float64)
    return between.astype(new.dtype)
