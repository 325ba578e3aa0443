"""Measure a starter on labelled heads.

    python -m training.evaluate --model M --data DATA

M is a name in the library or a file. ``bold5000_csi3`` and the T2 of MNI152 are never
learned from and choose nothing; the other heads were learned from.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from napari_dante.model.library import Library
from napari_dante.model.segmenter import Segmenter
from napari_dante.volume import Geometry, LabelMap, read_nifti, read_nifti_labels
from training.anatomy import TISSUES
from training.score import Case, references, score

__all__ = ["HELD_OUT", "LEARNED", "real_case"]

HELD_OUT: Mapping[str, str] = {
    "T1": "BOLD5000 CSI3, 1 mm, labels by SAMSEG",
    "T2": "MNI152 average, 2 mm, its own tissue maps",
}
LEARNED: Mapping[str, str] = {
    "T1 (learned)": "BOLD5000 CSI1, 1 mm, labels by SAMSEG",
    "T1 average (learned)": "MNI152 average, 2 mm, its own tissue maps",
}


def real_case(name: str, data: Path) -> Case:
    """Return one of :data:`HELD_OUT` or :data:`LEARNED`."""
    makers: Mapping[str, Callable[[], Case]] = {
        "T1": lambda: _bold5000(data / "bold5000_csi3"),
        "T2": lambda: _average(data, "t2"),
        "T1 (learned)": lambda: _bold5000(data / "bold5000_csi1"),
        "T1 average (learned)": lambda: _average(data, "t1"),
    }
    return makers[name]()


def _bold5000(folder: Path) -> Case:
    volume = read_nifti(folder / "t1.nii.gz")
    labels = read_nifti_labels(folder / "labels.nii.gz")
    return Case(volume.array, volume.geometry.spacing, references(labels))


def _average(data: Path, contrast: str) -> Case:
    """Return MNI152 with its tissue maps, and SAMSEG's structures on its grid."""
    volume = read_nifti(data / f"mni152_2mm/{contrast}.nii.gz")
    labels = read_nifti_labels(data / "label_maps/mni152_1mm.nii.gz")
    tissue = read_nifti_labels(data / "mni152_2mm/tissue.nii.gz").array
    structures = {
        name: _onto(mask, labels, volume.geometry) > 0.5
        for name, mask in references(labels).items()
        if not name.startswith("tissue:")
    }
    tissues = {f"tissue:{name}": tissue == k for k, name in enumerate(TISSUES, start=1)}
    return Case(volume.array, volume.geometry.spacing, {**structures, **tissues})


def _onto(mask: NDArray[np.bool_], labels: LabelMap, onto: Geometry) -> NDArray[np.float32]:
    """Return the share of a mask around each voxel of another grid."""
    step = np.linalg.inv(labels.geometry.display_affine) @ onto.display_affine
    lines = [np.arange(n) * step[axis, axis] + step[axis, 3] for axis, n in enumerate(onto.shape)]
    grid = np.stack(np.meshgrid(*lines, indexing="ij")).astype(np.float32)
    found: NDArray[np.float32] = map_coordinates(mask.astype(np.float32), grid, order=1)
    return found


def main() -> None:
    """Print the Dice on each head."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", choices=[*HELD_OUT, *LEARNED], help="one head, not all")
    arguments = parser.parse_args()
    segmenter = Segmenter.from_file(Library().resolve(arguments.model), "cpu")
    for name, what in {**HELD_OUT, **LEARNED}.items():
        if arguments.only in (None, name):
            _, scores = score(segmenter, real_case(name, arguments.data))
            print(f"{name} ({what}): {scores}", flush=True)


if __name__ == "__main__":
    main()
