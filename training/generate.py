"""Heads of any contrast, resolution and field of view, painted from label maps.

After SynthSeg (Billot et al., Med. Image Anal. 86, 2023): a network that is shown random
contrasts learns the anatomy, not the contrast. Other than there, the tissues are painted
at 1 mm and averaged onto the network's grid, so that the target of a voxel is the share
of each structure in it, and most contrasts follow the signal equation: a run of hours on
one processor has no time for all that no scanner does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from napari_dante.model.grids import normalise_head
from training.anatomy import BRAIN, CLASSES, STRUCTURES, TISSUES, Head, structure_of, tissue_of
from training.contrast import appearance

__all__ = ["FINE", "Generator", "Sample"]

FINE = 2
"""Painted voxels along one edge of the network's voxel."""

REAL = 0.3
"""Share of the draws that take the real image of a head, where it has one."""

OTHER = 0.04
"""Share of the draws that show no head, but shapes: nothing is to be found in them."""

_INSIDE = np.isin(np.arange(len(CLASSES)), BRAIN)
_FLUID = np.array([kind.name == "CSF" for kind in CLASSES])


@dataclass(frozen=True)
class Sample:
    """What a network is shown and shall say, axes (z, y, x).

    Attributes
    ----------
    image
        (1, z, y, x), normalised as at prediction.
    structures, tissues
        (class, z, y, x), the share of each class in a voxel; sums to one.
    """

    image: torch.Tensor
    structures: torch.Tensor
    tissues: torch.Tensor


class Generator:
    """Samples by number: the same number and seed give the same sample.

    Parameters
    ----------
    heads
        To paint from.
    edge
        Voxels along each edge of a sample.
    spacing
        mm per voxel; the label maps are painted at ``spacing / FINE``.
    seed
        Another seed gives other samples.
    """

    def __init__(self, heads: Sequence[Head], edge: int, spacing: float, seed: int) -> None:
        self._heads = list(heads)
        self._real = [head for head in heads if head.image is not None]
        self._edge = edge
        self._step = spacing / FINE
        self._seed = seed

    def batch(self, numbers: Sequence[int]) -> Sample:
        """Return the samples of these numbers, stacked along a first axis."""
        samples = [self.draw(number) for number in numbers]
        return Sample(
            torch.stack([sample.image for sample in samples]),
            torch.stack([sample.structures for sample in samples]),
            torch.stack([sample.tissues for sample in samples]),
        )

    def draw(self, number: int) -> Sample:
        """Return sample `number`."""
        random = np.random.default_rng((self._seed, number))
        noise = torch.Generator().manual_seed(int(random.integers(2**62)))
        if random.random() < OTHER:
            classes = _shapes(self._edge * FINE, random, noise)
            image = _painted(classes, random, noise)
            structures = tissues = np.zeros_like(classes)
        else:
            image, structures, tissues = self._head(random, noise)
        scanned = _scanned(image, self._edge, self._step, random, noise)
        scaled = torch.from_numpy(normalise_head(scanned.numpy()))
        scaled = scaled * random.uniform(0.7, 1.4) + random.normal(0, 0.2)
        return Sample(
            scaled[None].float(),
            _shares(structures, len(STRUCTURES) + 1),
            _shares(tissues, len(TISSUES) + 1),
        )

    def _head(
        self, random: np.random.Generator, noise: torch.Generator
    ) -> tuple[torch.Tensor, NDArray[np.uint8], NDArray[np.uint8]]:
        """Return an image, its structures and its tissues on the painted grid."""
        real = bool(self._real) and random.random() < REAL
        heads = self._real if real else self._heads
        head = heads[random.integers(len(heads))]
        where = self._coordinates(head, random, noise)
        nearest = _nearest(head.classes.shape, where)
        classes = np.take(head.classes, nearest)
        tissues = tissue_of()[classes]
        if real:
            image = _curved(_sampled(head, where), random)
            if head.tissues is not None:
                tissues = np.take(head.tissues, nearest)
        else:
            image = _painted(classes, random, noise)
        structures = structure_of()[classes]
        hidden = _hidden(classes, random)
        if hidden is not None:
            image[torch.from_numpy(hidden)] = 0
            structures[hidden] = tissues[hidden] = 0
        return image, structures, tissues

    def _coordinates(
        self, head: Head, random: np.random.Generator, noise: torch.Generator
    ) -> list[torch.Tensor]:
        """Return where each painted voxel lies in the head, three (z, y, x) in voxels."""
        size = self._edge * FINE
        middle = head.centres.mean(axis=0)
        centre = head.centres[random.integers(len(head.centres))]
        centre = middle + 0.75 * (centre - middle)
        far = random.random() < 0.05
        centre += random.uniform(-60, 60, 3) if far else random.uniform(-12, 12, 3)
        matrix = _affine(random) * self._step
        line = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
        knots = int(random.integers(4, 10))
        bend = random.uniform(0, 3.5) * 4 / knots
        moved = functional.interpolate(
            bend * torch.randn(1, 3, knots, knots, knots, generator=noise),
            size=(size, size, size),
            mode="trilinear",
            align_corners=True,
        )[0]
        return [
            moved[axis]
            .add_(line[:, None, None] * matrix[axis, 0])
            .add_(line[:, None] * matrix[axis, 1])
            .add_(line * matrix[axis, 2] + centre[axis])
            for axis in range(3)
        ]


