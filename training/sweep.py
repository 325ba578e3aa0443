"""One head in every contrast, by the signal equation over its tissue map.

    python -m training.sweep --model M --data DATA [--out docs/images/sweep.png]
    python -m training.sweep --save DIR --data DATA

The second command writes the images and both label maps as NIfTI, to predict, evaluate and
teach from the command line.

The map is that of ``bold5000_csi3``, which nothing learns from. The contrasts are the
textbook settings of :data:`training.contrast.SEQUENCES`, with partial volume, a bias field
and Rician noise. They are simpler than a patient: one brightness for each tissue.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

from napari_dante.model.library import Library
from napari_dante.model.segmenter import Segmenter
from napari_dante.volume import Label, default_label, read_nifti_labels, write_nifti
from training.anatomy import STRUCTURES, TISSUES, classes_of, structure_of, tissue_of
from training.contrast import SEQUENCES, Sequence, relaxation, signal
from training.score import Case, references, score
from training.sheet import sheet, tile

__all__ = ["simulated", "sweep_cases"]

BLUR, NOISE, BIAS = 0.6, 0.02, 0.15
"""Of the point spread in mm; of the noise and the bias field as parts of the brightest."""


def simulated(
    classes: NDArray[np.uint8], sequence: Sequence, random: np.random.Generator
) -> NDArray[np.float32]:
    """Return what a scanner would show of these tissue classes at 1 mm, from 0 to about 1000.

    Parameters
    ----------
    classes
        (z, y, x) numbers of :data:`training.anatomy.CLASSES`.
    sequence
        The settings of the scan.
    random
        Of the bias field and the noise.
    """
    clean = np.take(signal(relaxation(), sequence).astype(np.float32), classes)
    knots = random.normal(0, BIAS, (4, 4, 4))
    bias = zoom(
        knots, [size / 4 for size in classes.shape], order=1, grid_mode=True, mode="nearest"
    )
    seen = gaussian_filter(clean, BLUR) * np.exp(bias)
    first, second = (random.normal(0, NOISE, classes.shape) for _ in range(2))
    magnitude: NDArray[np.float32] = np.hypot(seen + first, second).astype(np.float32)
    return 1000 * magnitude


def sweep_cases(data: Path) -> dict[str, Case]:
    """Return the head of ``bold5000_csi3`` in each contrast, by the contrast's name."""
    labels = read_nifti_labels(data / "bold5000_csi3/labels.nii.gz")
    classes, truth = classes_of(labels.array), references(labels)
    return {
        name: Case(
            simulated(classes, sequence, np.random.default_rng(number)),
            labels.geometry.spacing,
            truth,
        )
        for number, (name, sequence) in enumerate(SEQUENCES.items())
    }


def save(data: Path, folder: Path) -> None:
    """Write the head in each contrast, and what is known of it by structure and by tissue."""
    labels = read_nifti_labels(data / "bold5000_csi3/labels.nii.gz")
    folder.mkdir(parents=True, exist_ok=True)
    for name, case in sweep_cases(data).items():
        file = re.sub(r"[^a-z0-9]+", "_", name.lower().replace("*", "star"))
        write_nifti(folder / f"{file}.nii.gz", case.image.astype(np.int16), labels.geometry)
    classes = classes_of(labels.array)
    for file, table, names in (
        ("structures", structure_of(), STRUCTURES),
        ("tissues", tissue_of(), TISSUES),
    ):
        named = {value: Label(n, default_label(value).colour) for value, n in enumerate(names, 1)}
        write_nifti(folder / f"{file}.nii.gz", table[classes], labels.geometry, named)


def main() -> None:
    """Print the Dice of a model in each contrast, and draw its masks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--model")
    what.add_argument("--save", type=Path, metavar="DIR")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, help="a picture of a slice of each")
    arguments = parser.parse_args()
    if arguments.save is not None:
        save(arguments.data, arguments.save)
        return
    segmenter = Segmenter.from_file(Library().resolve(arguments.model), "cpu")
    tiles = []
    for name, case in sweep_cases(arguments.data).items():
        mask, scores = score(segmenter, case)
        print(f"{name:18s} {scores}", flush=True)
        middle = case.image.shape[0] // 2
        tiles.append(tile(case.image[middle], mask[middle]))
    if arguments.out is not None:
        sheet(tiles, 4, scale=1).save(arguments.out)


if __name__ == "__main__":
    main()
