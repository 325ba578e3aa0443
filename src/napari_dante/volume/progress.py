"""Telling how far a reading is, and reading several files at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["Tell", "in_threads", "untold"]

Tell = Callable[[float], None]
"""Hears how much is done, from 0 to 1; in the thread that reads."""

T = TypeVar("T")
R = TypeVar("R")
_MOST_THREADS = 4


def untold(part: float) -> None:
    """Tell nobody."""


def in_threads(function: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """Yield what `function` makes of each of the items, in their order.

    While one thread waits for the disk or decodes, another one works. The first exception
    ends it: what has not begun by then is left.
    """
    if len(items) < 2:
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1, len(items)))
    try:
        yield from pool.map(function, items)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
