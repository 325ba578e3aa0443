"""Teaching a T1 model the T2 of a head from five corrected slices.

Real jobs in real job folders. All recipes take the same number of steps and look at the
exam slices as often. Seconds are those of the steps and their checkpoints.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.heads import head, mean_dice, model_path
from benchmarks.pairs import Result, Row
from napari_dante.adapt.method import prepare
from napari_dante.adapt.recipe import EncoderLoRA, FullFineTuning, GradualUnfreezing, LoRA, Recipe
from napari_dante.adapt.training import Training
from napari_dante.jobs.events import Failed, Progress, Started, Validated
from napari_dante.jobs.folder import CaseData, create_job
from napari_dante.jobs.run import run_job
from napari_dante.model.file import Lineage, Model, read_model, write_model
from napari_dante.model.network import build_network
from napari_dante.model.segmenter import Segmenter

__all__ = ["NAMES", "SLICES", "run"]

SLICES = [25, 35, 45, 55, 65]
NAMES = {1: "CSF", 2: "grey matter", 3: "white matter"}
FULL, SCRATCH = "full fine-tuning", "from scratch"
RECIPES: dict[str, Recipe] = {
    FULL: FullFineTuning(),
    "LoRA": LoRA(),
    "LoRA, rank 3": LoRA(rank=3),
    "LoRA and whole decoder": EncoderLoRA(),
    "gradual unfreezing": GradualUnfreezing(),
    SCRATCH: FullFineTuning(),
}


@dataclass(frozen=True)
class Lesson:
    """One job.

    Attributes
    ----------
    dice
        Mean Dice on the slices that nobody corrected.
    seconds
        Processor seconds of all training steps.
    curve
        Seconds of training and exam Dice, at every look at the exam.
    """

    dice: float
    seconds: float
    curve: list[tuple[float, float]]

    @property
    def looks_to_85(self) -> int:
        """How many looks at the exam it took to reach 85 % of the highest Dice of all."""
        scores = [found for _, found in self.curve]
        return next(n for n, found in enumerate(scores) if found >= 0.85 * max(scores))

    def seconds_until(self, score: float) -> float | None:
        """Return the seconds of training until the exam Dice reached `score`, or None."""
        return next((seconds for seconds, found in self.curve if found >= score), None)


def run(quick: bool) -> Result:
    """Teach with every recipe and seed, the recipes in turn."""
    torch.set_num_threads(1)
    seeds = range(1 if quick else 3)
    training = Training(steps=60 if quick else 120, check_every=5, patience=1000, device="cpu")
    found: dict[str, list[Lesson]] = {name: [] for name in RECIPES}
    for seed in seeds:
        names = list(RECIPES)
        for name in names[seed:] + names[:seed]:
            found[name].append(_teach(name, replace(training, seed=seed)))
    data: dict[str, Any] = {
        name: {
            "trained share": trained_share(RECIPES[name]),
            **_summary(lessons, found[FULL], found[SCRATCH]),
        }
        for name, lessons in found.items()
    }
    case = f"{training.steps} steps, {len(seeds)} seed{'s' * (len(seeds) > 1)}"
    return Result(data, [Row(case, name, _text(figures)) for name, figures in data.items()])


def trained_share(recipe: Recipe) -> float:
    """Return how much of the network's weights a recipe changes, counted as it trains them."""
    network = Segmenter.from_file(model_path(), "cpu").network
    whole = sum(parameter.numel() for parameter in network.parameters())
    groups = prepare(network, recipe).groups
    return sum(parameter.numel() for group in groups for parameter in group) / whole


def _teach(name: str, training: Training) -> Lesson:
    image, tissue, spacing = head("t2")
    trusted = np.zeros(len(image), bool)
    trusted[SLICES] = True
    with tempfile.TemporaryDirectory() as folder:
        model = model_path()
        if name == SCRATCH:
            model = Path(folder) / "fresh.safetensors"
            _write_fresh(model, training.seed)
        job = create_job(
            Path(folder) / "job",
            model,
            [CaseData(image, tissue, NAMES, spacing, 0, trusted)],
            _with(RECIPES[name], training),
        )
        seconds, curve = _follow(job.path)
        dice = mean_dice(job.mask("after")[~trusted], tissue[~trusted])
    return Lesson(dice, seconds, curve)


def _with(recipe: Recipe, training: Training) -> Recipe:
    """Return a recipe with its own learning rate and everything else of `training`."""
    rate = recipe.training.learning_rate
    return replace(recipe, training=replace(training, learning_rate=rate))


def _follow(path: Path) -> tuple[float, list[tuple[float, float]]]:
    """Run a job; return the seconds of its steps, and the exam Dice along them."""
    seconds, last = 0.0, 0.0
    curve: list[tuple[float, float]] = []
    for event in run_job(path):
        now = time.process_time()
        match event:
            case Progress():
                seconds += now - last
            case Validated():
                curve.append((seconds, event.mean))
            case Started():
                curve.append((0.0, event.dice or 0.0))
            case Failed():
                raise RuntimeError(event.sentence)
        last = time.process_time()
    return seconds, curve


def _write_fresh(path: Path, seed: int) -> None:
    """Write the shipped network with fresh weights."""
    spec = read_model(model_path()).spec
    torch.manual_seed(seed)
    weights = {key: value.numpy() for key, value in build_network(spec).state_dict().items()}
    write_model(path, Model(spec, weights, Lineage("fresh", "fresh")))


def _summary(lessons: list[Lesson], full: list[Lesson], scratch: list[Lesson]) -> dict[str, Any]:
    dice = [lesson.dice for lesson in lessons]
    goals = [0.95 * other.curve[-1][1] for other in full]
    reached = [lesson.seconds_until(goal) for lesson, goal in zip(lessons, goals, strict=True)]
    theirs = [other.seconds_until(goal) for other, goal in zip(full, goals, strict=True)]
    return {
        "dice": dice,
        "dice mean": statistics.mean(dice),
        "dice sd": statistics.stdev(dice) if len(dice) > 1 else None,
        "seconds": statistics.median(lesson.seconds for lesson in lessons),
        "seconds / full fine-tuning": statistics.median(
            mine.seconds / other.seconds for mine, other in zip(lessons, full, strict=True)
        ),
        "seconds to 95 %": reached,
        "seconds to 95 % of full fine-tuning": theirs,
        "steps to 85 % of its own best / from scratch": statistics.median(
            mine.looks_to_85 / max(1, other.looks_to_85)
            for mine, other in zip(lessons, scratch, strict=True)
        ),
        "curves": [lesson.curve for lesson in lessons],
    }


def _text(figures: dict[str, Any]) -> str:
    spread = "" if figures["dice sd"] is None else f" ± {figures['dice sd']:.3f}"
    reached = [seconds for seconds in figures["seconds to 95 %"] if seconds is not None]
    pairs = zip(
        figures["seconds to 95 %"], figures["seconds to 95 % of full fine-tuning"], strict=True
    )
    ratios = [mine / other for mine, other in pairs if mine is not None and other]
    share = f"{statistics.median(ratios):.2f}x full fine-tuning" if ratios else "never"
    return (
        f"{figures['trained share']:.1%} trained; Dice {figures['dice mean']:.3f}{spread}; "
        f"time {figures['seconds / full fine-tuning']:.2f}x full fine-tuning; "
        f"time to 95 % of its exam Dice {share} "
        f"(reached by {len(reached)} of {len(figures['dice'])}); 85 % of its own best after "
        f"{figures['steps to 85 % of its own best / from scratch']:.2f}x the steps of from-scratch"
    )
