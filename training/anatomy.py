"""The tissues that heads are painted from, and the structures that networks learn.

A *tissue class* is what has one appearance in an image: finer than a structure inside the
brain, and the only thing there is outside of it. Left and right are joined.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, map_coordinates

from napari_dante.volume import Geometry, LabelMap, Volume, read_nifti, read_nifti_labels

__all__ = [
    "BRAIN",
    "CLASSES",
    "STRUCTURES",
    "TISSUES",
    "Head",
    "classes_of",
    "load_heads",
    "make_head",
    "structure_of",
    "tissue_of",
]


@dataclass(frozen=True)
class TissueClass:
    """One appearance.

    Attributes
    ----------
    name
        What it is.
    ids
        FreeSurfer numbers, left and right; empty for what is split off by :func:`classes_of`.
    structure, tissue
        Channel of ``brain-structures`` and of ``brain-tissue``; 0 is the background.
    """

    name: str
    ids: tuple[int, ...]
    structure: int
    tissue: int


STRUCTURES = (
    "white matter",
    "cortex",
    "lateral ventricle",
    "cerebellar white matter",
    "cerebellar cortex",
    "thalamus",
    "caudate",
    "putamen",
    "pallidum",
    "third ventricle",
    "fourth ventricle",
    "brain stem",
    "hippocampus",
    "amygdala",
    "accumbens",
    "ventral DC",
    "inferior lateral ventricle",
)
TISSUES = ("CSF", "grey matter", "white matter")
CSF, GREY, WHITE = 1, 2, 3

CLASSES = (
    TissueClass("air", (0,), 0, 0),
    TissueClass("white matter", (2, 41, 251, 252, 253, 254, 255), 1, WHITE),
    TissueClass("cortex", (3, 42), 2, GREY),
    TissueClass("lateral ventricle", (4, 43), 3, CSF),
    TissueClass("cerebellar white matter", (7, 46), 4, WHITE),
    TissueClass("cerebellar cortex", (8, 47), 5, GREY),
    TissueClass("thalamus", (10, 49), 6, GREY),
    TissueClass("caudate", (11, 50), 7, GREY),
    TissueClass("putamen", (12, 51), 8, GREY),
    TissueClass("pallidum", (13, 52), 9, GREY),
    TissueClass("third ventricle", (14,), 10, CSF),
    TissueClass("fourth ventricle", (15,), 11, CSF),
    TissueClass("brain stem", (16,), 12, WHITE),
    TissueClass("hippocampus", (17, 53), 13, GREY),
    TissueClass("amygdala", (18, 54), 14, GREY),
    TissueClass("accumbens", (26, 58), 15, GREY),
    TissueClass("ventral DC", (28, 60), 16, WHITE),
    TissueClass("inferior lateral ventricle", (5, 44), 17, CSF),
    TissueClass("CSF", (24, 72), 0, CSF),
    TissueClass("choroid plexus", (31, 63), 3, CSF),
    TissueClass("white matter lesion", (77,), 1, WHITE),
    TissueClass("vessel", (30, 62), 0, 0),
    TissueClass("optic chiasm", (85,), 0, WHITE),
    TissueClass("eye", (259,), 0, 0),
    TissueClass("compact bone", (165,), 0, 0),
    TissueClass("marrow", (), 0, 0),
    TissueClass("skin", (258,), 0, 0),
    TissueClass("fat", (), 0, 0),
    TissueClass("muscle", (), 0, 0),
    TissueClass("deep soft tissue", (), 0, 0),
)
NUMBER = {kind.name: number for number, kind in enumerate(CLASSES)}
BRAIN = tuple(n for n, kind in enumerate(CLASSES) if kind.structure or kind.tissue in (GREY, WHITE))

# From the surface of the head inwards, mm: skin, fat, muscle, the rest.
SKIN, FAT, MUSCLE = 2.0, 7.0, 20.0
MARGIN = 1
"""Air around a head in voxels: what lies beyond the arrays is read from it."""

COMPACT = 1.6
"""Depth in mm from which bone holds marrow."""


@dataclass(frozen=True)
class Head:
    """A head to paint, its arrays on a 1 mm grid (z, y, x) in display order.

    Attributes
    ----------
    classes
        uint8 numbers of :data:`CLASSES`, with a margin of air.
    image
        A real image of it, float32 scaled to 0…1, or None.
    tissues
        uint8 CSF, grey and white matter of that image when others know them better than
        `classes`, or None.
    centres
        (n, 3) voxels of the brain; patches are drawn around them.
    """

    classes: NDArray[np.uint8]
    image: NDArray[np.float32] | None
    tissues: NDArray[np.uint8] | None
    centres: NDArray[np.intp]


def structure_of() -> NDArray[np.uint8]:
    """Return the structure of each tissue class."""
    return np.array([kind.structure for kind in CLASSES], np.uint8)


def tissue_of() -> NDArray[np.uint8]:
    """Return the CSF, grey or white matter that each tissue class counts as."""
    return np.array([kind.tissue for kind in CLASSES], np.uint8)


def classes_of(labels: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Return the tissue classes of a whole-head map of FreeSurfer ids at 1 mm.

    Ids that are not known count as air. Soft tissue and skull are one id each, but many
    appearances: they are split by their depth below their surface.
    """
    table = np.zeros(int(max(labels.max(), 259)) + 1, np.uint8)
    for number, kind in enumerate(CLASSES):
        table[list(kind.ids)] = number
    found: NDArray[np.uint8] = table[labels]
    bone, skin = found == NUMBER["compact bone"], found == NUMBER["skin"]
    if bone.any():
        found[bone & (distance_transform_edt(bone) > COMPACT)] = NUMBER["marrow"]
    if skin.any():
        depth = distance_transform_edt(found != 0)
        for name, limit in (("fat", SKIN), ("muscle", FAT), ("deep soft tissue", MUSCLE)):
            found[skin & (depth > limit)] = NUMBER[name]
    return found


