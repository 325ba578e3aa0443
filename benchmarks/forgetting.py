"""What a model forgets of T1 when it is taught a T2, and what each remedy costs.

Real jobs in real job folders, from five corrected slices of the average T2 head, none of
them set aside. The old contrast is measured on a T1 head that is neither rehearsed nor
was trained on (CSI3, where it is on this machine), and on the slices of the rehearsed
heads that are not rehearsed. Interpolation is half way between the weights.
"""

from __future__ import annotations

import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.heads import Head, head, mean_dice, model_path, patient
from benchmarks.pairs import Result, Row
from benchmarks.teaching import NAMES, SLICES
from napari_dante.adapt.mix import mixed
from napari_dante.adapt.recipe import (
    Adapter,
    Auto,
    EncoderLoRA,
    FullFineTuning,
    GradualUnfreezing,
    LoRA,
    Recipe,
)
from napari_dante.errors import VolumeError
from napari_dante.jobs.earlier import EarlierCase, dice
from napari_dante.jobs.events import Failed
from napari_dante.jobs.folder import CaseData, JobFolder, create_job
from napari_dante.jobs.rehearsal import rehearsal
from napari_dante.jobs.run import run_job
from napari_dante.model.file import Model, read_model
from napari_dante.model.segmenter import Segmenter

__all__ = ["run"]

PLAIN, DEFAULT, BEFORE = (
    "full fine-tuning, no remedy",
    "automatic (LoRA and whole decoder, replay)",
    "before",
)
CPU = torch.device("cpu")


def _with(recipe: Recipe, **changes: float) -> Recipe:
    return replace(recipe, training=replace(recipe.training, **changes))  # type: ignore[arg-type]


LESSONS: dict[str, Recipe] = {
    PLAIN: _with(FullFineTuning(), replay=0),
    DEFAULT: Auto(),
    "full fine-tuning, replay": FullFineTuning(),
    "full fine-tuning, distillation": _with(FullFineTuning(), replay=0, distillation=0.3),
    "LoRA, no remedy": _with(LoRA(), replay=0),
    "LoRA, distillation": _with(LoRA(), replay=0, distillation=0.3),
    "gradual unfreezing, no remedy": _with(GradualUnfreezing(), replay=0),
    "gradual unfreezing, replay": GradualUnfreezing(),
    "LoRA and whole decoder, no remedy": _with(EncoderLoRA(), replay=0),
    "LoRA, replay": LoRA(),
    "black-box adapter": Adapter(),
}
QUICK = (PLAIN, DEFAULT)


def run(quick: bool) -> Result:
    """Teach with every recipe and remedy; say what is left of the old contrast."""
    torch.set_num_threads(1)
    seeds = range(1 if quick else 3)
    names = QUICK if quick else tuple(LESSONS)
    heads = _Heads()
    found: dict[str, list[dict[str, float]]] = {BEFORE: [heads.scores(read_model(model_path()))]}
    for seed in seeds:
        for name in names:
            old, new = _teach(_with(LESSONS[name], seed=seed))
            found.setdefault(name, []).append(heads.scores(new))
            if name in (PLAIN, DEFAULT) and old.spec == new.spec:
                half = heads.scores(mixed(old, new, 0.5))
                found.setdefault(f"{name}, half interpolated", []).append(half)
    data: dict[str, Any] = {name: _summary(scores) for name, scores in found.items()}
    rows = [
        Row("T1 to T2", name, _text(figures, data[BEFORE], data[PLAIN]))
        for name, figures in data.items()
    ]
    return Result(data, rows)


class _Heads:
    """The new contrast, and the old one on heads that were learned and that never were."""

    def __init__(self) -> None:
        self._new = head("t2")
        self._rehearsed = rehearsal(model_path())
        try:
            self._stranger: Head | None = patient()
        except VolumeError:
            self._stranger = None

    def scores(self, model: Model) -> dict[str, float]:
        """Return the mean Dice by contrast."""
        segmenter = Segmenter(model, CPU)
        image, tissue, spacing = self._new
        others = [index for index in range(len(image)) if index not in SLICES]
        mask = segmenter.predict(image, spacing)
        earlier = [EarlierCase.of(case, model.spec) for case in self._rehearsed]
        known = [score for one in dice(earlier, segmenter.network) for score in one.values()]
        scores = {"new": mean_dice(mask[others], tissue[others]), "known": float(np.mean(known))}
        if self._stranger is not None:
            image, tissue, spacing = self._stranger
            scores["stranger"] = mean_dice(segmenter.predict(image, spacing), tissue)
        return scores


def _teach(recipe: Recipe) -> tuple[Model, Model]:
    """Return the model before and after a lesson."""
    image, tissue, spacing = head("t2")
    trusted = np.zeros(len(image), bool)
    trusted[SLICES] = True
    case = CaseData(image, tissue, NAMES, spacing, 0, trusted)
    with tempfile.TemporaryDirectory() as folder:
        job: JobFolder = create_job(
            Path(folder) / "job",
            model_path(),
            [case],
            recipe,
            exam_fraction=0.0,
            earlier=rehearsal(model_path()),
        )
        for event in run_job(job.path):
            if isinstance(event, Failed):
                raise RuntimeError(event.sentence)
        return read_model(job.base), read_model(job.candidate)


def _summary(scores: list[dict[str, float]]) -> dict[str, Any]:
    return {
        key: {
            "mean": statistics.mean(one[key] for one in scores),
            "sd": statistics.stdev(one[key] for one in scores) if len(scores) > 1 else None,
        }
        for key in scores[0]
    }


def _text(figures: dict[str, Any], before: dict[str, Any], plain: dict[str, Any]) -> str:
    parts = []
    titles = {"new": "T2", "known": "T1 rehearsed heads", "stranger": "T1 CSI3"}
    for key, title in titles.items():
        if key not in figures:
            continue
        mean, spread = figures[key]["mean"], figures[key]["sd"]
        text = f"{title} {mean:.3f}" + (f" ± {spread:.3f}" if spread is not None else "")
        if key != "new" and figures is not before:
            lost, worst = before[key]["mean"] - mean, before[key]["mean"] - plain[key]["mean"]
            text += f" (lost {lost:.3f}, {lost / worst:.2f}x of plain)"
        parts.append(text)
    return "; ".join(parts)
