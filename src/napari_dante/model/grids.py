"""From the scanner's grid to the network's, and back.

Its text is part of a generated Dafne ``apply`` function; see :mod:`.dafne_source`.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter, uniform_filter

AIR = 0.1
"""Brightness, from the darkest to the mean of the body, below which a place is air."""

SLAB = 2**22
"""Numbers to resample at once: some slices, which a processor's cache can hold."""


def body_box(image: np.ndarray) -> tuple[slice, ...]:
    """Return a box with everything that is brighter than air, and a margin around it.

    Every second voxel is looked at, averaged over five of them along each axis. So noise
    and single bright voxels do not count, and what counts is seen two of them further:
    that is the margin. Where air is as bright as the body, and where there is no body, the
    box is the whole volume.

    Parameters
    ----------
    image
        (z, y, x), finite.
    """
    steps = [2 if size >= 32 else 1 for size in image.shape]
    sparse = np.asarray(image[tuple(slice(None, None, step) for step in steps)], np.float32)
    smooth = uniform_filter(np.minimum(sparse, np.percentile(sparse, 99.9)), 5, mode="mirror")
    bright = smooth[smooth > smooth.mean(dtype=np.float64)]
    if bright.size == 0:
        return tuple(slice(0, size) for size in image.shape)
    darkest = np.percentile(smooth, 1)
    body = smooth > darkest + AIR * (bright.mean(dtype=np.float64) - darkest)
    box = []
    for axis, (size, step) in enumerate(zip(image.shape, steps, strict=True)):
        found = np.flatnonzero(body.any(axis=tuple({0, 1, 2} - {axis})))
        box.append(slice(int(found[0]) * step, min(size, (int(found[-1]) + 1) * step)))
    return tuple(box)


def normalise_head(image: np.ndarray) -> np.ndarray:
    """Scale intensities by the bright part of the image.

    Voxels above the mean of the :func:`body_box` stand for the body, once the brightest
    0.1 % are clipped; the image is clipped at the body's 99.5th percentile and brought to
    zero mean and unit deviation over it. The result does not change when the scanner's
    scale and offset do, nor when the field of view holds more air.

    Parameters
    ----------
    image
        (z, y, x); non-finite voxels count as the minimum.

    Returns
    -------
    numpy.ndarray
        float32, same shape; all zeros for a constant image.
    """
    values = np.array(image, dtype=np.float32, order="C")
    finite = np.isfinite(values)
    if not finite.all():
        values[~finite] = values[finite].min() if finite.any() else 0.0
    # A million voxels know the statistics as well as ten.
    sample = values[tuple(slice(None, None, max(1, size // 96)) for size in values.shape)]
    inside = sample[body_box(sample)]
    inside = np.minimum(inside, np.percentile(inside, 99.9))
    body = inside[inside > inside.mean(dtype=np.float64)]
    if body.size == 0:
        return np.zeros_like(values)
    top = np.percentile(body, 99.5)
    body = np.minimum(body, top)
    np.minimum(values, top, out=values)
    values -= float(body.mean(dtype=np.float64))
    values /= float(body.std(dtype=np.float64)) or 1.0
    return values


def normalise_nonzero(image: np.ndarray) -> np.ndarray:
    """Bring the voxels that are not zero to zero mean and unit deviation; zero stays zero.

    That is how Dante prepares its images (MONAI's ``NormalizeIntensity(nonzero=True)``).

    Parameters
    ----------
    image
        (z, y, x); non-finite voxels count as zero.
    """
    values = np.nan_to_num(np.array(image, dtype=np.float32, order="C"), posinf=0, neginf=0)
    body = values != 0
    if body.any():
        inside = values[body].astype(np.float64)
        values[body] = (inside - inside.mean()) / (inside.std() or 1.0)
    return values


def normalise(image: np.ndarray, how: str) -> np.ndarray:
    """Scale intensities as a model expects it: ``"head"`` or ``"nonzero"``."""
    return normalise_nonzero(image) if how == "nonzero" else normalise_head(image)


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


def cubic_weights(old: int, new: int) -> np.ndarray:
    """Return the (new, old) matrix that resamples an axis over the same field of view.

    Cubic convolution with a = -1/2 (Keys 1981), the edge repeated. A linear one would blur
    between the voxels, and the probabilities of thin structures sink below those around.
    """
    if old == new:
        return np.eye(new, dtype=np.float32)
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    weights = np.zeros((new, old), np.float32)
    for tap in range(-1, 3):
        column = np.floor(centres).astype(np.intp) + tap
        x = np.abs(centres - column)
        near = (1.5 * x - 2.5) * x**2 + 1
        far = ((-0.5 * x + 2.5) * x - 4) * x + 2
        row, column = np.arange(new), np.clip(column, 0, old - 1)
        np.add.at(weights, (row, column), np.where(x <= 1, near, far))
    return weights


def weights_where(needed: np.ndarray, new: int) -> tuple[slice, slice, np.ndarray]:
    """Return the part of :func:`cubic_weights` that has to do with the `needed` old voxels.

    That is the new voxels which these have an influence on, all the old ones which those
    look at, and the weights between them.
    """
    weights = cubic_weights(len(needed), new)
    rows = span(weights[:, needed].any(axis=1))
    columns = span(weights[rows].any(axis=0))
    return rows, columns, weights[rows, columns]


def span(found: ArrayLike) -> slice:
    """Return the slice from the first to the last True of a row; empty where there is none."""
    places = np.flatnonzero(found)
    return slice(int(places[0]), int(places[-1]) + 1) if places.size else slice(0, 0)


def resampled_slabs(
    probabilities: torch.Tensor, shape: Sequence[int], below: float
) -> Iterator[tuple[tuple[slice, ...], torch.Tensor]]:
    """Resample class probabilities, slab by slab, where the background is not certain.

    Parameters
    ----------
    probabilities
        (class, z, y, x).
    shape
        Wanted (z, y, x).
    below
        Only the box is resampled that voxels with less background probability than this
        have an influence on.

    Yields
    ------
    tuple
        Where the slab lies in `shape`, and its values (class, z, y, x), which sum to one
        but may leave 0 to 1 a little.
    """
    if tuple(shape) == tuple(probabilities.shape[1:]):
        yield tuple(slice(0, size) for size in shape), probabilities
        return
    unsure = (probabilities[0] < below).cpu().numpy()
    needed = [np.asarray(unsure.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    rows, columns, weights = zip(*map(weights_where, needed, shape), strict=True)
    along_z, along_y, along_x = (
        torch.from_numpy(weight).to(probabilities.device) for weight in weights
    )
    box = probabilities[(slice(None), *columns)]
    thickness = max(1, SLAB // max(1, len(box) * len(along_y) * len(along_x)))
    for first in range(0, len(along_z), thickness):
        along = along_z[first : first + thickness]
        used = span(along.any(dim=0).cpu().numpy())
        planes = along_y @ box[:, used] @ along_x.T
        slab = torch.einsum("nz,czyx->cnyx", along[:, used], planes)
        start = rows[0].start + first
        yield (slice(start, start + len(along)), *rows[1:]), slab
