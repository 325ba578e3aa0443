"""How everything here is measured: variants in turn in one run, medians, ratios.

A machine is never equally fast twice, so no figure stands alone. All variants run once in
every round, each round in another order, on one thread; a figure is the median over the
rounds of the ratio within a round. Time is processor time, which other programs on the
machine disturb least. Memory is the peak of a process that does nothing else.
"""

from __future__ import annotations

import random
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar

__all__ = ["Result", "Row", "benchmark", "fresh", "in_turn", "memory", "ratio", "rounds"]

P = ParamSpec("P")
T = TypeVar("T")
STATUS = Path("/proc/self/status")


class Row(NamedTuple):
    """A line of the table."""

    case: str
    variant: str
    figures: str


@dataclass(frozen=True)
class Result:
    """What a benchmark found: JSON data, and the lines of the table."""

    data: dict[str, Any]
    rows: list[Row]


def benchmark(name: str, *, quick: bool) -> Result:
    """Run the benchmark of this name; here, because a new process cannot import __main__."""
    result: Result = import_module(f"benchmarks.{name}").run(quick)
    return result


def rounds(quick: bool) -> int:
    """Return how many rounds to measure."""
    return 7 if quick else 9


def in_turn(
    variants: Mapping[str, Callable[[], object]],
    count: int,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, list[float]]:
    """Return the seconds by `clock` of each variant in `count` rounds, after a warm-up."""
    order = list(variants)
    for name in order:
        variants[name]()
    found: dict[str, list[float]] = {name: [] for name in order}
    shuffle = random.Random(0).shuffle
    for _ in range(count):
        shuffle(order)
        for name in order:
            begin = clock()
            variants[name]()
            found[name].append(clock() - begin)
    return found


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median over the rounds of `ours` divided by `theirs`."""
    return statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))


def fresh(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what an importable `function` returns in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *args, **kwargs).result()


def memory() -> tuple[int, int]:
    """Return the memory of this process in bytes, now and at its highest.

    ``getrusage`` would count what the parent held before this program was loaded, so
    Linux is asked directly; elsewhere both numbers are the highest.
    """
    if STATUS.is_file():
        fields = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
        now, highest = (int(fields[key].split()[0]) * 1024 for key in ("VmRSS", "VmHWM"))
        return now, highest
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    highest *= 1 if sys.platform == "darwin" else 1024
    return highest, highest
