"""A whole head: our prediction against MONAI's plain sliding window.

Both scale and resample the image alike and use the same network. The plain one is in full
precision, its windows go four at a time, overlap by half and count equally, and the mask
of the network's grid is brought back by the nearest neighbour. The tissues of the average
head of 1 mm are the maps of the 2 mm head, resampled linearly like its image.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from unittest import mock

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from numpy.typing import NDArray

from benchmarks.heads import DATA, Head, head, mean_dice, model_path, one_millimetre, patient
from benchmarks.pairs import Result, Row, fresh, in_turn, memory, ratio, rounds
from napari_dante.errors import VolumeError
from napari_dante.model import precision
from napari_dante.model.grids import normalise_head, resample_image, resampled_shape
from napari_dante.model.segmenter import Segmenter

__all__ = ["run"]

PLAIN = "plain sliding window, float32"
FULL = "ours, float32"
OURS = "ours, default precision"
Mask = NDArray[np.uint8]
AVERAGE = "average head of 2 mm"
CASES: Mapping[str, Callable[[], Head]] = {
    AVERAGE: lambda: head("t1"),
    "average head of 1 mm": lambda: one_millimetre(head("t1")),
    "patient's head of 1 mm": patient,
}


def plain(segmenter: Segmenter, image: NDArray[np.float32], spacing: tuple[float, ...]) -> Mask:
    """Return the mask of a plain sliding window (z, y, x)."""
    shape = resampled_shape(image.shape, spacing, segmenter.spec.spacing)
    scaled = resample_image(normalise_head(image), shape)
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
    with mock.patch.object(precision, "precision", return_value=torch.float32):
        yield


def variants(
    segmenter: Segmenter, image: NDArray[np.float32], spacing: tuple[float, float, float]
) -> dict[str, Callable[[], Mask]]:
    """Return by name what makes a mask of an image."""

    def ours_full() -> Mask:
        with full_precision():
            return segmenter.predict(image, spacing)

    return {
        PLAIN: lambda: plain(segmenter, image, spacing),
        FULL: ours_full,
        OURS: lambda: segmenter.predict(image, spacing),
    }


def peak_memory(image: NDArray[np.float32], spacing: tuple[float, float, float], name: str) -> int:
    """Return the memory of a process that makes one mask and does nothing else, in bytes."""
    torch.set_num_threads(1)
    variants(Segmenter.from_file(model_path(), "cpu"), image, spacing)[name]()
    return memory()[1]


def _measure(of: Head, count: int, weighed: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return figures by variant; the memory of `weighed` only, each a process of its own."""
    image, truth, spacing = of
    ways = variants(Segmenter.from_file(model_path(), "cpu"), image, spacing)
    masks: dict[str, Mask] = {}

    def keep(name: str) -> None:
        masks[name] = ways[name]()

    seconds = in_turn({name: partial(keep, name) for name in ways}, count)
    score = {name: mean_dice(mask, truth) for name, mask in masks.items()}
    peaks = {name: {"peak MB": fresh(peak_memory, image, spacing, name) / 1e6} for name in weighed}
    return {
        name: {
            "rounds": count,
            "seconds": statistics.median(seconds[name]),
            "seconds / plain": ratio(seconds[name], seconds[PLAIN]),
            "dice": score[name],
            "dice - plain": score[name] - score[PLAIN],
            **peaks.get(name, {}),
        }
        for name in ways
    }


def run(quick: bool) -> Result:
    """Measure the shipped head at 2 mm and resampled to 1 mm, and a patient's head."""
    torch.set_num_threads(1)
    data: dict[str, dict[str, dict[str, float]]] = {}
    rows: list[Row] = []
    for case, load in CASES.items():
        try:
            of = load()
        except VolumeError as error:
            rows.append(Row(case, "left out", f"not in {DATA}: {error.sentence}"))
            continue
        # The larger heads are there for their Dice and memory, which no repeat changes.
        count = 3 if quick and case != AVERAGE else rounds(quick)
        data[case] = _measure(of, count, [OURS] if quick else [PLAIN, FULL, OURS])
        rows += [Row(case, name, _text(figures)) for name, figures in data[case].items()]
    return Result(dict(data), rows)


def _text(figures: dict[str, float]) -> str:
    return (
        f"time {figures['seconds / plain']:.2f}x plain; Dice {figures['dice']:.3f} "
        f"({figures['dice - plain']:+.4f})"
        + (f"; peak {figures['peak MB']:.0f} MB" if "peak MB" in figures else "")
    )
