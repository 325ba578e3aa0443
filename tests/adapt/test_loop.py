"""Obstacles on the way: too little memory, a loss that is no longer a number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from napari_dante.adapt.events import Adjusted, LessonEvent, Progress
from napari_dante.adapt.loop import Lesson
from napari_dante.adapt.patches import Grid, PatchSampler
from napari_dante.adapt.recipe import LoRA
from napari_dante.adapt.stopping import Look
from napari_dante.adapt.training import Training
from napari_dante.errors import TeachError
from napari_dante.model.file import Model
from napari_dante.model.network import build_network

Ball = tuple[NDArray[np.float32], NDArray[np.uint8]]
Forward = Callable[[nn.Module, torch.Tensor], torch.Tensor]


def lesson(
    folder: Path, model: Model, ball: Ball, forward: Forward, **training: object
) -> tuple[Lesson, dict[str, torch.Tensor]]:
    """Return a lesson on the ball, and the weights that it will have kept."""
    torch.manual_seed(0)
    network = build_network(model.spec)
    image, labels = ball
    trusted = np.zeros(image.shape, bool)
    trusted[[6, 12]] = True
    sampler = PatchSampler([Grid(image / 100, labels, trusted)], model.spec.patch, "none", 0)
    kept: dict[str, torch.Tensor] = {}

    def save(weights: Mapping[str, torch.Tensor]) -> None:
        kept.update(weights)

    found = Lesson(
        network,
        LoRA(rank=2, training=Training(**{"steps": 8, "check_every": 2, **training})),  # type: ignore[arg-type]
        draw=sampler.draw,
        forward=lambda images: forward(network, images),
        examine=Look,
        save_best=save,
        checkpoint=folder / "last.pt",
        poll=lambda wait: None,
    )
    return found, kept


def adjusted(events: list[LessonEvent]) -> list[Adjusted]:
    return [event for event in events if isinstance(event, Adjusted)]


def test_too_little_memory_for_a_batch_is_enough_for_its_samples(
    tmp_path: Path, model: Model, ball: Ball
) -> None:
    def forward(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
        if len(images) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        logits: torch.Tensor = network(images)
        return logits

    taught, kept = lesson(tmp_path, model, ball, forward)
    events = list(taught.run())
    (told,) = adjusted(events)
    assert told.step == 0
    assert "one sample at a time" in told.sentence
    assert [event.step for event in events if isinstance(event, Progress)] == list(range(1, 9))
    assert kept


def test_far_too_little_memory_is_a_sentence(tmp_path: Path, model: Model, ball: Ball) -> None:
    def forward(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
        raise MemoryError

    taught, kept = lesson(tmp_path, model, ball, forward)
    with pytest.raises(TeachError, match="not enough memory"):
        list(taught.run())
    assert not kept


def test_other_errors_are_not_taken_for_memory(tmp_path: Path, model: Model, ball: Ball) -> None:
    def forward(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("size mismatch")

    taught, _ = lesson(tmp_path, model, ball, forward)
    with pytest.raises(RuntimeError, match="size mismatch"):
        list(taught.run())


def test_a_loss_that_is_no_number_sends_the_lesson_back(
    tmp_path: Path, model: Model, ball: Ball
) -> None:
    calls = iter(range(1000))

    def forward(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = network(images)
        return logits * torch.nan if next(calls) == 5 else logits

    taught, kept = lesson(tmp_path, model, ball, forward)
    events = list(taught.run())
    (told,) = adjusted(events)
    assert told.step == 4
    assert "half the learning rate" in told.sentence
    steps = [event.step for event in events if isinstance(event, Progress)]
    assert steps == [1, 2, 3, 4, 5, 5, 6, 7, 8]
    assert all(torch.isfinite(value).all() for value in kept.values())


def test_after_going_back_nothing_is_left_of_the_lost_steps(
    tmp_path: Path, model: Model, ball: Ball
) -> None:
    """The same weights at the step gone back to, whatever was lost after it."""
    seen: list[dict[str, torch.Tensor]] = []

    def run(lost_at: int) -> None:
        calls = iter(range(1000))

        def forward(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = network(images)
            return logits * torch.nan if next(calls) == lost_at else logits

        taught, kept = lesson(tmp_path / str(lost_at), model, ball, forward)
        list(taught.run())
        seen.append(dict(kept))

    run(4)
    run(5)
    for key, value in seen[0].items():
        assert torch.equal(value, seen[1][key]), key


def test_a_loss_that_stays_no_number_is_a_sentence(
    tmp_path: Path, model: Model, ball: Ball
) -> None:
    taught, _ = lesson(tmp_path, model, ball, lambda network, images: network(images) * torch.nan)
    with pytest.raises(TeachError, match="lost its way"):
        list(taught.run())


def test_without_an_exam_a_lesson_ends_when_its_loss_has_levelled_off(
    tmp_path: Path, model: Model, ball: Ball
) -> None:
    taught, kept = lesson(
        tmp_path,
        model,
        ball,
        lambda network, images: network(images),
        steps=500,
        patience=5,
        learning_rate=1e-9,
    )
    steps = [event.step for event in taught.run() if isinstance(event, Progress)]
    assert max(steps) <= 60
    assert kept
