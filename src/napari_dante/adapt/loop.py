"""The training loop: a generator of events that can be paused, stopped and resumed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from napari_dante.adapt.events import (
    Improved,
    LessonEvent,
    Paused,
    Progress,
    Resumed,
    Validated,
    Word,
)
from napari_dante.adapt.loss import trusted_dice_ce
from napari_dante.adapt.method import Plan, merged_weights, prepare
from napari_dante.adapt.patches import Patch
from napari_dante.adapt.recipe import Recipe
from napari_dante.errors import TeachError
from napari_dante.files import atomic_path
from napari_dante.model.precision import autocast

__all__ = ["Cancelled", "Lesson"]

WARMUP = 10
CLIP = 1.0
LEAST_GAIN = 1e-3
"""Rise of the exam Dice below which a look counts as one without improvement."""


class Cancelled(TeachError):
    """The person ended the lesson; the old model is unchanged."""


@dataclass
class _State:
    """Where a lesson is; with the network and the optimiser all that a resume needs."""

    step: int = 0
    best: float = -math.inf
    misses: int = 0


class Lesson:
    """One adaptation of a network on trusted slices.

    Parameters
    ----------
    network
        The base model's network on its device; it is changed in place.
    recipe
        How to adapt.
    draw
        Returns sample `number`, always the same for the same number.
    forward
        Gives the logits (batch, class, z, y, x) of a batch of samples.
    examine
        Returns Dice per structure on the exam slices; empty when there is no exam, then
        the last weights count as the best.
    save_best
        Called with the merged weights whenever they are the best so far.
    checkpoint
        File to resume from, written at every look at the exam and on a pause.
    poll
        Returns the person's next word or None; waits for one when called with True.
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        *,
        draw: Callable[[int], Patch],
        forward: Callable[[torch.Tensor], torch.Tensor],
        examine: Callable[[], Mapping[str, float]],
        save_best: Callable[[Mapping[str, torch.Tensor]], None],
        checkpoint: Path,
        poll: Callable[[bool], Word | None],
    ) -> None:
        training = recipe.training
        torch.manual_seed(training.seed)
        self._network = network
        self._device = next(network.parameters()).device
        self._plan: Plan = prepare(network, recipe)
        self._training = training
        self._draw = draw
        self._forward = forward
        self._optimiser = torch.optim.AdamW(
            [{"params": group} for group in self._plan.groups],
            lr=training.learning_rate,
            weight_decay=training.weight_decay,
        )
        self._examine = examine
        self._save_best = save_best
        self._checkpoint = checkpoint
        self._poll = poll
        self._state = _State()

    @property
    def trained(self) -> int:
        """How many numbers learn."""
        return self._plan.trained

    def run(self) -> Iterator[LessonEvent]:
        """Train and yield what happens; at the end the best weights have been saved.

        Raises
        ------
        Cancelled
            When the person cancels.
        TeachError
            When the loss is no longer a finite number.
        """
        self._resume()
        _normalise_with_stored_statistics(self._network)
        total, begin, first = self._training.steps, time.monotonic(), self._state.step
        while self._state.step < total:
            word = self._poll(False)
            if word == "pause":
                word = yield from self._wait()
            if word == "stop":
                break
            _check_not_cancelled(word)
            loss = self._step()
            done = self._state.step - first
            eta = (time.monotonic() - begin) / done * (total - self._state.step)
            yield Progress(self._state.step, total, eta, loss)
            if self._state.step % self._training.check_every == 0:
                yield from self._check()
                if self._state.misses >= self._training.patience:
                    return
        if self._state.step % self._training.check_every != 0:
            yield from self._check()

    def _step(self) -> float:
        step, batch = self._state.step, self._training.batch
        self._plan.set_step(step)
        rate = self._rate(step)
        for index, group in enumerate(self._optimiser.param_groups):
            group["lr"] = rate * self._plan.factor(index, step)
        patches = [self._draw(step * batch + index) for index in range(batch)]
        images = torch.stack([patch.image for patch in patches]).to(self._device)
        labels = torch.stack([patch.labels for patch in patches]).to(self._device)
        trusted = torch.stack([patch.trusted for patch in patches]).to(self._device)
        with autocast(self._device):
            logits = self._forward(images)
        loss = trusted_dice_ce(logits, labels, trusted)
        if not torch.isfinite(loss):
            raise TeachError(
                "Teaching lost its way (the error became infinite); the old model is unchanged. "
                "A lower learning rate helps.",
                detail=f"loss {float(loss)} at step {step}",
            )
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        parameters = [p for group in self._plan.groups for p in group if p.grad is not None]
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        self._optimiser.step()
        self._state.step += 1
        return float(loss.detach())

    def _rate(self, step: int) -> float:
        """Linear warm-up, then a cosine down to a hundredth of the peak."""
        progress = step / self._training.steps
        cosine = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress))
        return self._training.learning_rate * min(1.0, (step + 1) / WARMUP) * cosine

    def _check(self) -> Iterator[LessonEvent]:
        scores = self._examine()
        _normalise_with_stored_statistics(self._network)
        mean = sum(scores.values()) / len(scores) if scores else math.nan
        if scores:
            yield Validated(self._state.step, mean, scores)
        gain = mean - self._state.best if scores else math.inf
        self._state.misses = 0 if gain > LEAST_GAIN else self._state.misses + 1
        if gain > 0:
            self._state.best = mean
            self._save_best(merged_weights(self._network))
            if scores:
                yield Improved(self._state.step, mean)
        self._save_state()

    def _wait(self) -> Generator[LessonEvent, None, Word | None]:
        """Pause; return the word that ended it."""
        self._save_state()
        yield Paused(self._state.step)
        word: Word | None = "pause"
        while word == "pause":
            word = self._poll(True)
        if word == "resume":
            yield Resumed(self._state.step)
        return word

    def _save_state(self) -> None:
        with atomic_path(self._checkpoint) as temporary:
            torch.save(
                {
                    "network": self._network.state_dict(),
                    "optimiser": self._optimiser.state_dict(),
                    "state": vars(self._state),
                },
                temporary,
            )

    def _resume(self) -> None:
        if not self._checkpoint.is_file():
            return
        saved = torch.load(self._checkpoint, map_location=self._device, weights_only=True)
        self._network.load_state_dict(saved["network"])
        self._optimiser.load_state_dict(saved["optimiser"])
        self._state = _State(**saved["state"])


def _check_not_cancelled(word: Word | None) -> None:
    if word == "cancel":
        raise Cancelled("Teaching was cancelled; the old model is unchanged.")


def _normalise_with_stored_statistics(network: nn.Module) -> None:
    """Train, but leave batch normalisation and dropout as they are at prediction.

    Statistics gathered from a few patches of one patient are worse than the stored ones.
    """
    network.train()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.modules.dropout._DropoutNd):
            module.eval()
