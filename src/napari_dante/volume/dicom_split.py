"""One SeriesInstanceUID may hold several volumes; here they are told apart.

Another grid, component, echo time, b-value or stack is always another volume. What may
change from slice to slice within a volume (acquisition number, trigger time, ...) divides a
series only where positions repeat, and then by as few traits as will do.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from napari_dante.volume.dicom_slice import Slice
from napari_dante.volume.dicom_traits import ALWAYS, WHERE_REPEATED, Value, told
from napari_dante.volume.geometry import by

__all__ = ["SAME_PLACE_MM", "Part", "split"]

SAME_PLACE_MM = 0.02
"""Scanners write positions with two decimals at worst."""

_PLANES = ("sagittal", "coronal", "axial")


@dataclass(frozen=True)
class Part:
    """Slices of a series that are meant to be one volume.

    Parameters
    ----------
    words
        What tells it from the other parts, such as ``"TE 4.6 ms"``; empty where it is alone.
    slices
        In no particular order.
    most
        How many slices the largest part on the same grid has.
    """

    words: str
    slices: tuple[Slice, ...] = field(repr=False)
    most: int

    @property
    def suffix(self) -> str:
        """`words` as the end of an id."""
        slug = re.sub(r"[^a-z0-9.]+", "-", self.words.lower()).strip("-")
        return f"-{slug}" if slug else ""


@dataclass(frozen=True)
class _Piece:
    values: dict[str, Value]
    slices: list[Slice]
    grid: int


def split(slices: Sequence[Slice]) -> list[Part]:
    """Divide the slices of a series into parts that may each form one grid."""
    pieces = [
        piece
        for number, grid in enumerate(_grids(slices))
        for same in _by_traits(grid, ALWAYS)
        for piece in _divide(same, number)
    ]
    pieces.sort(key=lambda piece: [_sortable(value) for value in piece.values.values()])
    words = _words(pieces)
    most = {one.grid: 0 for one in pieces}
    for one in pieces:
        most[one.grid] = max(most[one.grid], len(one.slices))
    return [
        Part(text, tuple(one.slices), most[one.grid])
        for one, text in zip(pieces, words, strict=True)
    ]


def _grids(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Group slices that have the same size, orientation and pixel spacing."""
    sizes = np.array([(one.rows, one.columns) for one in slices], dtype=np.float64)
    turns = np.array([(*one.along_row, *one.along_column) for one in slices])
    spacing = np.log(np.array([one.spacing for one in slices]))
    signs = np.hstack([sizes, turns, spacing])
    left = np.lexsort(signs.T)
    groups = []
    while len(left):
        same = (np.abs(signs[left] - signs[left[0]]) <= 1e-3).all(axis=1)
        groups.append([slices[index] for index in left[same]])
        left = left[~same]
    return groups


def _by_traits(slices: Sequence[Slice], names: Sequence[str]) -> list[list[Slice]]:
    groups: dict[tuple[Value, ...], list[Slice]] = {}
    for one in slices:
        groups.setdefault(tuple(one.traits[name] for name in names), []).append(one)
    return list(groups.values())


def _divide(slices: list[Slice], grid: int) -> list[_Piece]:
    """Divide slices of one grid so that positions do not repeat, if their traits allow it."""
    first = slices[0]
    always: dict[str, Value] = {
        "plane": _PLANES[int(np.argmax(np.abs(first.normal)))],
        "matrix": by((first.columns, first.rows)),
        "pixels": "{:.4g} x {:.4g} mm".format(*first.spacing[::-1]),
        **{name: first.traits[name] for name in ALWAYS},
    }
    places = _places(slices)
    columns = _columns(slices, places)
    names = _fewest(columns, places)
    groups: dict[tuple[Value, ...], list[Slice]] = {}
    for index, one in enumerate(slices):
        groups.setdefault(tuple(columns[name][index] for name in names), []).append(one)
    absent = dict.fromkeys((*WHERE_REPEATED, "phase"))
    return [
        _Piece(always | absent | dict(zip(names, values, strict=True)), group, grid)
        for values, group in groups.items()
    ]


