"""Corrections on disk while they are made, so that a crash loses at most the last stroke.

A journal is one append-only file: first what the model had proposed, then, each time
something changed, the slices that changed. It holds labels and no image, and it knows the
volume only by a salted hash, so it cannot tell whose head it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dante.errors import DanteError
from napari_dante.files import write_bytes

__all__ = ["Entry", "Journal", "Saved", "read_journal", "volume_key"]

_MAGIC = b"napari-dante journal 1\n"
_FRAME = struct.Struct("<II")
_COMPRESSION = 1


@dataclass(frozen=True, eq=False)
class Entry:
    """One slice as it stood: index, whether a person edited or approved it, labels (2D)."""

    index: int
    edited: bool
    approved: bool
    plane: NDArray[Any]


@dataclass(frozen=True, eq=False)
class Saved:
    """What a journal tells.

    Attributes
    ----------
    baseline
        What the model had proposed (z, y, x).
    axis
        The axis that `slices` count along.
    labels
        The label table as JSON data.
    slices
        The last entry of each slice that is changed or approved.
    """

    baseline: NDArray[Any]
    axis: int
    labels: Sequence[Mapping[str, Any]]
    slices: Mapping[int, Entry]

    @property
    def data(self) -> NDArray[Any]:
        """The labels as they stood."""
        data = self.baseline.copy()
        along = np.moveaxis(data, self.axis, 0)
        for entry in self.slices.values():
            along[entry.index] = entry.plane
        return data


class Journal:
    """Writes one journal; every entry is on the disk when :meth:`append` returns.

    Parameters
    ----------
    path
        File to write; what was there is replaced in one step.
    start
        State to begin from.

    Raises
    ------
    OSError
        If the disk does not take it.
    """

    def __init__(self, path: Path, start: Saved) -> None:
        self.path = path
        baseline = np.ascontiguousarray(start.baseline)
        head = {
            "shape": baseline.shape,
            "type": baseline.dtype.str,
            "axis": start.axis,
            "labels": list(start.labels),
        }
        frames = [_frame(head, baseline), *map(_entry_frame, start.slices.values())]
        write_bytes(path, _MAGIC + b"".join(frames))

    def append(self, entries: Iterable[Entry]) -> None:
        """Add slices; a later entry of the same slice replaces the earlier one.

        Raises
        ------
        OSError
            If the disk does not take it; what was written before stays readable.
        """
        frames = b"".join(map(_entry_frame, entries))
        with self.path.open("ab") as stream:
            stream.write(frames)
            stream.flush()
            os.fsync(stream.fileno())


def read_journal(path: Path) -> Saved:
    """Read a journal as far as it is whole: a torn last entry is left out.

    Raises
    ------
    DanteError
        If not even the proposal at its beginning can be read.
    """
    try:
        content = path.read_bytes()
        frames = _frames(content)
        head, raw = next(frames)
        shape = tuple(int(size) for size in head["shape"])
        dtype, axis = np.dtype(head["type"]), int(head["axis"])
        baseline = np.frombuffer(raw, dtype).reshape(shape)
        plane = tuple(size for index, size in enumerate(shape) if index != axis)
        slices = {}
        for item, pixels in frames:
            index, labels = int(item["index"]), np.frombuffer(pixels, dtype).reshape(plane)
            slices[index] = Entry(index, bool(item["edited"]), bool(item["approved"]), labels)
        proposed = np.moveaxis(baseline, axis, 0)
        standing = {
            index: entry
            for index, entry in slices.items()
            if entry.approved or not np.array_equal(entry.plane, proposed[index])
        }
        return Saved(baseline, axis, head["labels"], standing)
    except (OSError, StopIteration, LookupError, TypeError, ValueError, zlib.error) as error:
        raise DanteError("The saved corrections cannot be read.", detail=repr(error)) from error


def volume_key(image: NDArray[Any], salt: bytes) -> str:
    """Return what a volume is known by: a keyed hash of its voxels, 32 hexadecimal digits."""
    kind = repr((image.shape, image.dtype.str)).encode()
    digest = hashlib.blake2b(kind, key=salt, digest_size=16)
    for part in image:
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


def _entry_frame(entry: Entry) -> bytes:
    head = {"index": entry.index, "edited": entry.edited, "approved": entry.approved}
    return _frame(head, np.ascontiguousarray(entry.plane))


def _frame(head: Mapping[str, Any], array: NDArray[Any]) -> bytes:
    payload = json.dumps(head).encode() + b"\n" + zlib.compress(array.tobytes(), _COMPRESSION)
    return _FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def _frames(content: bytes) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Yield the whole frames of a journal."""
    place = len(_MAGIC)
    while content.startswith(_MAGIC) and place + _FRAME.size <= len(content):
        length, check = _FRAME.unpack_from(content, place)
        payload = content[place + _FRAME.size : place + _FRAME.size + length]
        if len(payload) < length or zlib.crc32(payload) != check:
            return
        head, _, packed = payload.partition(b"\n")
        yield json.loads(head), zlib.decompress(packed)
        place += _FRAME.size + length
