"""The black-box adapter: an epoch, and a lesson until it is nearly as good as it gets.

The task is that of ``benchmarks.teaching``. The opponent is LoRA as Dante describes it, in
full precision and at Dante's learning rate, in the same training loop on the same patches.
An epoch of the adapter takes every tile once, with its features in the store; the others
take as many patches, unaugmented. In a lesson, computing the features counts.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import process_time
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn

from benchmarks.heads import head, mean_dice, model_path
from benchmarks.opponents import wrap_two_pass
from benchmarks.pairs import Result, Row, in_turn, ratio, rounds
from benchmarks.prediction import full_precision
from benchmarks.teaching import FULL, SLICES
from napari_dante.adapt import loop
from napari_dante.adapt.data import to_grid
from napari_dante.adapt.events import Progress, Validated
from napari_dante.adapt.feed import Feed, feed, starting_model
from napari_dante.adapt.method import Plan
from napari_dante.adapt.monitor import Monitor
from napari_dante.adapt.patches import Grid, PatchSampler
from napari_dante.adapt.recipe import Adapter, GradualUnfreezing, LoRA, Recipe
from napari_dante.adapt.tiles import tiles
from napari_dante.adapt.training import Training
from napari_dante.evaluate.split import Split, split_slices
from napari_dante.model.file import read_model
from napari_dante.model.segmenter import Segmenter

__all__ = ["run"]

ADAPTER, DANTE = "black-box adapter", "two-pass per-tap LoRA (Dante's)"
RECIPES: dict[str, Recipe] = {
    DANTE: LoRA(training=Training(learning_rate=1e-3)),
    FULL: GradualUnfreezing(start=1.0, decay=1.0),
    "LoRA": LoRA(),
    ADAPTER: Adapter(),
    "linear probe": Adapter(linear_probe=True),
}
RATIO = "seconds to 95 % of its own / Dante's"
CPU = torch.device("cpu")


class Taught:
    """A lesson that goes step by step.

    Attributes
    ----------
    curve
        Processor seconds of training and exam Dice, at every look at the exam.
    seconds
        Of all steps so far.
    """

    def __init__(self, name: str, training: Training, folder: Path) -> None:
        recipe = replace(RECIPES[name], training=training)
        self._name = name
        self._segmenter = Segmenter(starting_model(read_model(model_path()), recipe), CPU)
        network, spec = self._segmenter.network, self._segmenter.spec
        grids = (grid(_split().learn), grid(_split().exam))
        with _manner(name):
            if name == DANTE:
                draw = PatchSampler(
                    [grids[0]], spec.patch, training.augmentation, training.seed
                ).draw
                food = Feed(draw, network, network)
            else:
                food = feed(network, recipe, [grids[0]], spec.patch, folder / "features", "0" * 64)
            monitor = Monitor(grids[1], spec, 0)
            self._events = loop.Lesson(
                network,
                recipe,
                draw=food.draw,
                forward=food.forward,
                examine=lambda: monitor.look(food.whole),
                save_best=lambda weights: None,
                checkpoint=folder / "last.pt",
                poll=lambda wait: None,
            ).run()
        self.seconds = 0.0
        self.curve = [(0.0, monitor.look(food.whole).mean)]

    def go(self, steps: int) -> None:
        """Do so many steps, and look at the exam where it is time."""
        with _manner(self._name):
            begin = process_time()
            for event in self._events:
                match event:
                    case Progress():
                        self.seconds += process_time() - begin
                        steps -= 1
                    case Validated():
                        self.curve.append((self.seconds, event.mean))
                if steps == 0:
                    return
                begin = process_time()

    def until(self, share: float) -> float:
        """Return the seconds until the exam Dice reached this share of the last one."""
        goal = share * self.curve[-1][1]
        return next(seconds for seconds, dice in self.curve if dice >= goal)

    def dice(self) -> float:
        """Return the mean Dice on the slices that nobody corrected."""
        image, tissue, spacing = head("t2")
        free = np.ones(len(image), bool)
        free[SLICES] = False
        return mean_dice(self._segmenter.predict(image, spacing)[free], tissue[free])


@contextmanager
def _manner(name: str) -> Iterator[None]:
    """Let what happens inside happen as the opponent does it."""
    if name != DANTE:
        yield
        return
    with full_precision(), mock.patch.object(loop, "prepare", _two_pass):
        yield


def _two_pass(network: nn.Module, recipe: Recipe) -> Plan:
    wrapped = wrap_two_pass(network, rank=8, alpha=16.0)
    return Plan([[factor for layer in wrapped for factor in (layer.a, layer.b)]], lambda *_: 1.0)


def _split() -> Split:
    trusted = np.zeros(len(head("t2")[0]), bool)
    trusted[SLICES] = True
    return split_slices(trusted, 0.3)


def grid(slices: tuple[int, ...]) -> Grid:
    """Return the T2 head with these slices trusted."""
    image, tissue, spacing = head("t2")
    spec = read_model(model_path()).spec
    return to_grid(image, tissue, spacing=spacing, axis=0, slices=slices, spec=spec)


def epochs(count: int, folder: Path) -> dict[str, dict[str, float]]:
    """Return the seconds of an epoch of each recipe, and their ratios.

    An opponent's steps are all alike, so one of them stands for its epoch.
    """
    patch = read_model(model_path()).spec.patch
    samples = len(tiles(grid(_split().learn), patch))
    endless = Training(steps=10**6, check_every=10**6, augmentation="none", device="cpu")
    steps = samples // endless.batch
    variants: dict[str, Callable[[], None]] = {}
    for name, recipe in RECIPES.items():
        training = replace(endless, learning_rate=recipe.training.learning_rate)
        (folder / name).mkdir()
        taught = Taught(name, training, folder / name)
        many = steps if isinstance(recipe, Adapter) else 1

        def epoch(taught: Taught = taught, many: int = many) -> None:
            taught.go(many)

        variants[name] = epoch
    seconds = in_turn(variants, count)
    for name, recipe in RECIPES.items():
        if not isinstance(recipe, Adapter):
            seconds[name] = [steps * one for one in seconds[name]]
    return {
        name: {
            "samples": samples,
            "seconds": statistics.median(seconds[name]),
            **{
                f"seconds / {other}": ratio(seconds[name], seconds[other])
                for other in (DANTE, "LoRA", FULL)
            },
        }
        for name in RECIPES
    }


def lessons(quick: bool, folder: Path) -> dict[str, dict[str, Any]]:
    """Return how good each recipe gets, and how soon it is nearly so.

    In the quick run the opponent takes fewer steps, each of which costs as much as ten or
    twenty of the adapter's.
    """
    steps = {DANTE: 40, ADAPTER: 120} if quick else dict.fromkeys((DANTE, "LoRA", ADAPTER), 120)
    found: dict[str, list[Taught]] = {name: [] for name in steps}
    for seed in range(1 if quick else 3):
        for name, most in steps.items():
            training = replace(
                RECIPES[name].training, steps=most, check_every=5, patience=10**6, seed=seed
            )
            place = folder / f"{name} {seed}"
            place.mkdir()
            taught = Taught(name, replace(training, device="cpu"), place)
            taught.go(most + 1)
            found[name].append(taught)
    return {name: _summary(lessons, found[DANTE]) for name, lessons in found.items()}


def _summary(lessons: list[Taught], dante: list[Taught]) -> dict[str, Any]:
    return {
        "dice before": lessons[0].curve[0][1],
        "dice": [lesson.dice() for lesson in lessons],
        "seconds": [lesson.seconds for lesson in lessons],
        "seconds to 95 % of its own": [lesson.until(0.95) for lesson in lessons],
        RATIO: statistics.median(
            mine.until(0.95) / other.until(0.95) for mine, other in zip(lessons, dante, strict=True)
        ),
        "curves": [lesson.curve for lesson in lessons],
    }


def run(quick: bool) -> Result:
    """Measure epochs, then lessons."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "epochs").mkdir()
        (Path(folder) / "lessons").mkdir()
        by_epoch = epochs(max(7, rounds(quick)), Path(folder) / "epochs")
        by_lesson = lessons(quick, Path(folder) / "lessons")
    rows = [
        Row(
            f"an epoch of {figures['samples']} samples",
            name,
            f"{figures['seconds']:.2f} s; {figures[f'seconds / {DANTE}']:.3f}x Dante's, "
            f"{figures['seconds / LoRA']:.2f}x LoRA, "
            f"{figures[f'seconds / {FULL}']:.2f}x full fine-tuning",
        )
        for name, figures in by_epoch.items()
    ]
    rows += [
        Row(
            f"a lesson, {len(figures['dice'])} seed{'s' * (len(figures['dice']) > 1)}",
            name,
            f"Dice {statistics.mean(figures['dice']):.3f}; 95 % of its own exam Dice after "
            f"{statistics.median(figures['seconds to 95 % of its own']):.1f} s, "
            f"{figures[RATIO]:.2f}x Dante's",
        )
        for name, figures in by_lesson.items()
    ]
    return Result({"epochs": by_epoch, "lessons": by_lesson}, rows)
