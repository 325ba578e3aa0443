"""Train ``brain-tissue`` and ``brain-structures``, two heads of one network.

    python -m training.starters --data DATA --minutes 130 --out RUN
    python -m training.starters --data DATA --steps N --out RUN
    python -m training.starters --data DATA --minutes 130 --start MODELS --out RUN
    python -m training.starters --data DATA --quick --out RUN

One network answers both questions, so each starter has the whole of the training behind
it; ``training.export`` takes the two apart. A run that was interrupted goes on from its
last checkpoint when the command is given again; ``--start`` begins from the two starters in
a folder, those of an earlier run. With a number of steps the weights are
those of any other run with that number on the same processor; a time budget ends well
annealed whenever it has to end, and a rerun gives a similar network.
"""

from __future__ import annotations

import argparse
import csv
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from napari_dante.files import atomic_path
from napari_dante.model.file import read_model
from napari_dante.model.network import build_network, load_weights
from napari_dante.model.precision import autocast
from training.anatomy import STRUCTURES, load_heads
from training.generate import Generator, Sample
from training.muon import Muon
from training.network import EDGE, MIXING, SPACING, STARTERS, both_heads, join, keep_apart

log = logging.getLogger("training")

SEED = 20261120
PEAK, WARMUP, CLIP = 3e-3, 100, 1.0
EVERY = 100
"""Steps between two lines of the curve, and two checkpoints."""

CHECK_EVERY, CHECKS = 500, 8
"""Steps between two validations, and the number of samples that one looks at."""


def soft_dice_ce(logits: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Return cross-entropy plus Dice loss against shares of classes.

    The Dice is the one of Wang et al. (Dice semimetric losses, MICCAI 2023), least where
    the answer equals the shares; the usual one is least at hard labels. Classes that a
    sample does not show are left out of it.

    Parameters
    ----------
    logits, shares
        (batch, class, z, y, x).
    """
    logs = torch.log_softmax(logits.float(), dim=1)
    entropy = -(shares * logs).sum(dim=1).mean()
    answer, truth = logs.exp()[:, 1:].flatten(2), shares[:, 1:].flatten(2)
    total = answer.sum(dim=2) + truth.sum(dim=2)
    dice = (total - (answer - truth).abs().sum(dim=2)) / total.clamp(min=1e-6)
    present = truth.sum(dim=2) > 0
    return entropy + ((1 - dice) * present).sum() / present.sum().clamp(min=1)


def loss_of(logits: torch.Tensor, sample: Sample) -> torch.Tensor:
    """Return the loss of both heads."""
    count = len(STRUCTURES) + 1
    return soft_dice_ce(logits[:, :count], sample.structures) + soft_dice_ce(
        logits[:, count:], sample.tissues
    )


def hidden_kernels(network: nn.Module) -> list[nn.Parameter]:
    """Return the kernels between features: neither the image's nor the last one."""
    return [
        parameter
        for name, parameter in network.named_parameters()
        if parameter.ndim > 2 and parameter.shape[1] > 1 and name != MIXING
    ]


@dataclass
class Run:
    """A training run and how far it is.

    Attributes
    ----------
    progress
        From the steps done and the seconds spent to the part of the budget used, 0…1.
    """

    network: nn.Module
    generator: Generator
    checks: Sequence[Sample]
    progress: Callable[[int, float], float]
    out: Path
    batch: int = 1
    step: int = 0
    spent: float = 0.0
    optimisers: Sequence[torch.optim.Optimizer] = field(init=False)

    def __post_init__(self) -> None:
        keep_apart(self.network)
        kernels = hidden_kernels(self.network)
        known = set(map(id, kernels))
        others = [one for one in self.network.parameters() if id(one) not in known]
        self.optimisers = (
            Muon(kernels, lr=PEAK),
            torch.optim.AdamW(others, lr=PEAK, weight_decay=1e-4),
        )

    @property
    def checkpoint(self) -> Path:
        """Where the state of the run is kept."""
        return self.out / "last.pt"

    def resume(self) -> None:
        """Go on from the last checkpoint, if there is one."""
        if not self.checkpoint.exists():
            return
        state = torch.load(self.checkpoint, weights_only=True)
        self.network.load_state_dict(state["network"])
        for optimiser, its in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(its)
        self.step, self.spent = state["step"], state["spent"]
        log.info("going on from step %d", self.step)

    def save(self) -> None:
        """Write the state in one step; samples are drawn by number, so no more is needed."""
        state: dict[str, Any] = {
            "network": self.network.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "step": self.step,
            "spent": self.spent,
        }
        with atomic_path(self.checkpoint) as temporary:
            torch.save(state, temporary)

    def train(self) -> None:
        """Train until the budget is used, with a cosine decay over it."""
        begin = time.monotonic() - self.spent
        recent: list[float] = []
        while (part := self.progress(self.step, self.spent)) < 1:
            recent.append(self._one(0.5 * (1 + math.cos(math.pi * part))))
            self.step += 1
            self.spent = time.monotonic() - begin
            if self.step % EVERY == 0 or self.step in (1, 10, 50):
                self._note(recent)
                recent.clear()
        self.save()

    def _one(self, decay: float) -> float:
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = PEAK * min(1.0, (self.step + 1) / WARMUP) * decay + 1e-6
        first = self.step * self.batch
        sample = self.generator.batch(range(first, first + self.batch))
        with autocast(torch.device("cpu")):
            logits = self.network(sample.image)
        loss = loss_of(logits, sample)
        self.network.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), CLIP)
        for optimiser in self.optimisers:
            optimiser.step()
        return float(loss.detach())

    def _note(self, recent: Sequence[float]) -> None:
        self.save()
        row = [str(self.step), f"{self.spent:.0f}", f"{sum(recent) / len(recent):.4f}", "", ""]
        if self.step % CHECK_EVERY == 0:
            row[3:] = [f"{value:.4f}" for value in check(self.network, self.checks)]
        log.info("step %s, %s s, loss %s, Dice %s %s", *row)
        with (self.out / "curve.csv").open("a", newline="") as stream:
            csv.writer(stream).writerow(row)