def load_heads(data: Path) -> list[Head]:
    """Return the heads that may be learned from.

    Never ``bold5000_csi3``, the T2 of MNI152 or ``itk_head_t1``: they are only measured.
    The MNI152 image is an average whose sulci are blurred: its own tissue maps say what
    is to be seen in it, SAMSEG's labels are sharper than that.

    Parameters
    ----------
    data
        The folder with ``label_maps``, ``bold5000_csi1`` and ``mni152_2mm``.
    """
    maps, csi1, mni = data / "label_maps", data / "bold5000_csi1", data / "mni152_2mm"
    return [
        make_head(read_nifti_labels(maps / "head_a.nii.gz")),
        make_head(read_nifti_labels(maps / "head_b.nii.gz")),
        make_head(
            read_nifti_labels(maps / "mni152_1mm.nii.gz"),
            read_nifti(mni / "t1.nii.gz"),
            read_nifti_labels(mni / "tissue.nii.gz"),
        ),
        make_head(read_nifti_labels(csi1 / "labels.nii.gz"), read_nifti(csi1 / "t1.nii.gz")),
    ]


def make_head(
    labels: LabelMap, image: Volume | None = None, tissues: LabelMap | None = None
) -> Head:
    """Return a head from its labels, and perhaps an image and its tissues on other grids."""
    classes = classes_of(labels.array)
    used = [np.flatnonzero(classes.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    box = tuple(slice(int(where[0]), int(where[-1]) + 1) for where in used)
    onto = labels.geometry
    classes = np.pad(classes[box], MARGIN)
    return Head(
        classes,
        None if image is None else _scaled(np.pad(_resampled(image, onto, 1)[box], MARGIN)),
        None if tissues is None else np.pad(_resampled(tissues, onto, 0)[box], MARGIN),
        np.argwhere(np.isin(classes, BRAIN)),
    )


def _resampled(volume: Volume | LabelMap, onto: Geometry, order: int) -> NDArray[Any]:
    """Resample to another grid of the same world by splines; 0 outside of the volume."""
    step = np.linalg.inv(volume.geometry.display_affine) @ onto.display_affine
    shape = onto.shape
    lines = [np.arange(size) * step[axis, axis] + step[axis, 3] for axis, size in enumerate(shape)]
    grid = np.stack(np.meshgrid(*lines, indexing="ij")).astype(np.float32)
    values = volume.array.astype(np.float32) if order else volume.array.astype(np.uint8)
    found: NDArray[Any] = map_coordinates(values, grid, order=order, mode="constant")
    return found


def _scaled(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bring an image to 0…1, its brightest 0.3 % clipped."""
    low, high = np.percentile(image[image > 0], (0.0, 99.7))
    scaled: NDArray[np.float32] = np.clip((image - low) / (high - low), 0, 1).astype(np.float32)
    return scaled
