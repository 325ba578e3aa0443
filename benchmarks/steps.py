"""One training step on patches of 64³: forward, Dice and cross-entropy, backward, AdamW.

The opponents are full fine-tuning and LoRA as Dante describes it, both in full precision.
Two patches are what a lesson takes. With a single one PyTorch runs most of these
convolutions in float32 without oneDNN, several times slower, so that what a precision
gains would be overstated; that case is measured to show it.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn

from benchmarks.heads import head, network
from benchmarks.opponents import wrap_two_pass
from benchmarks.pairs import Result, Row, fresh, in_turn, memory, ratio, rounds
from napari_dante.adapt.loss import trusted_dice_ce
from napari_dante.adapt.method import Plan, prepare
from napari_dante.adapt.recipe import (
    DecoderOnly,
    EncoderLoRA,
    FullFineTuning,
    GradualUnfreezing,
    LoRA,
    Recipe,
)
from napari_dante.model.grids import normalise_head
from napari_dante.model.precision import autocast, precision

__all__ = ["run"]

Width = Literal[16, 32]
CPU = torch.device("cpu")
CASES: tuple[tuple[Width, int], ...] = ((16, 2), (16, 1), (32, 2))
"""Channels of the first level, and patches in a step."""
FULL, DANTE = "full fine-tuning", "two-pass per-tap LoRA (Dante's)"
RECIPES: dict[str, Recipe] = {
    FULL: FullFineTuning(),
    "LoRA kernel_in": LoRA(),
    "LoRA per_tap": LoRA(rank=8, alpha=16.0, layout="per_tap", train_norms=False),
    "decoder only": DecoderOnly(),
    "LoRA in the encoder, whole decoder": EncoderLoRA(),
    "unfreezing, first stage frozen": GradualUnfreezing(),
}
"""What is measured in both precisions; per_tap has Dante's rank and trains what Dante trains."""


def variants() -> list[tuple[str, bool]]:
    """Return name and precision of all variants: True is the default, False is float32."""
    ours = [(name, default) for default in (False, True) for name in RECIPES]
    return [(DANTE, False), *ours]


def make_step(width: Width, batch: int, name: str, default_precision: bool) -> Callable[[], None]:
    """Return a function that does one training step."""
    torch.set_num_threads(1)
    image, labels = _patches(batch)
    trusted = torch.ones_like(labels, dtype=torch.bool)
    net = network(width).train()
    groups = _prepared(net, name)
    optimiser = torch.optim.AdamW([{"params": group} for group in groups], lr=1e-4)

    def step() -> None:
        with autocast(CPU) if default_precision else contextlib.nullcontext():
            logits = net(image)
        loss = trusted_dice_ce(logits, labels, trusted)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_([p for group in groups for p in group if p.grad is not None], 1.0)
        optimiser.step()

    return step


def _patches(batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the middle of the head and its tissues, `batch` times."""
    image, tissue, _ = head("t1")
    middle = tuple(slice(size // 2 - 32, size // 2 + 32) for size in image.shape)
    images = torch.from_numpy(normalise_head(image)[middle].copy()).repeat(batch, 1, 1, 1, 1)
    return images, torch.from_numpy(tissue[middle].copy()).long().repeat(batch, 1, 1, 1)


def _prepared(net: nn.Module, name: str) -> list[list[nn.Parameter]]:
    if name == DANTE:
        wrapped = wrap_two_pass(net, rank=8, alpha=16.0)
        return [[factor for layer in wrapped for factor in (layer.a, layer.b)]]
    plan = prepare(net, RECIPES[name])
    plan.set_step(_last_frozen(plan, RECIPES[name]))
    return plan.groups


def _last_frozen(plan: Plan, recipe: Recipe) -> int:
    """Return the last step at which the first stage is frozen, or 0 where it never is."""
    frozen = [step for step in range(recipe.training.steps) if plan.factor(0, step) == 0]
    return max(frozen, default=0)


def peak_memory(width: Width, batch: int, name: str, default_precision: bool) -> int:
    """Return by how many bytes two steps raise the memory; for a process of its own."""
    step = make_step(width, batch, name, default_precision)
    before, _ = memory()
    step()
    step()
    return memory()[1] - before


def run(quick: bool) -> Result:
    """Measure the shipped network; where there is time also one patch, and a wider one."""
    data: dict[str, Any] = {"bf16 in hardware": precision(CPU) == torch.bfloat16}
    rows: list[Row] = []
    for width, batch in CASES[:1] if quick else CASES:
        case = f"channels {width}-{width * 8}, {batch} patch{'es' * (batch > 1)}"
        found = _measure(width, batch, quick)
        data[case] = found
        rows += [Row(case, name, _text(figures)) for name, figures in found.items()]
    return Result(data, rows)


def _measure(width: Width, batch: int, quick: bool) -> dict[str, dict[str, float]]:
    labels = {
        (name, default): f"{name}, {'default precision' if default else 'float32'}"
        for name, default in variants()
    }
    seconds = in_turn(
        {label: make_step(width, batch, *variant) for variant, label in labels.items()},
        rounds(quick),
    )
    peaks = {
        label: statistics.median(
            fresh(peak_memory, width, batch, *variant) for _ in range(1 if quick else 3)
        )
        for variant, label in labels.items()
    }
    full, dante = labels[FULL, False], labels[DANTE, False]
    return {
        label: {
            "seconds": statistics.median(seconds[label]),
            "seconds / full fine-tuning": ratio(seconds[label], seconds[full]),
            "seconds / two-pass": ratio(seconds[label], seconds[dante]),
            "peak MB": peaks[label] / 1e6,
            "peak / full fine-tuning": peaks[label] / peaks[full],
            "peak / two-pass": peaks[label] / peaks[dante],
        }
        for label in labels.values()
    }


def _text(figures: dict[str, float]) -> str:
    return (
        f"time {figures['seconds / full fine-tuning']:.2f}x full fine-tuning, "
        f"{figures['seconds / two-pass']:.2f}x two-pass; "
        f"peak memory {figures['peak / full fine-tuning']:.2f}x and "
        f"{figures['peak / two-pass']:.2f}x"
    )
