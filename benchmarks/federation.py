"""A federation in one process: sites teach, a server merges, generation after generation.

``python -m benchmarks.federation [--quick] [--out DIR]`` writes the figures as JSON and the
curves as SVG; ``python -m benchmarks --only federation`` prints them with the others.

The starter, which knows T1 only, learns T2. All voxels are those of one real volume, the
average T2 head: each site has a slab of its left half behind a distortion of its own, the
server examines on a part of the right half, and what is reported is another part of it. So
this says how rules of merging compare, not how well a model does on another person.

Sites teach for a few steps and send whole weights. One site is always three generations
late. ``wrong`` adds a site that takes grey for white matter and the reverse, as on a T1,
``malicious`` one that sends noise and claims a thousand cases. The rules are those of
:mod:`napari_dante.federated.aggregate`, in the server's order: ``half``, ``half, examined``
and ``examined`` take updates one by one; ``by cases`` and ``median`` take a generation at
once.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.heads import head, network
from benchmarks.lines import drawing
from benchmarks.pairs import Result, Row
from napari_dante.adapt.loss import trusted_dice_ce
from napari_dante.evaluate.overlap import dice
from napari_dante.federated.aggregate import best_share, federated_average, median
from napari_dante.model.grids import normalise_head
from napari_dante.model.merging import average

__all__ = ["run"]

Weights = Mapping[str, torch.Tensor]
Box = tuple[slice, slice, slice]
LEFT, RIGHT = slice(8, 48), slice(49, 89)
DEPTH = 24
LATE = 3
STEPS, RATE = 2, 1e-3
GENERATIONS = 10
SCENARIOS: dict[str, tuple[str, ...]] = {
    "one wrong site in five": ("wrong",),
    "four good sites": (),
    "a wrong and a malicious site": ("wrong", "malicious"),
}
RULES = ("half", "half, examined", "by cases", "examined", "median")


@dataclass(frozen=True)
class Sample:
    """A crop: image (1, 1, z, y, x) and classes (1, z, y, x)."""

    image: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True)
class Site:
    """Where teaching happens."""

    sample: Sample
    cases: int
    late: bool = False
    malicious: bool = False


class Head:
    """The real volume, cut up."""

    def __init__(self) -> None:
        self._image, self._tissue, _ = head("t2")

    def crop(
        self,
        box: Box,
        distort: Callable[[NDArray[np.float32]], NDArray[np.float32]] = lambda image: image,
        labels: tuple[int, ...] = (0, 1, 2, 3),
    ) -> Sample:
        """Return a part of the volume as a site sees and labels it."""
        image = normalise_head(distort(self._image))[box]
        tissue = np.asarray(labels)[self._tissue[box]]
        return Sample(torch.from_numpy(image.copy())[None, None], torch.from_numpy(tissue)[None])


def _box(bottom: int, side: slice) -> Box:
    return slice(bottom, bottom + DEPTH), slice(20, 92), side


def _ramp(image: NDArray[np.float32]) -> NDArray[np.float32]:
    field = np.linspace(0.6, 1.4, image.shape[1], dtype=np.float32)
    return np.asarray(image * field[None, :, None])


def _noise(image: NDArray[np.float32]) -> NDArray[np.float32]:
    noise = np.random.default_rng(0).normal(0, 0.04 * float(image.max()), image.shape)
    return np.asarray(image + noise, np.float32)


def sites(body: Head, extra: tuple[str, ...]) -> list[Site]:
    """Return the sites of a scenario."""
    found = [
        Site(body.crop(_box(20, LEFT)), 12),
        Site(body.crop(_box(34, LEFT), lambda image: np.asarray((image / 4095) ** 0.7)), 4),
        Site(body.crop(_box(48, LEFT), _ramp), 8),
        Site(body.crop(_box(27, LEFT), _noise), 4, late=True),
    ]
    if "wrong" in extra:
        found.append(Site(body.crop(_box(41, LEFT), labels=(0, 1, 3, 2)), 6))
    if "malicious" in extra:
        found.append(Site(body.crop(_box(20, LEFT)), 1000, malicious=True))
    return found


class Net:
    """The one network that every site and the server use in turn."""

    def __init__(self, body: Head) -> None:
        self._network = network(16)
        self.start: Weights = copy.deepcopy(self._network.state_dict())
        self._exam = body.crop(_box(44, RIGHT))
        self._test = [body.crop(_box(bottom, RIGHT)) for bottom in (20, 68 - DEPTH + 24)]

    def exam(self, weights: Weights) -> float:
        """Return the mean Dice on the server's own crop."""
        return self._dice(weights, [self._exam])

    def test(self, weights: Weights) -> float:
        """Return the mean Dice on crops that nobody but the reader of this sees."""
        return self._dice(weights, self._test)

    def _dice(self, weights: Weights, samples: list[Sample]) -> float:
        self._network.load_state_dict(dict(weights))
        self._network.eval()
        scores = []
        for sample in samples:
            with torch.inference_mode():
                mask = self._network(sample.image).argmax(dim=1).numpy()
            truth = sample.labels.numpy()
            scores += [dice(mask == k, truth == k) or 0.0 for k in (1, 2, 3)]
        return float(np.mean(scores))

    def teach(self, weights: Weights, site: Site, seed: int) -> Weights:
        """Return what a site makes of the weights that it was given."""
        torch.manual_seed(seed)
        if site.malicious:
            return {
                key: torch.randn_like(value) * value.abs().mean() for key, value in weights.items()
            }
        self._network.load_state_dict(dict(weights))
        self._network.train()
        optimiser = torch.optim.Adam(self._network.parameters(), RATE)
        everywhere = torch.ones_like(site.sample.labels, dtype=torch.bool)
        for _ in range(STEPS):
            flip = bool(torch.rand(()) < 0.5)
            axes = [-1] if flip else []
            optimiser.zero_grad()
            logits = self._network(site.sample.image.flip(axes))
            loss = trusted_dice_ce(logits, site.sample.labels.flip(axes), everywhere)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        return copy.deepcopy(self._network.state_dict())


