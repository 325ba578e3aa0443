"""Prediction itself: scale, resample, slide a window, resample the probabilities back.

This module is the one implementation. The segmenter imports it, and its text is what a
generated Dafne ``apply`` function carries, so it needs nothing but torch, MONAI, numpy
and scipy, and imports nothing of ours.
"""

import contextlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from scipy.ndimage import gaussian_filter

OVERLAP = 0.25


def normalise_head(image: np.ndarray) -> np.ndarray:
    """Scale intensities by the bright part of the image.

    Voxels above the mean stand for the body, once the brightest 0.1 % of all are clipped;
    the image is clipped at the body's 99.5th percentile and brought to zero mean and unit
    deviation over it. The result does not change when the scanner's scale and offset do.

    Parameters
    ----------
    image
        Any shape; non-finite voxels count as the minimum.

    Returns
    -------
    numpy.ndarray
        float32, same shape; all zeros for a constant image.
    """
    values = np.array(image, dtype=np.float32, order="C")
    finite = np.isfinite(values)
    if not finite.all():
        values[~finite] = values[finite].min() if finite.any() else 0.0
    np.minimum(values, np.percentile(values, 99.9), out=values)
    body = values[values > values.mean(dtype=np.float64)]
    if body.size == 0:
        return np.zeros_like(values)
    top = np.percentile(body, 99.5)
    np.minimum(values, top, out=values)
    body = np.minimum(body, top)
    deviation = float(body.std(dtype=np.float64))
    return (values - float(body.mean(dtype=np.float64))) / (deviation or 1.0)


def resampled_shape(
    shape: Sequence[int], spacing: Sequence[float], target: Sequence[float]
) -> tuple[int, ...]:
    """Return the shape that covers the same field of view at the `target` spacing."""
    return tuple(
        max(1, round(size * old / new))
        for size, old, new in zip(shape, spacing, target, strict=True)
    )


def working_shape(
    shape: Sequence[int], spacing: Sequence[float], target: Sequence[float], patch: Sequence[int]
) -> tuple[int, ...]:
    """Return the shape on the network's own grid, which is never resampled across slices.

    A patch of one voxel along an axis belongs to a two-dimensional network.
    """
    scaled = resampled_shape(shape, spacing, target)
    return tuple(
        size if edge == 1 else new for size, new, edge in zip(shape, scaled, patch, strict=True)
    )


def resample_image(image: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Resample to `shape` over the same field of view: blur where it shrinks, trilinear.

    Parameters
    ----------
    image
        (z, y, x) float32.
    shape
        Wanted (z, y, x).
    """
    if tuple(shape) == image.shape:
        return image
    factors = [old / new for old, new in zip(image.shape, shape, strict=True)]
    smooth = gaussian_filter(image, [max(0.0, (factor - 1) / 2) for factor in factors])
    tensor = torch.from_numpy(smooth)[None, None]
    return torch.nn.functional.interpolate(tensor, size=tuple(shape), mode="trilinear")[
        0, 0
    ].numpy()


def cpu_has_fast_bf16() -> bool:
    """Tell whether bfloat16 convolutions run in hardware on this processor."""
    with contextlib.suppress(AttributeError, RuntimeError):
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False


def autocast(device: torch.device) -> torch.autocast:
    """Return bfloat16 where the hardware has it, else full precision.

    float16 would need loss scaling on a GPU and is a hundred times slower on a CPU.
    """
    if device.type == "cuda":
        return torch.autocast("cuda", torch.bfloat16, enabled=torch.cuda.is_bf16_supported())
    enabled = device.type == "cpu" and cpu_has_fast_bf16()
    return torch.autocast("cpu", torch.bfloat16, enabled=enabled)


def slide(
    network: torch.nn.Module,
    scaled: np.ndarray,
    patch: Sequence[int],
    overlap: float,
    on_window: Callable[[], None],
) -> torch.Tensor:
    """Return class probabilities (1, class, z, y, x) on the network's own grid.

    Parameters
    ----------
    network
        In evaluation mode, on the device that shall do the work.
    scaled
        (z, y, x) float32, normalised and at the network's spacing.
    patch
        Window in voxels (z, y, x).
    overlap
        Fraction by which neighbouring windows overlap; blended with a Gaussian.
    on_window
        Called after each window, for progress; what it raises ends the prediction.
    """
    device = next(network.parameters()).device

    def predictor(window: torch.Tensor) -> torch.Tensor:
        with autocast(device):
            logits = network(window)
        for _ in window:
            on_window()
        return torch.softmax(logits.float(), dim=1)

    with torch.inference_mode():
        probabilities: torch.Tensor = sliding_window_inference(
            torch.from_numpy(np.ascontiguousarray(scaled))[None, None].to(device),
            roi_size=tuple(patch),
            # One window at a time takes torch off its fast float32 convolution on a CPU.
            sw_batch_size=(2 if device.type == "cpu" else 4) * (8 if 1 in patch else 1),
            predictor=predictor,
            overlap=overlap,
            mode="gaussian",
            padding_mode="constant",
            cval=float(scaled.min()),
        )
    return probabilities


def predict_probabilities(
    network: torch.nn.Module,
    image: np.ndarray,
    spacing: Sequence[float],
    *,
    target_spacing: Sequence[float],
    patch: Sequence[int],
    overlap: float = OVERLAP,
    on_window: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """Return the class probabilities of a whole volume on its own grid.

    Parameters
    ----------
    network, patch, overlap, on_window
        See :func:`slide`.
    image
        (z, y, x), any numeric type, in display order.
    spacing
        Voxel size of `image` in mm, (z, y, x).
    target_spacing
        The network's voxel size in mm, (z, y, x).

    Returns
    -------
    numpy.ndarray
        (class, z, y, x) float32 that sums to one over the classes.
    """
    scaled = resample_image(
        normalise_head(image), working_shape(image.shape, spacing, target_spacing, patch)
    )
    probabilities = slide(network, scaled, patch, overlap, on_window)
    if tuple(probabilities.shape[2:]) != image.shape:
        with torch.inference_mode():
            probabilities = torch.nn.functional.interpolate(
                probabilities, size=image.shape, mode="trilinear"
            )
    return probabilities[0].float().cpu().numpy()
