"""Whether a model is fit to be shared: one light for each condition. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from napari_dante.evaluate.report import ExamReport
from napari_dante.model.file import Model

__all__ = ["Light", "fit_to_share", "judge"]

ALLOWED_FALL = 0.01
"""What the mean Dice may fall by and still count as not worse."""

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
        ``"weights"``, ``"layout"``, ``"exam"`` or ``"merged"``.
    ok
        Whether it is met; None where that could not be judged, which hinders nothing.
    sentence
        What was found, for a clinician.
    """

    name: str
    ok: bool | None
    sentence: str


def judge(
    candidate: Model,
    base: Model | None,
    verdict: str | None,
    merged: ExamReport | None = None,
) -> tuple[Light, ...]:
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
    merged
        The exam of what the server would make of the two, against its present version;
        None where there is no case here to examine it on.
    """
    return (
        _finite(candidate),
        _same_layout(candidate, base),
        _exam(verdict),
        _merged(merged),
    )


def fit_to_share(lights: Iterable[Light]) -> bool:
    """Tell whether no light is red."""
    return all(light.ok is not False for light in lights)


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


def _merged(report: ExamReport | None) -> Light:
    before, after = (
        (None, None) if report is None else (report.mean("before"), report.mean("after"))
    )
    if report is None or before is None or after is None:
        sentence = "What the server would make of it was not examined: no corrected slice is open."
        return Light("merged", None, sentence)
    slices = "1 exam slice" if len(report.exam) == 1 else f"{len(report.exam)} exam slices"
    numbers = f"mean Dice {before:.2f} → {after:.2f} on {slices}"
    if report.verdict == "worse" or after < before - ALLOWED_FALL:
        return Light("merged", False, f"Merged into the server's version it is worse: {numbers}.")
    return Light("merged", True, f"Merged into the server's version it is not worse: {numbers}.")