def _shapes(size: int, random: np.random.Generator, noise: torch.Generator) -> NDArray[np.uint8]:
    """Return smooth random shapes of some classes, in half of the cases in a round body."""
    count, knots = int(random.integers(2, 7)), int(random.integers(3, 12))
    fields = functional.interpolate(
        torch.randn(1, count, knots, knots, knots, generator=noise),
        size=(size, size, size),
        mode="trilinear",
    )[0]
    kinds = random.integers(0, len(CLASSES), count).astype(np.uint8)
    classes = np.take(kinds, fields.argmax(0).numpy())
    if random.random() < 0.5:
        line = np.linspace(-1, 1, size)
        radii, centre = random.uniform(0.4, 1.3, 3), random.uniform(-0.3, 0.3, 3)
        z, y, x = (((line - c) / r) ** 2 for c, r in zip(centre, radii, strict=True))
        classes[z[:, None, None] + y[:, None] + x > 1] = 0
    return classes


def _affine(random: np.random.Generator) -> NDArray[np.float64]:
    """Draw a rotation, zoom and shear, mirrored in half of the cases.

    Left and right are joined in every structure, so a mirrored head is a head.
    """
    angles = random.normal(0, 0.12, 3)
    matrix = np.diag(random.uniform(0.87, 1.15, 3) * random.uniform(0.94, 1.06))
    for axis, angle in enumerate(angles):
        first, second = sorted({0, 1, 2} - {axis})
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    matrix = (np.eye(3) + random.uniform(-0.08, 0.08, (3, 3)) * (1 - np.eye(3))) @ matrix
    if random.random() < 0.5:
        matrix[:, 2] *= -1
    return matrix


def _nearest(shape: tuple[int, ...], where: Sequence[torch.Tensor]) -> NDArray[np.int32]:
    """Return the flat index of the nearest voxel; beyond the edge that of the edge."""
    index: torch.Tensor | None = None
    for size, place in zip(shape, where, strict=True):
        row = place.round().clamp_(0, size - 1).to(torch.int32)
        index = row if index is None else index.mul_(size).add_(row)
    assert index is not None
    return index.numpy()


