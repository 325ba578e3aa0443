"""How much of this computer a volume takes, and where a large one has room."""

from __future__ import annotations

import os
import shutil
import tempfile
from math import prod
from typing import Any, Literal

import numpy as np
import psutil
from numpy.typing import DTypeLike, NDArray
from platformdirs import user_cache_path

__all__ = ["crowded", "is_large", "memory", "room"]

_LARGE = 0.25
# A disk that is filled to the brim harms every program.
_LEFT_FREE = 1 << 30


def memory() -> int:
    """Return the bytes of main memory of this computer."""
    return int(psutil.virtual_memory().total)


def is_large(size: int) -> bool:
    """Whether `size` bytes are more than a quarter of the main memory."""
    return size > memory() * _LARGE


def room(shape: tuple[int, ...], dtype: DTypeLike, order: Literal["C", "F"] = "C") -> NDArray[Any]:
    """Return an array to fill, in a file without a name where it is large.

    The system writes what is not looked at to that file and takes the memory back. The file
    is in the person's cache folder, nobody else can open it, and it is gone with the array,
    even when the program is killed. Where the disk has no place for it, the array is in the
    main memory, as a small one is.

    Parameters
    ----------
    shape, dtype, order
        As for :func:`numpy.empty`.
    """
    kind = np.dtype(dtype)
    size = prod(shape) * kind.itemsize
    if is_large(size):
        folder = user_cache_path("napari-dante")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(folder).free >= size + _LEFT_FREE:
                with tempfile.TemporaryFile(dir=folder) as stream:
                    _reserve(stream.fileno(), size)
                    return np.memmap(stream, kind, "r+", shape=shape, order=order)
        except OSError:
            return np.empty(shape, kind, order)
    return np.empty(shape, kind, order)


def _reserve(file: int, size: int) -> None:
    """Take the place on the disk now: a mapped file that cannot grow ends the program."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:
        os.truncate(file, size)


def crowded(values: NDArray[Any]) -> tuple[str, ...]:
    """Return what to tell of a large volume that the main memory has to hold."""
    if isinstance(values, np.memmap) or not is_large(values.nbytes):
        return ()
    return (
        f"This volume takes {values.nbytes / memory():.0%} of the memory of this computer, "
        "because there is no place for it on the disk.",
    )
