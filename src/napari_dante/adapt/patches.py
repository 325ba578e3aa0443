"""Patches centred on trusted voxels, with MR augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from math import ceil
from typing import Literal

import numpy as np
import torch
from monai import transforms as mt
from numpy.typing import NDArray

__all__ = ["AugmentationName", "Grid", "Patch", "PatchSampler"]

AugmentationName = Literal["none", "mild", "strong"]

CONTEXT = 1.5
"""Edge of the box that is cut before the affine, in patches: corners stay inside."""


FLAT = 3
"""A patch this much shorter along an axis than along another has thick slices there: it is
turned, stretched and sheared within them only (Isensee et al. 2021)."""


@dataclass(frozen=True)
class Grid:
    """One case on the network's grid, axes (z, y, x).

    Attributes
    ----------
    image
        float32, normalised.
    labels
        uint8 class numbers; only meaningful where `trusted`.
    trusted
        bool, the voxels that a person vouches for.
    annotated
        bool for each class, the background first: the classes that `labels` tell apart;
        None when it is all of them.
    """

    image: NDArray[np.float32]
    labels: NDArray[np.uint8]
    trusted: NDArray[np.bool_]
    annotated: tuple[bool, ...] | None = None

    def __post_init__(self) -> None:
        if not self.image.shape == self.labels.shape == self.trusted.shape:
            raise ValueError("image, labels and trusted must share one shape")


@dataclass(frozen=True)
class Patch:
    """A training sample: labels and trusted (z, y, x), and the image (1, z, y, x).

    For a frozen network its features (channel, z', y', x') take the place of the image.
    ``annotated`` (class) says which classes the labels tell apart; None when all.
    ``earlier`` marks the rehearsal of an earlier case.
    """

    image: torch.Tensor
    labels: torch.Tensor
    trusted: torch.Tensor
    annotated: torch.Tensor | None = None
    earlier: bool = False


class PatchSampler:
    """Augmented patches by number: the same number and seed give the same patch.

    Nothing is remembered between draws, so a resumed run goes on exactly as if it had
    never stopped.

    Every structure that is present in the trusted part is drawn equally often, the
    background too, so that a rare label is not drowned. The centre lies on a trusted
    voxel, jittered by up to a quarter of the patch.

    Parameters
    ----------
    grids
        The cases.
    patch
        Size in voxels (z, y, x).
    augmentation
        ``"mild"`` keeps the contrast recognisable, ``"strong"`` is for training from
        scratch. Neither flips: left and right are anatomy.
    seed
        Another seed gives other patches.
    earlier
        Whether these are cases that the model has learned before.
    """

    def __init__(
        self,
        grids: Sequence[Grid],
        patch: tuple[int, int, int],
        augmentation: AugmentationName,
        seed: int,
        *,
        earlier: bool = False,
    ) -> None:
        self._grids = list(grids)
        self._earlier = earlier
        self._patch = patch
        self._seed = seed
        self._centres = [_voxels_by_class(grid) for grid in grids]
        self._augment = _augmentation(augmentation, patch)
        self._across = patch.index(1) + 1 if 1 in patch else None

    def draw(self, number: int) -> Patch:
        """Return patch `number`."""
        random = np.random.default_rng((self._seed, number))
        which = int(random.integers(len(self._grids)))
        by_class = self._centres[which]
        voxels = by_class[int(random.integers(len(by_class)))]
        centre = voxels[int(random.integers(len(voxels)))]
        jitter = [random.integers(-(size // 4), size // 4 + 1) for size in self._patch]
        self._augment.set_random_state(seed=int(random.integers(2**31)))
        grid = self._grids[which]
        sample = self._augmented(_cut(grid, centre + jitter, self._patch))
        return Patch(
            image=sample["image"].float(),
            labels=sample["labels"][0].long(),
            trusted=sample["trusted"][0] > 0.5,
            annotated=None if grid.annotated is None else torch.tensor(grid.annotated),
            earlier=self._earlier,
        )

    def _augmented(self, box: dict[str, NDArray[np.float32]]) -> dict[str, torch.Tensor]:
        """Augment a box, a single slice as the plane that it is."""
        across = self._across
        if across is None:
            sample = self._augment(box)
            return {key: torch.as_tensor(value) for key, value in sample.items()}
        sample = self._augment({key: value.squeeze(across) for key, value in box.items()})
        return {key: torch.as_tensor(value).unsqueeze(across) for key, value in sample.items()}


def _voxels_by_class(grid: Grid) -> list[NDArray[np.intp]]:
    """Return the coordinates (n, 3) of the trusted voxels, one array per class present."""
    coordinates = np.argwhere(grid.trusted)
    classes = grid.labels[grid.trusted]
    return [coordinates[classes == value] for value in np.unique(classes)]


def _cut(
    grid: Grid, centre: NDArray[np.intp], patch: tuple[int, int, int]
) -> dict[str, NDArray[np.float32]]:
    """Cut the box around `centre`; what lies outside the image is dark and untrusted."""
    size = np.array([edge if edge == 1 else ceil(edge * CONTEXT) for edge in patch])
    start = np.asarray(centre) - size // 2
    inside = tuple(
        slice(max(0, low), min(limit, low + length))
        for low, length, limit in zip(start, size, grid.image.shape, strict=True)
    )
    target = tuple(
        slice(part.start - low, part.stop - low) for part, low in zip(inside, start, strict=True)
    )
    box = {
        "image": np.full(size, grid.image.min(), np.float32),
        "labels": np.zeros(size, np.float32),
        "trusted": np.zeros(size, np.float32),
    }
    box["image"][target] = grid.image[inside]
    box["labels"][target] = grid.labels[inside]
    box["trusted"][target] = grid.trusted[inside]
    return {key: value[None] for key, value in box.items()}


def _augmentation(name: AugmentationName, patch: tuple[int, int, int]) -> mt.Compose:
    size = [edge for edge in patch if edge > 1]
    crop = mt.CenterSpatialCropd(("image", "labels", "trusted"), roi_size=size)
    if name == "none":
        return mt.Compose([crop])
    strength = 1.0 if name == "strong" else 0.5
    free = [strength if len(size) == 2 or edge * FLAT >= max(size) else 0.0 for edge in size]
    turns = [min(pair) for pair in combinations(free, 2)][::-1]
    return mt.Compose(
        [
            mt.RandAffined(
                ("image", "labels", "trusted"),
                prob=0.8,
                spatial_size=size,
                rotate_range=[0.5 * value for value in turns],
                scale_range=[0.25 * value for value in free],
                shear_range=[0.1 * min(pair) for pair in permutations(free, 2)],
                mode=("bilinear", "nearest", "nearest"),
                padding_mode=("border", "zeros", "zeros"),
            ),
            crop,
            mt.RandBiasFieldd("image", prob=0.4, degree=3, coeff_range=(0.0, 0.3 * strength)),
            mt.RandAdjustContrastd("image", prob=0.5, gamma=(1 - 0.4 * strength, 1 + strength)),
            mt.RandGaussianSmoothd(
                "image", prob=0.2, **{f"sigma_{axis}": (0.2, 1.0) for axis in "xyz"[: len(size)]}
            ),
            mt.RandScaleIntensityd("image", factors=0.3 * strength, prob=0.5),
            mt.RandShiftIntensityd("image", offsets=0.3 * strength, prob=0.5),
            mt.RandGaussianNoised("image", prob=0.4, std=0.2 * strength),
        ]
    )