def _sampled(head: Head, where: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the real image at these places, trilinear."""
    assert head.image is not None
    shape = head.image.shape
    grid = torch.stack([2 * where[axis] / (shape[axis] - 1) - 1 for axis in (2, 1, 0)], dim=-1)
    return functional.grid_sample(
        torch.from_numpy(head.image)[None, None], grid[None], align_corners=True
    )[0, 0]


def _curved(image: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    """Give a real image another contrast in four of ten cases, by a random smooth curve.

    Most of these curves fall: what was bright in T1 is dark in T2.
    """
    choice = random.random()
    if choice < 0.6:
        return image
    heights = np.array([0, *np.sort(random.uniform(0, 1, 5))[::-1]])
    if choice > 0.9:
        heights = random.uniform(0, 1, 6)
        heights[0] *= 0.15
    table = np.interp(np.linspace(0, 5, 256), np.arange(6), heights).astype(np.float32)
    return torch.from_numpy(table)[(image * 255).to(torch.int32)]


def _painted(
    classes: NDArray[np.uint8], random: np.random.Generator, noise: torch.Generator
) -> torch.Tensor:
    """Paint tissue classes, each in two shades that change from place to place."""
    mean, spread = appearance(random)
    brain = np.array([bool(kind.structure or kind.tissue) for kind in CLASSES])
    shade = np.where(brain, random.uniform(0, 0.05), random.uniform(0, 0.35))
    shade = (shade * random.uniform(-1, 1, len(CLASSES))).astype(np.float32)
    shade[0] = 0
    size = classes.shape[0]
    knots = int(random.integers(5, 17))
    field = functional.interpolate(
        torch.randn(1, 1, knots, knots, knots, generator=noise),
        size=classes.shape,
        mode="trilinear",
    )[0, 0]
    grain = torch.randn(size, size, size, generator=noise)
    image = torch.from_numpy(np.take(mean, classes))
    image += torch.from_numpy(np.take(shade, classes)) * (field > 0)
    image += torch.from_numpy(np.take(spread, classes)) * (0.7 * grain + 0.5 * field)
    return image.clamp_(min=0)


def _hidden(classes: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.bool_] | None:
    """Draw what is not in the image: all but the brain, and what is out of the field of view."""
    hidden: NDArray[np.bool_] | None = None
    choice = random.random()
    if choice < 0.18:
        kept = _INSIDE | _kept_with_brain(choice < 0.1)
        hidden = np.take(~kept, classes)
    if random.random() < 0.15:
        hidden = np.zeros(classes.shape, bool) if hidden is None else hidden
        axis, size = int(random.integers(3)), classes.shape[0]
        cut = int(size * random.uniform(0.1, 0.5))
        part = slice(0, cut) if random.random() < 0.5 else slice(size - cut, size)
        hidden[tuple(part if other == axis else slice(None) for other in range(3))] = True
    return hidden


def _kept_with_brain(fluid: bool) -> NDArray[np.bool_]:
    """Return the classes beside the brain that a skull-stripped image holds."""
    ventricles = np.array([kind.tissue == 1 and kind.name != "CSF" for kind in CLASSES])
    return ventricles | _FLUID if fluid else ventricles


def _scanned(
    image: torch.Tensor,
    edge: int,
    step: float,
    random: np.random.Generator,
    noise: torch.Generator,
) -> torch.Tensor:
    """Return the image as a scanner of random resolution would, on the network's grid."""
    counts = _grid(edge, edge * step * FINE, random)
    shape = [max(4, round(count)) for count in counts.tolist()]
    seen = functional.interpolate(image[None, None], size=shape, mode="area")
    knots = int(random.integers(2, 6))
    bias = functional.interpolate(
        random.uniform(0, 0.3) * torch.randn(1, 1, knots, knots, knots, generator=noise),
        size=shape,
        mode="trilinear",
        align_corners=True,
    )
    seen = seen * bias.exp_()
    seen = seen / max(float(seen.max()), 1e-6)
    level = random.uniform(0, 0.06) * random.random()
    first = seen + level * torch.randn(seen.shape, generator=noise)
    if random.random() < 0.6:  # magnitude images are Rician
        seen = (first**2 + (level * torch.randn(seen.shape, generator=noise)) ** 2).sqrt()
    else:
        seen = first
    if random.random() < 0.4:
        seen = seen.clamp(min=0) ** float(np.exp(random.normal(0, 0.3)))
    if tuple(seen.shape[2:]) != (edge, edge, edge):
        seen = functional.interpolate(seen, size=(edge, edge, edge), mode="trilinear")
    if random.random() < 0.4:
        seen = _smoothed(seen, random.uniform(0, 0.3))
    return seen[0, 0]


def _grid(edge: int, length: float, random: np.random.Generator) -> NDArray[np.float64]:
    """Draw how many voxels a scan has along each axis of `length` mm, at most `edge`."""
    choice = random.random()
    size = np.full(3, random.uniform(0.8, 2.0))
    if choice > 0.82:
        size = np.full(3, random.uniform(1.5, 3.0))
    elif choice > 0.6:
        size = np.full(3, random.uniform(0.6, 2.2))
        size[random.integers(3)] = random.uniform(2.5, 7.0)
    return np.minimum(edge, length / size)


def _smoothed(image: torch.Tensor, weight: float) -> torch.Tensor:
    """Mix each voxel with its neighbours along each axis in turn."""
    for axis in (2, 3, 4):
        lower, upper = image.roll(1, axis), image.roll(-1, axis)
        image = (1 - weight) * image + weight / 2 * (lower + upper)
    return image


def _shares(fine: NDArray[np.uint8], count: int) -> torch.Tensor:
    """Return the share of each class in the network's voxels."""
    edge = fine.shape[0] // FINE
    shares = torch.zeros(count, edge**3)
    part = torch.full((1, edge**3), 1 / FINE**3)
    labels = torch.from_numpy(fine)
    for z in range(FINE):
        for y in range(FINE):
            for x in range(FINE):
                corner = labels[z::FINE, y::FINE, x::FINE].reshape(1, -1)
                shares.scatter_add_(0, corner.long(), part)
    return shares.reshape(count, edge, edge, edge)
