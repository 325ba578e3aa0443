"""One optimiser step, in as many pieces as the memory allows."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Literal

import torch
from torch import nn

from napari_dante.adapt.loss import distance_to, trusted_dice_ce
from napari_dante.adapt.patches import Patch
from napari_dante.errors import TeachError
from napari_dante.model.precision import autocast

__all__ = ["Feeder", "NotFinite", "Squeeze", "backward", "clip", "is_out_of_memory"]

EDGE = 32
"""A smaller patch keeps edges of a multiple of this, which every network here halves evenly."""
OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")


class NotFinite(ArithmeticError):
    """The loss or its gradient is no longer a finite number."""


class Feeder:
    """Draws the samples of the next step in a thread while the current one is computed.

    Parameters
    ----------
    draw
        Returns sample `number`; called by one thread at a time.
    batch
        Samples in a step.
    rehearse, replay
        The same for earlier cases, whose samples come after the others.
    """

    def __init__(
        self,
        draw: Callable[[int], Patch],
        batch: int,
        rehearse: Callable[[int], Patch] | None = None,
        replay: int = 0,
    ) -> None:
        self._sources = [(draw, batch)]
        if rehearse is not None:
            self._sources.append((rehearse, replay))
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="dante-samples")
        self._ahead: dict[int, Future[list[Patch]]] = {}

    def samples(self, step: int) -> list[Patch]:
        """Return the samples of `step` and begin to draw those of the next."""
        ready = self._ahead.pop(step, None) or self._pool.submit(self._all, step)
        self._ahead = {step + 1: self._pool.submit(self._all, step + 1)}
        return ready.result()

    def close(self) -> None:
        """Stop drawing."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _all(self, step: int) -> list[Patch]:
        return [
            draw(step * count + index) for draw, count in self._sources for index in range(count)
        ]


class Squeeze:
    """How much smaller than planned the pieces of a step are, so that they fit.

    First the samples of a batch go one at a time, their gradients added up; then patches
    are halved along their longest edge, around what is trusted.
    """

    def __init__(self) -> None:
        self._single = False
        self._cuts = 0

    def tighter(self) -> Literal["batch", "patch"]:
        """Make the pieces smaller; return what became smaller."""
        if not self._single:
            self._single = True
            return "batch"
        self._cuts += 1
        return "patch"

    def pieces(self, samples: list[Patch]) -> list[list[Patch]]:
        """Return the samples in pieces, cut to size.

        Raises
        ------
        TeachError
            If a sample cannot be cut any further.
        """
        small = [self._cut(sample) for sample in samples]
        return [[sample] for sample in small] if self._single else [small]

    def _cut(self, sample: Patch) -> Patch:
        for _ in range(self._cuts):
            sample = _halved(sample)
        return sample


def _halved(sample: Patch) -> Patch:
    """Keep the half of the longest edge that lies around the trusted voxels."""
    shape = sample.labels.shape
    axis = max(range(3), key=lambda index: shape[index])
    half = shape[axis] // 2 // EDGE * EDGE
    if half == 0 or sample.image.shape[1:] != shape:
        raise TeachError(
            "There is not enough memory for this, even in small pieces; the old model is "
            "unchanged. Close other programs, or use a computer with more memory."
        )
    others = tuple(index for index in range(3) if index != axis)
    weight = sample.trusted.sum(dim=others).float()
    centre = (weight * torch.arange(shape[axis])).sum() / weight.sum().clamp(min=1)
    start = int(min(max(0, round(float(centre)) - half // 2), shape[axis] - half))
    return replace(
        sample,
        image=sample.image.narrow(axis + 1, start, half),
        labels=sample.labels.narrow(axis, start, half),
        trusted=sample.trusted.narrow(axis, start, half),
    )


def backward(
    pieces: list[list[Patch]],
    forward: Callable[[torch.Tensor], torch.Tensor],
    device: torch.device,
    teacher: Callable[[torch.Tensor], torch.Tensor] | None = None,
    distillation: float = 0.0,
) -> float:
    """Add up the gradients of a step's pieces; return the loss.

    Parameters
    ----------
    pieces
        Samples that go through the network together.
    forward
        Gives the logits (batch, class, z, y, x) of a batch of samples.
    device
        Where to compute.
    teacher
        The old network, for the untrusted voxels; see
        :func:`napari_dante.adapt.loss.distance_to`.
    distillation
        Weight of the distance to the teacher.

    Raises
    ------
    NotFinite
        If the loss is not a finite number.
    """
    count = sum(len(piece) for piece in pieces)
    total = 0.0
    for piece in pieces:
        images, labels, trusted = (
            torch.stack([getattr(sample, name) for sample in piece]).to(device)
            for name in ("image", "labels", "trusted")
        )
        with autocast(device):
            logits = forward(images)
        loss = _loss(piece, logits, labels, trusted)
        if teacher is not None:
            with torch.no_grad(), autocast(device):
                old = teacher(images)
            loss = loss + distillation * distance_to(logits, old, ~trusted)
        loss = loss * (len(piece) / count)
        if not torch.isfinite(loss):
            raise NotFinite
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    return total


def _loss(
    piece: list[Patch], logits: torch.Tensor, labels: torch.Tensor, trusted: torch.Tensor
) -> torch.Tensor:
    """Return the loss, in which rehearsed samples have the weight of their number.

    An earlier case is trusted as a whole: with one mean over all voxels it would drown the
    few slices that shall be learned.
    """
    annotated = _annotated(piece, logits)
    if len({sample.earlier for sample in piece}) == 1:
        return trusted_dice_ce(logits, labels, trusted, annotated)
    total = logits.new_zeros((), dtype=torch.float32)
    for earlier in (False, True):
        chosen = [index for index, sample in enumerate(piece) if sample.earlier is earlier]
        known = None if annotated is None else annotated[chosen]
        part = trusted_dice_ce(logits[chosen], labels[chosen], trusted[chosen], known)
        total = total + part * (len(chosen) / len(piece))
    return total


def _annotated(piece: list[Patch], logits: torch.Tensor) -> torch.Tensor | None:
    if all(sample.annotated is None for sample in piece):
        return None
    everything = torch.ones(logits.shape[1], dtype=torch.bool)
    known = [everything if s.annotated is None else s.annotated for s in piece]
    return torch.stack(known).to(logits.device)


def clip(parameters: list[nn.Parameter], limit: float) -> None:
    """Clip the gradient's norm.

    Raises
    ------
    NotFinite
        If a gradient is not a finite number.
    """
    norm = nn.utils.clip_grad_norm_([p for p in parameters if p.grad is not None], limit)
    if not torch.isfinite(norm):
        raise NotFinite


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether torch or Python ran out of memory."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(part in text for part in OUT_OF_MEMORY)
