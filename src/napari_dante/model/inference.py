"""Prediction itself: slide a window over the network's grid, and resample what it says.

This is the one implementation. The segmenter imports it, and its text is part of a
generated Dafne ``apply`` function; see :mod:`.dafne_source`.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from monai.inferers import sliding_window_inference

from napari_dante.model.grids import (
    body_box,
    normalise,
    resample_image,
    resampled_slabs,
    working_shape,
)
from napari_dante.model.precision import autocast

OVERLAP = 0.25
"""Least fraction by which neighbouring windows overlap."""

SIGMA = 1 / 3
"""Width of the Gaussian that blends windows, in windows. MONAI's 1/8 all but throws away
what a window says outside its middle, and that is right more often than not."""

CERTAIN = 0.9
"""Background probability that cannot be outvoted: where every voxel that an interpolation
looks at has more, the mask is background (two thirds would do)."""


class Prediction(NamedTuple):
    """What a network says about a volume, on the volume's own grid.

    Attributes
    ----------
    classes
        (z, y, x) uint8, the number of the most probable class.
    entropy
        (z, y, x) float32, Shannon entropy of the probabilities divided by the logarithm
        of the number of classes: 0 is sure, 1 undecided. None unless asked for.
    probabilities
        (class, z, y, x) float32 that sums to one over the classes. None unless asked for.
    doubt
        Mean entropy over what is not background, on the network's grid; 0 if all is.
    """

    classes: np.ndarray
    entropy: np.ndarray | None
    probabilities: np.ndarray | None
    doubt: float


def window_box(scaled: np.ndarray, patch: Sequence[int]) -> tuple[slice, ...]:
    """Return the part of a volume that windows are laid over.

    That is the :func:`body_box`, grown to one window where it is smaller and there is room.
    """
    box = []
    for part, edge, size in zip(body_box(scaled), patch, scaled.shape, strict=True):
        missing = max(0, edge - (part.stop - part.start))
        start = max(0, min(part.start - missing // 2, size - edge))
        box.append(slice(start, max(part.stop, min(size, start + edge))))
    return tuple(box)


def window_steps(shape: Sequence[int], patch: Sequence[int], overlap: float) -> tuple[int, ...]:
    """Return the distance of neighbouring windows on each axis.

    No more windows than the least `overlap` takes, spread evenly over the volume: the last
    one would else lie almost on the one before it. An axis with one window has its edge.
    """
    steps = []
    for size, edge in zip(shape, patch, strict=True):
        count = max(0, math.ceil((size - edge) / max(1, int(edge * (1 - overlap)))))
        steps.append(math.ceil((size - edge) / count) if count else edge)
    return tuple(steps)


def windows_at_once(device: torch.device, patch: Sequence[int]) -> int:
    """Return how many windows go through the network together.

    One alone takes torch off its fast float32 convolution on a CPU with one thread, and
    more than two bring nothing there unless they are small. A graphics card is only busy
    with about a million voxels.
    """
    voxels = 2**19 if device.type == "cpu" else 2**20
    return max(2 if device.type == "cpu" else 1, voxels // math.prod(patch))


def slide(
    network: torch.nn.Module,
    scaled: np.ndarray,
    patch: Sequence[int],
    overlap: float = OVERLAP,
    on_window: Callable[[int, int], None] = lambda done, total: None,
) -> torch.Tensor:
    """Return class probabilities (1, class, z, y, x) on the network's own grid.

    Only the :func:`window_box` is looked at; outside of it all is background.

    Parameters
    ----------
    network
        In evaluation mode, on the device that shall do the work.
    scaled
        (z, y, x) float32, normalised and at the network's spacing.
    patch
        Window in voxels (z, y, x).
    overlap
        Least fraction by which neighbouring windows overlap; blended with a Gaussian.
    on_window
        Called after each window with the number of windows done and of all, for progress;
        what it raises ends the prediction.
    """
    device = next(network.parameters()).device
    box = window_box(scaled, patch)
    inside = torch.from_numpy(np.ascontiguousarray(scaled[box]))[None, None].to(device)
    steps = window_steps(inside.shape[2:], patch, overlap)
    total = math.prod(
        max(0, math.ceil((size - edge) / step)) + 1
        for size, edge, step in zip(inside.shape[2:], patch, steps, strict=True)
    )
    done = 0

    def predictor(windows: torch.Tensor) -> torch.Tensor:
        nonlocal done
        with autocast(device, float16=True):
            logits = network(windows)
        for _ in windows:
            done += 1
            on_window(done, total)
        return torch.softmax(logits.float(), dim=1)

    with torch.inference_mode():
        found: torch.Tensor = sliding_window_inference(
            inside,
            roi_size=tuple(patch),
            sw_batch_size=windows_at_once(device, patch),
            predictor=predictor,
            # MONAI makes whole voxels of it again; the half keeps rounding errors out.
            overlap=[max(0.0, 1 - (s + 0.5) / e) for s, e in zip(steps, patch, strict=True)],
            mode="gaussian",
            sigma_scale=SIGMA,
            padding_mode="constant",
            cval=float(scaled.min()),
        )
        probabilities = found.new_zeros((1, found.shape[1], *scaled.shape))
        probabilities[:, 0] = 1
        probabilities[(slice(None), slice(None), *box)] = found
    return probabilities


def predict_volume(
    network: torch.nn.Module,
    image: np.ndarray,
    spacing: Sequence[float],
    *,
    target_spacing: Sequence[float],
    patch: Sequence[int],
    normalisation: str = "head",
    flipped: Sequence[int] = (),
    entropy: bool = False,
    probabilities: bool = False,
    on_window: Callable[[int, int], None] = lambda done, total: None,
) -> Prediction:
    """Return what a network says about a whole volume.

    Parameters
    ----------
    network, patch, on_window
        See :func:`slide`.
    image
        (z, y, x), any numeric type, in display order.
    spacing
        Voxel size of `image` in mm, (z, y, x).
    target_spacing
        The network's voxel size in mm, (z, y, x).
    normalisation
        How intensities are scaled, see :func:`normalise`.
    flipped
        Axes of (z, y, x) that the network sees the other way round.
    entropy, probabilities
        What to return besides the classes.
    """
    scaled = resample_image(
        normalise(image, normalisation), working_shape(image.shape, spacing, target_spacing, patch)
    )
    scaled = np.ascontiguousarray(np.flip(scaled, tuple(flipped)))
    coarse = slide(network, scaled, patch, on_window=on_window)[0]
    coarse = coarse.flip([axis + 1 for axis in flipped])
    classes = np.zeros(image.shape, np.uint8)
    unsure = np.zeros(image.shape, np.float32) if entropy else None
    whole = None
    if probabilities:
        whole = np.zeros((len(coarse), *image.shape), np.float32)
        whole[0] = 1
    below = 1.0 if entropy or probabilities else CERTAIN
    with torch.inference_mode():
        for where, slab in resampled_slabs(coarse, image.shape, below):
            classes[where] = slab.max(dim=0).indices.cpu().numpy()
            if unsure is None and whole is None:
                continue
            share = slab.clamp(min=0)
            share /= share.sum(dim=0)
            if unsure is not None:
                unsure[where] = normalised_entropy(share).cpu().numpy()
            if whole is not None:
                whole[(slice(None), *where)] = share.cpu().numpy()
    return Prediction(classes, unsure, whole, doubt_about(coarse))


def doubt_about(probabilities: torch.Tensor) -> float:
    """Return the mean entropy of (class, z, y, x) over what is not background."""
    found = probabilities[:, probabilities.argmax(dim=0) > 0]
    return float(normalised_entropy(found).mean()) if found.numel() else 0.0


def normalised_entropy(probabilities: torch.Tensor) -> torch.Tensor:
    """Return the Shannon entropy over the first axis, between 0 and 1 (Shannon 1948)."""
    entropy: torch.Tensor = torch.special.entr(probabilities).sum(dim=0)
    return (entropy / math.log(len(probabilities))).clamp(0, 1)
