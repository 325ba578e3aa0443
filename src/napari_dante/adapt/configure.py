"""The network that fits a set of cases and the device that trains it.

The rules are those of nnU-Net (Isensee et al., Nat. Methods 2021) where a graphics card
has hours: a patch as large as memory allows, levels until the coarsest map is four voxels
wide, no down-sampling across thick slices before the slices themselves have caught up.

A processor has minutes, and its time is proportional to the memory that a step touches.
What follows was measured on one core in equal seconds, as Dice on exam slices; how is in
``docs/results.md``.

* A network starts with a stride: its first maps hold a quarter (2D) or an eighth (3D) of
  the voxels. 0.63 against 0.33 (23 abdominal organs, 2D, one minute), 0.78 against 0.68
  (brain tissue, 3D, five minutes).
* It sees slices, not volumes, whenever all cases were corrected on the same axis: 0.63
  against 0.05 (organs), 0.78 against 0.53 (tissue), 0.44 against 0.24 (cartilage). A step
  computes nothing for slices that nobody corrected. With every slice of the knee trusted
  it was still 0.53 against 0.38.
* Three halvings and four patches in a step: a fourth halving (0.58) or eight patches
  (0.63) cost more steps than they brought.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import Any

from napari_dante.adapt.configuration import Configuration
from napari_dante.adapt.fingerprint import Fingerprint
from napari_dante.adapt.footprint import footprint
from napari_dante.adapt.pooling import Edges, Spacing, halvings, kernels, pooling
from napari_dante.adapt.recipe import Dimensions, FromScratch
from napari_dante.errors import TeachError
from napari_dante.model.spec import ArchitectureSpec, NetworkName
from napari_dante.volume import Label

__all__ = ["configure"]

TOO_THICK = 6.0
"""Slices this many times thicker than their pixels say little about each other."""
FEW = 8
"""With fewer slices than this there is nothing to look at across them."""
LEAST = 8
"""Shortest edge of a patch in voxels; a smaller volume is padded."""
COVER = 0.25
"""Share of the body that a patch shall see."""
GROWTH = (1.0, 1.4, 2.0)
"""How much longer the shortest voxels may become for a patch to cover as much."""
MOST_BATCH = 4


@dataclass(frozen=True)
class _Style:
    """Which network, across which slices if it is two-dimensional, why, and how large."""

    network: NetworkName
    flat: int | None
    why: str
    fast: bool

    def spec(self, patch: Edges, spacing: Spacing, labels: Sequence[Label]) -> ArchitectureSpec:
        """Return the network for patches of about this size, rounded up to what it halves."""
        if self.network == "SegResNet":
            strides = halvings(patch, 3)
        else:
            strides = pooling(patch, spacing, 5 if self.fast else 3)
        if self.network == "DynUNet" and len(strides) < 2:
            strides = pooling(patch, spacing, 2, coarsest=2)
        factors = [prod(steps) for steps in zip(*strides, strict=True)]
        z, y, x = (ceil(edge / f) * f for edge, f in zip(patch, factors, strict=True))
        arguments = self._arguments(strides, spacing)
        return ArchitectureSpec(self.network, arguments, tuple(labels), spacing, (z, y, x))

    def _arguments(self, strides: Sequence[Edges], spacing: Spacing) -> dict[str, Any]:
        width, most = (32, 320) if self.fast else (16, 128)
        filters = [min(width * 2**level, most) for level in range(len(strides) + 2)]
        steps = [self._inside(stride) for stride in strides]
        if self.network == "SegResNet":
            blocks = [1, 2, 2, 4, 4, 4][: len(steps) + 1]
            return {"init_filters": width, "blocks_down": blocks, "blocks_up": [1] * len(steps)}
        if self.network == "DynUNet":
            return {
                "filters": filters[:-1],
                "kernel_size": [self._inside(k) for k in kernels(strides, spacing, self.flat)],
                "strides": [self._inside((1, 1, 1)), *steps],
                "upsample_kernel_size": steps,
            }
        if self.fast:
            steps.insert(0, self._inside((1, 1, 1)))
        return {
            "channels": filters[: len(steps) + 1],
            "strides": steps,
            "num_res_units": 1,
            "norm": ["INSTANCE", {"affine": True}],
        }

    def _inside(self, values: Edges) -> list[int]:
        """Leave out the axis that a two-dimensional network does not see."""
        return [value for axis, value in enumerate(values) if axis != self.flat]


def configure(
    fingerprint: Fingerprint,
    labels: Sequence[Label],
    recipe: FromScratch,
    memory: int,
    *,
    fast: bool,
) -> Configuration:
    """Return the network, patch and batch for these cases.

    The spacing is the median of the cases. Where the largest patch that fits would cover
    less than a quarter of the body, the voxels grow, the finer axes first, until it does
    or until they are twice as large.

    Parameters
    ----------
    fingerprint
        Of the cases.
    labels
        The structures to learn.
    recipe
        What is chosen already, and the least batch.
    memory
        Bytes that a training step may take.
    fast
        Whether a graphics card does the work.

    Raises
    ------
    TeachError
        If not even the smallest patch fits into `memory`.
    """
    style = _style(fingerprint, recipe, fast=fast)
    least = recipe.training.batch
    spec = None
    for spacing in _spacings(fingerprint.spacing, style.flat):
        body = _body(fingerprint, spacing)
        patches = _patches(body, spacing, style.flat)
        specs = [style.spec(patch, spacing, labels) for patch in patches]
        first = bisect_left(specs, True, key=lambda one: footprint(one).step(least) <= memory)
        if first == len(specs):
            continue
        spec = specs[first]
        covered = prod(min(1.0, e / b) for e, b in zip(spec.patch, body, strict=True) if e > 1)
        if covered >= COVER:
            break
    if spec is None:
        raise TeachError(
            "Not even the smallest network fits into the memory that a step may take; allow "
            "more (memory=2 for 2 GiB), or a smaller batch."
        )
    needs = footprint(spec)
    fitting = (memory - needs.fixed) // needs.patch
    batch = max(least, min(fitting, MOST_BATCH))
    return Configuration(spec, batch, needs.step(batch), _sentence(spec, batch, style.why))


def _style(fingerprint: Fingerprint, recipe: FromScratch, *, fast: bool) -> _Style:
    flat, why = _dimensions(fingerprint, recipe.dimensions, fast=fast)
    network = recipe.network
    if network == "auto":
        network = "DynUNet" if fast else "UNet"
    return _Style(network, flat, why, fast)


def _dimensions(
    fingerprint: Fingerprint, choice: Dimensions, *, fast: bool
) -> tuple[int | None, str]:
    """Return the axis whose slices are seen one by one, None in three dimensions, and why."""
    axis, thick, times = fingerprint.axis, fingerprint.thick_axis, fingerprint.thickness
    if choice == "2":
        return (thick if axis is None else axis), "two dimensions were asked for"
    if choice == "auto" and axis is not None:
        if fingerprint.shape[axis] < FEW:
            return axis, f"there are only {fingerprint.shape[axis]} slices"
        if thick == axis and times >= TOO_THICK:
            return axis, f"slices are {times:.0f} times thicker than pixels"
        if not fast:
            return axis, "without a graphics card slices one by one are learned sooner"
    if times >= 2:
        return None, f"slices are {times:.0f} times thicker than pixels"
    return None, "voxels are about as long as they are wide"


def _spacings(spacing: Spacing, flat: int | None) -> Iterator[Spacing]:
    """Yield the spacing, then ones without its shortest voxels, up to twice their length."""
    shortest = min(size for axis, size in enumerate(spacing) if axis != flat)
    for growth in GROWTH:
        z, y, x = (
            size if axis == flat else max(size, growth * shortest)
            for axis, size in enumerate(spacing)
        )
        yield z, y, x


def _body(fingerprint: Fingerprint, spacing: Spacing) -> Edges:
    """Return the extents of the body in voxels of another spacing."""
    z, y, x = (
        max(1, ceil(count * old / new))
        for count, old, new in zip(fingerprint.body, fingerprint.spacing, spacing, strict=True)
    )
    return z, y, x


def _patches(body: Edges, spacing: Spacing, flat: int | None) -> list[Edges]:
    """Return boxes from the whole body down to the smallest, cut from its longest sides."""
    longest = max(count * size for count, size in zip(body, spacing, strict=True))
    found: dict[Edges, None] = {}
    while True:
        z, y, x = (
            1 if axis == flat else max(LEAST, min(count, ceil(longest / size)))
            for axis, (count, size) in enumerate(zip(body, spacing, strict=True))
        )
        found[z, y, x] = None
        if max(z, y, x) == LEAST:
            return list(found)
        longest *= 0.85


def _sentence(spec: ArchitectureSpec, batch: int, why: str) -> str:
    patch = " x ".join(str(edge) for edge in spec.patch)
    voxels = " x ".join(f"{size:.3g}" for size in spec.spacing)
    return (
        f"{2 if spec.slice_axis is not None else 3}D {spec.network}, patch {patch} voxels of "
        f"{voxels} mm (z, y, x), {batch} in a step, because {why}."
    )
