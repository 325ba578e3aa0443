"""What a starter says of images that show no head, and of heads that are hard to read.

    python -m training.strangers --model M --data DATA

One line for each: refused or not, how large the mask is, in how many pieces, and how much in
doubt the model was, beside the limit of its card.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from napari_dante.errors import ModelError
from napari_dante.model.library import Library
from napari_dante.model.likeness import check_likeness, largest_share
from napari_dante.model.segmenter import Segmenter
from napari_dante.volume import open_volume

__all__ = ["hard_heads", "strangers"]

Image = tuple[str, NDArray[Any], tuple[float, float, float]]


def strangers(data: Path) -> Iterator[Image]:
    """Yield images that are no head: real ones, and what noise and shapes look like."""
    for name, path in (("knee", "knee_dess/image.nii.gz"), ("abdomen", "abdomen_mr/image.nii.gz")):
        volume = open_volume(data / path)
        yield name, volume.array, volume.geometry.spacing
    random = np.random.default_rng(0)
    two = (2.0, 2.0, 2.0)
    yield "noise", random.normal(size=(90, 100, 90)), two
    yield "noise, magnitude", random.rayleigh(size=(90, 100, 90)), two
    yield "blobs", gaussian_filter(random.normal(size=(90, 100, 90)), 4), two
    radius = _ellipsoid((90, 100, 90))
    yield "ball", (radius < 1) * 100 + random.normal(size=radius.shape), two
    phantom = np.where(radius < 1, 40.0, -1000.0)
    phantom[(radius < 1) & (radius > 0.85)] = 1200
    yield "CT of a shell", phantom + random.normal(0, 10, radius.shape), two
    yield "nothing but NaN", np.full((40, 40, 40), np.nan), two
    yield "constant", np.ones((40, 40, 40)), two


def hard_heads(data: Path) -> Iterator[Image]:
    """Yield heads that the starters never learned from, whole and as scanners spoil them."""
    itk = open_volume(data / "itk_head_t1/t1.nii.gz")
    yield "ITK T1", itk.array, itk.geometry.spacing
    volume = open_volume(data / "mni152_2mm/t2.nii.gz")
    image, two = np.asarray(volume.array, np.float32), (2.0, 2.0, 2.0)
    yield "T2", image, two
    yield "T2, 6 mm slices", image[::3], (6.0, 2.0, 2.0)
    yield "T2, left half", image[:, :, :48], two
    yield "T2, lower half", image[:48], two
    spoilt = image - 3000
    spoilt[10, 10, 10], spoilt[:20] = 1e7, np.nan
    yield "T2, negative, an outlier, NaN slices", spoilt, two
    real = open_volume(data / "bold5000_csi3/t1.nii.gz")
    whole = np.asarray(real.array, np.float32)
    yield "T1", whole, real.geometry.spacing
    yield "T1, one slice", whole[90:91], (1.0, 1.0, 1.0)
    fine = np.repeat(np.repeat(whole[90:100, 60:180, 20:140], 5, axis=1), 5, axis=2)
    yield "T1, 0.2 mm, ten slices", fine, (1.0, 0.2, 0.2)


def _ellipsoid(shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """Return the distance from the middle of a volume, 1 at nine tenths of its edge."""
    z, y, x = (np.linspace(-1, 1, size) / 0.9 for size in shape)
    distance: NDArray[np.float64] = np.sqrt(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2)
    return distance


def describe(segmenter: Segmenter, image: Image) -> str:
    """Return a line about what a model says of an image."""
    name, array, spacing = image
    found = segmenter.analyse(array, spacing)
    try:
        check_likeness(segmenter.card, found, spacing)
        verdict = "mask" if found.classes.any() else "empty"
    except ModelError:
        verdict = "refused"
    litres = (found.classes > 0).sum() * np.prod(spacing) / 1e6
    share = largest_share(found.classes, spacing)
    return f"{name:38s} {verdict:8s} {litres:5.2f} l  {share:4.2f}  doubt {found.doubt:.3f}"


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True)
    arguments = parser.parse_args()
    segmenter = Segmenter.from_file(Library().resolve(arguments.model), "cpu")
    card = segmenter.card
    print(f"limit {None if card is None else card.doubt}")
    for group in (hard_heads(arguments.data), strangers(arguments.data)):
        for image in group:
            print(describe(segmenter, image), flush=True)


if __name__ == "__main__":
    main()
