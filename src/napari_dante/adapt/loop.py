"""The training loop: a generator of events that can be paused, stopped and resumed."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from napari_dante.adapt.events import (
    Adjusted,
    Improved,
    LessonEvent,
    Paused,
    Progress,
    Resumed,
    Validated,
    Word,
)
from napari_dante.adapt.forecast import Forecast
from napari_dante.adapt.method import Plan, merged_weights, prepare
from napari_dante.adapt.patches import Patch
from napari_dante.adapt.recipe import Recipe
from napari_dante.adapt.step import Feeder, NotFinite, Squeeze, backward, clip, is_out_of_memory
from napari_dante.adapt.stopping import Judge, Look, has_levelled_off
from napari_dante.errors import TeachError
from napari_dante.files import atomic_path

__all__ = ["Cancelled", "Lesson"]

WARMUP = 10
CLIP = 1.0
RECOVERIES = 3
"""How often a lesson goes back to its last good step before it gives up."""


class Cancelled(TeachError):
    """The person ended the lesson; the old model is unchanged."""


@dataclass
class _State:
    """Where a lesson is; with the network and the optimiser all that a resume needs."""

    step: int = 0
    recoveries: int = 0
    losses: list[float] = field(default_factory=list)
    judge: Judge = field(default_factory=Judge)

    @classmethod
    def restored(cls, data: Mapping[str, Any]) -> _State:
        return cls(**{**data, "judge": Judge(**data["judge"])})


class Lesson:
    """One adaptation of a network on trusted slices.

    Parameters
    ----------
    network
        The base model's network on its device; it is changed in place.
    recipe
        How to adapt.
    draw
        Returns sample `number`, always the same for the same number; called in a thread.
    forward
        Gives the logits (batch, class, z, y, x) of a batch of samples.
    examine
        Looks at the exam slices; with an empty look there is no exam, and the last
        weights count as the best.
    save_best
        Called with the merged weights whenever they are to be kept.
    checkpoint
        File to resume from, written at every look at the exam and on a pause.
    poll
        Returns the person's next word or None; waits for one when called with True.
    rehearse
        Returns sample `number` of earlier cases.
    teacher
        The old network's logits, which the untrusted voxels are held to with the
        recipe's weight of distillation.
    look_seconds, rest_seconds
        What a look at the exam slices takes, and what comes after the lesson, for the
        time left.
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        *,
        draw: Callable[[int], Patch],
        forward: Callable[[torch.Tensor], torch.Tensor],
        examine: Callable[[], Look],
        save_best: Callable[[Mapping[str, torch.Tensor]], None],
        checkpoint: Path,
        poll: Callable[[bool], Word | None],
        rehearse: Callable[[int], Patch] | None = None,
        teacher: Callable[[torch.Tensor], torch.Tensor] | None = None,
        look_seconds: float = 0.0,
        rest_seconds: float = 0.0,
    ) -> None:
        training = recipe.training
        torch.manual_seed(training.seed)
        self._network = network
        self._device = next(network.parameters()).device
        self._plan: Plan = prepare(network, recipe)
        self._training = training
        self._feeder = Feeder(draw, training.batch, rehearse, training.replay)
        self._squeeze = Squeeze()
        self._forward = forward
        self._teacher = teacher
        self._optimiser = torch.optim.AdamW(
            [{"params": group} for group in self._plan.groups],
            lr=training.learning_rate,
            weight_decay=training.weight_decay,
        )
        self._examine = examine
        self._save_best = save_best
        self._checkpoint = checkpoint
        self._poll = poll
        self._forecast = Forecast(training.steps, training.check_every, look_seconds, rest_seconds)
        self._state = _State()
        self._good: dict[str, Any] = {}

    @property
    def trained(self) -> int:
        """How many numbers learn."""
        return self._plan.trained

    def run(self) -> Iterator[LessonEvent]:
        """Train and yield what happens; at the end the best weights have been saved.

        A step that does not fit into memory is done in smaller pieces; a loss that is no
        longer finite sends the lesson back to its last good step with half the learning
        rate. Both are told.

        Raises
        ------
        Cancelled
            When the person cancels.
        TeachError
            When the loss does not stay finite, or no piece is small enough.
        """
        self._resume()
        _normalise_with_stored_statistics(self._network)
        self._good = self._snapshot()
        try:
            yield from self._steps()
        finally:
            self._feeder.close()

    def _steps(self) -> Iterator[LessonEvent]:
        training = self._training
        while self._state.step < training.steps:
            word = self._poll(False)
            if word == "pause":
                word = yield from self._wait()
            if word == "stop":
                break
            _check_not_cancelled(word)
            begin = time.monotonic()
            obstacle = self._step()
            if obstacle is not None:
                yield obstacle
                continue
            self._forecast.stepped(time.monotonic() - begin)
            eta = self._forecast.left(self._state.step)
            yield Progress(self._state.step, training.steps, eta, self._state.losses[-1])
            if self._state.step % training.check_every == 0:
                begin = time.monotonic()
                yield from self._check()
                self._forecast.looked(time.monotonic() - begin)
                if self._ended:
                    return
        if self._state.step % training.check_every != 0:
            yield from self._check()

    def _step(self) -> Adjusted | None:
        """Do one step, or say what kept it from being done."""
        state = self._state
        self._plan.set_step(state.step)
        if state.step in self._plan.openings:
            state.judge.opened()
        rate = self._rate(state.step)
        for index, group in enumerate(self._optimiser.param_groups):
            group["lr"] = rate * self._plan.factor(index, state.step)
        self._optimiser.zero_grad(set_to_none=True)
        try:
            loss = backward(
                self._squeeze.pieces(self._feeder.samples(state.step)),
                self._forward,
                self._device,
                self._teacher,
                self._training.distillation,
            )
            clip([p for group in self._plan.groups for p in group], CLIP)
        except NotFinite:
            return self._step_back()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return self._tighten()
        self._optimiser.step()
        state.step += 1
        state.losses.append(loss)
        return None

    def _tighten(self) -> Adjusted:
        self._optimiser.zero_grad(set_to_none=True)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        smaller = {"batch": "one sample at a time", "patch": "smaller pieces of the image"}
        return Adjusted(
            self._state.step,
            f"There was not enough memory; teaching goes on with "
            f"{smaller[self._squeeze.tighter()]}.",
        )

    def _step_back(self) -> Adjusted:
        lost, recoveries = self._state.step, self._state.recoveries + 1
        if recoveries > RECOVERIES:
            raise TeachError(
                "Teaching lost its way (the error became infinite) again and again; the old "
                "model is unchanged. A lower learning rate may help.",
                detail=f"not finite at step {lost}, {RECOVERIES} recoveries",
            )
        self._restore(self._good)
        self._state.recoveries = recoveries
        return Adjusted(
            self._state.step,
            f"The error became infinite after step {lost}; teaching went back to step "
            f"{self._state.step} and goes on with half the learning rate.",
        )

    def _rate(self, step: int) -> float:
        """Linear warm-up, then a cosine down to a hundredth of the peak."""
        progress = step / self._training.steps
        cosine = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress))
        peak = self._training.learning_rate * 0.5**self._state.recoveries
        return peak * min(1.0, (step + 1) / WARMUP) * cosine

    def _check(self) -> Iterator[LessonEvent]:
        look = self._examine()
        _normalise_with_stored_statistics(self._network)
        if look.dice:
            yield Validated(self._state.step, look.mean, look.dice)
        if self._state.judge.keeps(look):
            self._save_best(merged_weights(self._network))
            if look.dice:
                yield Improved(self._state.step, look.mean)
        self._good = self._snapshot()
        self._save_state()

    @property
    def _ended(self) -> bool:
        """Neither the exam nor the training data show progress any more."""
        state, training = self._state, self._training
        missed = state.judge.misses >= training.patience or state.judge.slices == ()
        window = max(2, training.patience * training.check_every // 2)
        return missed and has_levelled_off(state.losses, window)

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

    def _snapshot(self) -> dict[str, Any]:
        """Return a copy of all that a resume needs."""
        return copy.deepcopy(
            {
                "network": self._network.state_dict(),
                "optimiser": self._optimiser.state_dict(),
                "state": asdict(self._state),
            }
        )

    def _restore(self, saved: dict[str, Any]) -> None:
        saved = copy.deepcopy(saved)
        self._network.load_state_dict(saved["network"])
        self._optimiser.load_state_dict(saved["optimiser"])
        self._state = _State.restored(saved["state"])

    def _save_state(self) -> None:
        with atomic_path(self._checkpoint) as temporary:
            torch.save(self._snapshot(), temporary)

    def _resume(self) -> None:
        if self._checkpoint.is_file():
            self._restore(
                torch.load(self._checkpoint, map_location=self._device, weights_only=True)
            )


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
