"""A whole head: our prediction against MONAI's plain sliding window.

Both scale and resample the image alike and use the same network. The plain one is in full
precision, its windows go four at a time, overlap by half and count equally, and the mask
of the network's grid is brought back by the nearest neighbour. The tissues of the head of
1 mm are the maps of the 2 mm head, resampled linearly like its image.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from numpy.typing import NDArray

from benchmarks.heads import Head, head, mean_dice, model_path, one_millimetre
from benchmarks.pairs import Result, Row, in_turn, ratio, rounds
from napari_dante.model import inference
from napari_dante.model.segmenter import Segmenter

__all__ = ["run"]

PLAIN = "plain sliding window, float32"
Mask = NDArray[np.uint8]


def plain(segmenter: Segmenter, image: NDArray[np.float32], spacing: tuple[float, ...]) -> Mask:
    """Return the mask of a plain sliding window (z, y, x)."""
    shape = inference.resampled_shape(image.shape, spacing, segmenter.spec.spacing)
    scaled = inference.resample_image(inference.normalise_head(image), shape)
    with torch.inference_mode():
        logits = sliding_window_inference(
            torch.from_numpy(np.ascontiguousarray(scaled))[None, None],
            roi_size=segmenter.spec.patch,
            sw_batch_size=4,
            predictor=segmenter.network,
            overlap=0.5,
            mode="constant",
        )
        mask = logits.argmax(dim=1, keepdim=True).to(torch.uint8)
        mask = torch.nn.functional.interpolate(mask, size=image.shape, mode="nearest-exact")
    return np.asarray(mask[0, 0].numpy(), np.uint8)


@contextmanager
def full_precision() -> Iterator[None]:
    """Let our prediction compute in float32."""
    with mock.patch.object(inference, "cpu_has_fast_bf16", return_value=False):
        yield


def _measure(segmenter: Segmenter, of: Head, count: int) -> dict[str, dict[str, float]]:
    image, truth, spacing = of
    masks: dict[str, Mask] = {}

    def ours() -> None:
        masks["ours, default precision"] = segmenter.predict(image, spacing)

    def ours_full() -> None:
        with full_precision():
            masks["ours, float32"] = segmenter.predict(image, spacing)

    def theirs() -> None:
        masks[PLAIN] = plain(segmenter, image, spacing)

    variants: dict[str, Callable[[], None]] = {
        PLAIN: theirs,
        "ours, float32": ours_full,
        "ours, default precision": ours,
    }
    seconds = in_turn(variants, count)
    score = {name: mean_dice(mask, truth) for name, mask in masks.items()}
    return {
        name: {
            "seconds": statistics.median(seconds[name]),
            "seconds / plain": ratio(seconds[name], seconds[PLAIN]),
            "dice": score[name],
            "dice - plain": score[name] - score[PLAIN],
        }
        for name in variants
    }


def run(quick: bool) -> Result:
    """Measure the shipped head at 2 mm, and resampled to 1 mm."""
    torch.set_num_threads(1)
    segmenter = Segmenter.from_file(model_path(), "cpu")
    two = head("t1")
    found = {
        case: _measure(segmenter, of, rounds(quick))
        for case, of in (("head of 2 mm", two), ("head of 1 mm", one_millimetre(two)))
    }
    rows = [
        Row(
            case,
            name,
            f"time {figures['seconds / plain']:.2f}x plain; Dice {figures['dice']:.3f} "
            f"({figures['dice - plain']:+.3f})",
        )
        for case, by_name in found.items()
        for name, figures in by_name.items()
    ]
    return Result(dict(found), rows)