def _places(slices: Sequence[Slice]) -> NDArray[np.int64]:
    """Return the number of each position along the normal; equal positions have equal numbers."""
    normal = slices[0].normal
    offsets = np.array([float(one.position @ normal) for one in slices])
    order = np.argsort(offsets, kind="stable")
    numbers = np.empty(len(slices), dtype=np.int64)
    numbers[order] = np.cumsum(np.diff(offsets[order], prepend=-np.inf) >= SAME_PLACE_MM)
    return numbers


def _columns(slices: Sequence[Slice], places: NDArray[np.int64]) -> dict[str, list[Value]]:
    """Return, per trait that could divide the slices, its value for every slice."""
    times = int(np.bincount(places).max())
    columns = {name: [one.traits[name] for one in slices] for name in WHERE_REPEATED}
    if len(set(columns["trigger"])) > times:
        columns["phase"] = _phases(columns.pop("trigger"), places)
    # A trait with more values than there are repeats would leave loose slices.
    return {name: values for name, values in columns.items() if 1 < len(set(values)) <= times}


def _phases(triggers: Sequence[Value], places: NDArray[np.int64]) -> list[Value]:
    """Return the rank of each trigger time at its position; None where their counts differ."""
    times: dict[int, list[float]] = {}
    for place, time in zip(places.tolist(), triggers, strict=True):
        times.setdefault(place, []).append(time if isinstance(time, float) else np.nan)
    ranks = {place: sorted(set(found)) for place, found in times.items()}
    if np.isnan([time for found in times.values() for time in found]).any():
        return [None] * len(triggers)
    if len({len(found) for found in ranks.values()}) > 1:
        return [None] * len(triggers)
    return [
        float(ranks[place].index(time) + 1) if isinstance(time, float) else None
        for place, time in zip(places.tolist(), triggers, strict=True)
    ]


def _fewest(columns: dict[str, list[Value]], places: NDArray[np.int64]) -> tuple[str, ...]:
    """Return the traits that undo every repeat that can be undone, in the fewest parts.

    None where that takes more parts than there are repeats: parts that share the positions
    between them would look like volumes with wide gaps.
    """
    times = int(np.bincount(places).max())
    if times == 1:
        return ()
    everything = set(zip(*columns.values(), places.tolist(), strict=True))
    best: tuple[str, ...] = ()
    score = (len(places) - len(everything), times + 1)
    for size in range(1, len(columns) + 1):
        for names in combinations(columns, size):
            keys = list(zip(*(columns[name] for name in names), strict=True))
            parts = len(set(keys))
            repeats = len(keys) - len(set(zip(keys, places.tolist(), strict=True)))
            if (repeats, parts) < score:
                best, score = names, (repeats, parts)
    return best


def _words(pieces: Sequence[_Piece]) -> list[str]:
    """Return what tells each piece from the others."""
    if len(pieces) == 1:
        return [""]
    told_of: list[list[str]] = [[] for _ in pieces]
    for name in pieces[0].values:
        known = sorted({piece.values[name] for piece in pieces}, key=_sortable)
        if len(known) == 1:
            continue
        for texts, piece in zip(told_of, pieces, strict=True):
            texts.append(_text(name, piece.values[name], known))
    words = [", ".join(filter(None, texts)) or "part" for texts in told_of]
    repeated, seen = Counter(words), Counter[str]()
    for index, text in enumerate(words):
        if repeated[text] > 1:
            seen[text] += 1
            words[index] = f"{text} ({seen[text]})"
    return words


def _text(name: str, value: Value, known: Sequence[Value]) -> str:
    if name in ("plane", "matrix", "pixels"):
        return str(value)
    if value is None and name not in ALWAYS:
        return ""
    return told(name, value, known)


def _sortable(value: Value) -> tuple[bool, bool, float, str]:
    number = value if isinstance(value, float) else 0.0
    return value is not None, isinstance(value, float), number, str(value)
