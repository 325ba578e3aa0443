"""Pictures of generated heads, to be looked at.

python -m training.sheet --data DATA [--count 24] --out docs/images/generated.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_dante.volume import default_label
from training.anatomy import load_heads
from training.generate import Generator

__all__ = ["sheet", "tile"]

COLOURS = np.array([(0, 0, 0), *(np.multiply(default_label(k).colour, 255) for k in range(1, 21))])


def grey(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a slice as 0…255, its darkest and brightest per cent clipped."""
    low, high = np.percentile(image, (1, 99.5))
    scaled: NDArray[np.float32] = np.clip((image - low) / max(high - low, 1e-6), 0, 1)
    return scaled * 255


def tile(image: NDArray[np.float32], labels: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Return a slice (y, x) of an image above the same slice with its labels."""
    plain = np.repeat(grey(image)[..., None], 3, axis=-1)
    colour = COLOURS[labels]
    mixed = np.where(labels[..., None] > 0, 0.5 * plain + 0.5 * colour, plain)
    return np.concatenate([plain, mixed]).astype(np.uint8)


def sheet(tiles: list[NDArray[np.uint8]], columns: int, scale: int = 2) -> Image.Image:
    """Return tiles in rows of `columns`."""
    blank = np.zeros_like(tiles[0])
    tiles = tiles + [blank] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[i : i + columns], axis=1) for i in range(0, len(tiles), columns)]
    picture = Image.fromarray(np.concatenate(rows))
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def main() -> None:
    """Write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    generator = Generator(load_heads(arguments.data), 64, 2.0, arguments.seed)
    tiles = []
    for number in range(arguments.count):
        sample = generator.draw(number)
        structures = sample.structures.argmax(0).numpy()
        image = sample.image[0].numpy()
        if number % 3 == 1:  # a coronal cut, its top up
            image, structures = (part.transpose(1, 0, 2)[:, ::-1] for part in (image, structures))
        tiles.append(tile(image[32], structures[32]))
    sheet(tiles, 8).save(arguments.out)


if __name__ == "__main__":
    main()
