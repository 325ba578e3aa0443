"""Which volumes were taught here, and which of their slices are the exam for good. Torch-free.

An append-only list of JSON lines in the user's data folder. It knows a volume by a salted
hash and nothing else, so it cannot tell whose head it was.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Literal

from platformdirs import user_data_path

from napari_dante.errors import TeachError
from napari_dante.files import append_json, read_json_lines
from napari_dante.volume.geometry import VIEWS

__all__ = ["CaseBook", "Taught"]


@dataclass(frozen=True)
class Taught:
    """A lesson on a volume, or that its model was kept.

    Attributes
    ----------
    volume
        Salted hash of the volume.
    model
        Identity of the model's line.
    axis
        Axis of the slices (z, y, x).
    learn, exam
        Slices that were learned from and examined.
    what
        ``"examined"`` once the exam is over, ``"kept"`` when the person took the model.
    date
        ISO 8601.
    """

    volume: str
    model: str
    axis: int
    learn: tuple[int, ...]
    exam: tuple[int, ...]
    what: Literal["examined", "kept"]
    date: str = ""


class CaseBook:
    """What was taught on this computer.

    Parameters
    ----------
    path
        The file; by default in the user's data folder.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or user_data_path("napari-dante") / "cases.jsonl"

    def add(self, taught: Taught) -> None:
        """Add a line; it is on the disk when this returns.

        Raises
        ------
        OSError
            If the disk does not take it.
        """
        date = taught.date or datetime.now(UTC).date().isoformat()
        append_json(self._path, {**asdict(taught), "date": date})

    def entries(self) -> tuple[Taught, ...]:
        """Return every line that is whole, oldest first."""
        return self._read()

    def frozen(self, volume: str, axis: int) -> tuple[int, ...]:
        """Return the slices of a volume that are never learned from, ascending.

        Raises
        ------
        TeachError
            If they are slices of another axis: each slice along `axis` would hold a part
            of them.
        """
        found = [one for one in self._read() if one.volume == volume and one.exam]
        other = next((one.axis for one in found if one.axis != axis), None)
        if other is not None:
            raise TeachError(
                f"The exam of this image is on {VIEWS[other]} slices, which lessons on "
                f"{VIEWS[axis]} ones would learn from: correct {VIEWS[other]} slices."
            )
        return tuple(sorted({index for one in found for index in one.exam}))

    def taught(self, model: str) -> tuple[Taught, ...]:
        """Return the lessons that a line of models kept, the last one of each volume."""
        kept = [one for one in self._read() if one.model == model and one.what == "kept"]
        return tuple({one.volume: one for one in kept}.values())

    def _read(self) -> tuple[Taught, ...]:
        try:
            state = self._path.stat()
        except FileNotFoundError:
            return ()
        return _entries(self._path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4)
def _entries(path: Path, *_: int) -> tuple[Taught, ...]:
    """Return the whole lines of a file, which the panel asks for at every stroke."""
    found = []
    for data in read_json_lines(path):
        with suppress(ValueError, TypeError, KeyError):
            slices = {name: tuple(map(int, data[name])) for name in ("learn", "exam")}
            found.append(Taught(**{**data, **slices}))
    return tuple(found)