def check(network: nn.Module, samples: Sequence[Sample]) -> tuple[float, float]:
    """Return the mean Dice of structures and tissues over painted samples never learned."""
    network.eval()
    count = len(STRUCTURES) + 1
    found: list[list[float]] = [[], []]
    for sample in samples:
        with torch.inference_mode(), autocast(torch.device("cpu")):
            logits = network(sample.image[None])[0]
        for which, (part, shares) in enumerate(
            ((logits[:count], sample.structures), (logits[count:], sample.tissues))
        ):
            said = functional.one_hot(part.argmax(0), len(part)).flatten(0, 2).float()
            true = functional.one_hot(shares.argmax(0), len(part)).flatten(0, 2).float()
            both, total = (said * true).sum(0)[1:], (said + true).sum(0)[1:]
            seen = true.sum(0)[1:] > 20
            found[which] += (2 * both / total.clamp(min=1))[seen].tolist()
    network.train()
    first, second = (sum(values) / max(1, len(values)) for values in found)
    return first, second


def budget(minutes: float | None, steps: int | None) -> Callable[[int, float], float]:
    """Return how much of a budget of time or steps is used."""
    if steps is not None:
        return lambda done, spent: done / steps
    seconds = 60 * (minutes or 0)
    return lambda done, spent: spent / seconds


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("training/runs/starters"))
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--minutes", type=float)
    length.add_argument("--steps", type=int)
    length.add_argument("--quick", action="store_true", help="a smoke run of some seconds")
    parser.add_argument("--start", type=Path, metavar="DIR", help="begin from these starters")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def main() -> None:
    """Run the recipe."""
    arguments = parse()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(SEED)
    arguments.out.mkdir(parents=True, exist_ok=True)
    heads = load_heads(arguments.data)
    steps = 4 if arguments.quick else arguments.steps
    run = Run(
        network=build_network(both_heads()),
        generator=Generator(heads, EDGE, SPACING, SEED),
        checks=[Generator(heads, EDGE, SPACING, SEED + 1).draw(n) for n in range(CHECKS)],
        progress=budget(arguments.minutes, steps),
        out=arguments.out,
    )
    if arguments.start is not None:
        files = [arguments.start / f"{starter.name}.safetensors" for starter in STARTERS]
        load_weights(run.network, join([read_model(file) for file in files]))
    run.resume()
    run.train()


if __name__ == "__main__":
    main()