def merge(
    rule: str,
    current: Weights,
    updates: list[tuple[Weights, int]],
    exam: Callable[[Weights], float],
) -> Weights:
    """Return the next generation."""
    if rule == "by cases":
        return federated_average([one for one, _ in updates], [cases for _, cases in updates])
    if rule == "median":
        return median([one for one, _ in updates])
    best = exam(current) if "examined" in rule else 0.0
    for update, _ in updates:
        if rule == "examined":
            choice = best_share(current, update, exam)
            merged, found = average(current, update, 1 - choice.share), choice.dice
        else:
            merged = average(current, update, 0.5)
            found = exam(merged) if "examined" in rule else 1.0
        if found >= best:
            current, best = merged, found if "examined" in rule else 0.0
    return current


def generations(net: Net, members: list[Site], rule: str, count: int) -> list[float]:
    """Return the Dice of every generation, the first one that of the starter."""
    line = [net.start]
    curve = [net.test(net.start)]
    order = random.Random(0)
    for generation in range(count):
        updates = []
        for number, site in enumerate(members):
            base = line[max(0, generation - LATE)] if site.late else line[-1]
            taught = net.teach(base, site, 1000 * generation + number)
            updates.append((taught, site.cases))
        order.shuffle(updates)
        line.append(merge(rule, line[-1], updates, net.exam))
        curve.append(net.test(line[-1]))
    return curve


def run(quick: bool, tell: Callable[[dict[str, Any]], None] = lambda data: None) -> Result:
    """Compare the rules in every scenario; one scenario only when it shall be quick.

    `tell` gets the curves so far after each of them.
    """
    torch.set_num_threads(1)
    body = Head()
    net = Net(body)
    curves: dict[str, dict[str, list[float]]] = {}
    data: dict[str, Any] = {"generations": GENERATIONS, "steps": STEPS, "curves": curves}
    for name in list(SCENARIOS)[: 1 if quick else None]:
        members = sites(body, SCENARIOS[name])
        for rule in RULES:
            curves.setdefault(name, {})[rule] = generations(net, members, rule, GENERATIONS)
            tell(data)
    rows = [
        Row(name, rule, _text(curve))
        for name, found in curves.items()
        for rule, curve in found.items()
    ]
    return Result(data, rows)


def _text(curve: list[float]) -> str:
    gain = (curve[-1] - curve[0]) / (len(curve) - 1)
    drop = min(after - before for before, after in pairwise(curve))
    return (
        f"Dice {curve[0]:.3f} → {curve[-1]:.3f}, {gain:+.4f} a generation; "
        f"worst step {drop:+.3f}, best {max(curve):.3f}"
    )


def main() -> None:
    """Write the figures and the drawing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.federation", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one scenario")
    parser.add_argument("--out", type=Path, default=Path("federation-out"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    def tell(data: dict[str, Any]) -> None:
        (arguments.out / "federation.json").write_text(json.dumps(data, indent=1) + "\n")
        picture = drawing(data["curves"], "generation", "mean Dice")
        (arguments.out / "federation.svg").write_text(picture)

    result = run(arguments.quick, tell)
    for row in result.rows:
        print(" | ".join(row))


if __name__ == "__main__":
    main()
