"""A head small enough to paint in milliseconds, and a data folder made of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from training.anatomy import CLASSES, Head, make_head

from napari_dante.volume import Geometry, LabelMap, default_label, write_nifti

SIZE = 48
AFFINE = np.diag([1.0, 1.0, 1.0, 1.0])


def label_map() -> NDArray[np.int16]:
    """Nested balls of skin, skull, fluid, cortex and white matter, and a few nuclei."""
    z, y, x = np.ogrid[:SIZE, :SIZE, :SIZE]
    radius = np.sqrt(sum((axis - (SIZE - 1) / 2) ** 2 for axis in (z, y, x)))
    labels = np.zeros((SIZE,) * 3, np.int16)
    for outer, value in ((22, 258), (18, 165), (16, 24), (15, 3), (12, 41)):
        labels[radius < outer] = value
    for start, value in ((16, 4), (20, 49), (26, 12), (30, 53)):
        labels[start : start + 4, 20:28, 20:28] = value
    return labels


@pytest.fixture
def labels() -> LabelMap:
    array = label_map()
    names = {int(value): default_label(int(value)) for value in np.unique(array) if value}
    return LabelMap(array, Geometry.from_affine(array.shape, AFFINE), names)


@pytest.fixture
def head(labels: LabelMap) -> Head:
    return make_head(labels)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The files that the long run reads, all of them the small head."""
    array = label_map()
    geometry = Geometry.from_affine(array.shape, AFFINE)
    tissue = np.zeros(max(max(kind.ids, default=0) for kind in CLASSES) + 1, np.uint8)
    for kind in CLASSES:
        tissue[list(kind.ids)] = kind.tissue
    for name in ("head_a", "head_b", "mni152_1mm"):
        _write(tmp_path / f"label_maps/{name}.nii.gz", array, geometry)
    image = (array % 97).astype(np.int16)
    _write(tmp_path / "bold5000_csi1/labels.nii.gz", array, geometry)
    _write(tmp_path / "bold5000_csi1/t1.nii.gz", image, geometry)
    _write(tmp_path / "mni152_2mm/tissue.nii.gz", tissue[array], geometry)
    _write(tmp_path / "mni152_2mm/t1.nii.gz", image, geometry)
    return tmp_path


def _write(path: Path, array: NDArray[np.integer], geometry: Geometry) -> None:
    path.parent.mkdir(exist_ok=True)
    write_nifti(path, array, geometry)
