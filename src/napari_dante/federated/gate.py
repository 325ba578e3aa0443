"""Whether a model is fit to be shared: one light for each condition. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from napari_dante.model.file import Model

__all__ = ["Light", "fit_to_share", "judge"]

_VERDICTS = {
    "better": "The exam says that it is better than before.",
    "no difference": "The exam sees no difference to the version before.",
    "worse": "The exam says that it is worse than before.",
    "not enough data": "There were not enough examined slices to say that it is better.",
    None: "It has not been examined.",
}


@dataclass(frozen=True)
class Light:
    """One condition for sharing.

    Attributes
    ----------
    name
        ``"weights"``, ``"layout"`` or ``"exam"``.
    ok
        Whether it is met.
    sentence
        What was found, for a clinician.
    """

    name: str
    ok: bool
    sentence: str


def judge(candidate: Model, base: Model | None, verdict: str | None) -> tuple[Light, ...]:
    """Return the lights for sharing `candidate`.

    Parameters
    ----------
    candidate
        The model that shall be shared.
    base
        The version on the server that it would be averaged with; what was not compared
        is not fit.
    verdict
        Of the exam: ``"better"``, ``"no difference"``, ``"worse"``,
        ``"not enough data"``, or None when there was none.
    """
    return (_finite(candidate), _same_layout(candidate, base), _exam(verdict))


def fit_to_share(lights: Iterable[Light]) -> bool:
    """Tell whether every light is green."""
    return all(light.ok for light in lights)


def _finite(candidate: Model) -> Light:
    if all(np.isfinite(value).all() for value in candidate.weights.values()):
        return Light("weights", True, "Every number in the model is finite.")
    return Light("weights", False, "The model holds numbers that are not finite; training failed.")


def _same_layout(candidate: Model, base: Model | None) -> Light:
    if base is None:
        sentence = "It has not been compared with the version on the server."
    elif candidate.lineage.model_id != base.lineage.model_id:
        sentence = "The model on the server is another model, not a version of this one."
    elif _shapes(candidate) != _shapes(base):
        sentence = "Its layout differs from that of the version on the server."
    else:
        return Light("layout", True, "It fits the version on the server.")
    return Light("layout", False, sentence)


def _shapes(model: Model) -> dict[str, tuple[int, ...]]:
    return {key: value.shape for key, value in model.weights.items()}


def _exam(verdict: str | None) -> Light:
    return Light("exam", verdict == "better", _VERDICTS[verdict])
