"""Model files that only their own code can run, kept apart from the library. Torch-free."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from platformdirs import user_data_path

from napari_dante.errors import ModelError
from napari_dante.files import atomic_path, sha256, write_text
from napari_dante.model.file import Lineage
from napari_dante.model.library import Version

__all__ = ["Shelf", "name_of", "shown"]

DIGITS = 12


def shown(digest: str) -> str:
    """Return the part of a SHA-256 that a person is shown and compares."""
    return digest[:DIGITS]


def name_of(digest: str) -> str:
    """Return what a file is called that nobody here knows by another name."""
    return f"Foreign model {shown(digest)}"


class Shelf:
    """Files in a folder, known by their SHA-256; what they were called is not kept.

    A file that was brought in begins a line of versions and gives it its name. What it was
    taught stands beside it in ``SHA256.json``: the later versions, in order, with where they
    come from, and the one in use.

    Parameters
    ----------
    root
        The folder; by default in the user's data folder.
    """

    def __init__(self, root: Path | None = None) -> None:
        self._root = root or user_data_path("napari-dante") / "foreign"

    def names(self) -> tuple[str, ...]:
        """Return what the models are called here."""
        return tuple(sorted(name_of(first) for first in self._firsts()))

    def find(self, name: str | None) -> Path | None:
        """Return the file of a model that is in use, None where none is called so."""
        first = self._first(name)
        return None if first is None else self._file(self._line(first)["current"])

    def put(self, path: Path, digest: str) -> str:
        """Copy in the file whose SHA-256 is `digest`; return what it is called here.

        A file that is a version of a model here becomes the one in use.

        Raises
        ------
        ModelError
            If it is another file by now, or gone.
        """
        self._copy(path, digest)
        for first in self._firsts():
            line = self._line(first)
            if digest in line["versions"]:
                self._write(first, line | {"current": digest})
                return name_of(first)
        return name_of(digest)

    def keep(self, candidate: Path, digest: str, lineage: Lineage) -> Path:
        """Copy in the file whose SHA-256 is `digest` as the next version, and use it.

        Parameters
        ----------
        candidate, digest
            The file.
        lineage
            Where it comes from; its name is that of the model here.

        Raises
        ------
        ModelError
            If it is another file by now, or gone, or there is no such model.
        """
        first = self._first(lineage.name)
        if first is None:
            raise ModelError("The model that was taught is no longer here.")
        self._copy(candidate, digest)
        line = self._line(first)
        versions = line["versions"] | {digest: asdict(lineage)}
        self._write(first, {"versions": versions, "current": digest})
        return self._file(digest)

    def use(self, name: str, version: Path) -> None:
        """Make a version of a model the current one; the others stay.

        Raises
        ------
        ModelError
            If `version` is not one.
        """
        first = self._first(name)
        if first is None or version.stem not in (first, *self._line(first)["versions"]):
            raise ModelError(f"This is not a version of the model '{name}'.")
        self._write(first, self._line(first) | {"current": version.stem})

    def history(self, name: str) -> tuple[Version, ...]:
        """Return the versions of a model, oldest first; empty for an unknown name."""
        first = self._first(name)
        if first is None:
            return ()
        line = self._line(first)
        later = {key: Lineage.from_json(data) for key, data in line["versions"].items()}
        digests = (first, *later)
        lineages = (self._given(first, name, list(later.values())), *later.values())
        numbers = {digest: number for number, digest in enumerate(digests, start=1)}
        return tuple(
            Version(
                numbers[digest],
                self._file(digest),
                lineage,
                numbers.get(lineage.parent or ""),
                digest == line["current"],
            )
            for digest, lineage in zip(digests, lineages, strict=True)
        )

    def _given(self, first: str, name: str, later: list[Lineage]) -> Lineage:
        """Return what is known of a file that was brought in."""
        written = datetime.fromtimestamp(self._file(first).stat().st_mtime, UTC)
        identity = later[0].model_id if later else ""
        return Lineage(name, identity, created=written.isoformat(timespec="seconds"))

    def _copy(self, path: Path, digest: str) -> None:
        try:
            with atomic_path(self._file(digest)) as temporary:
                shutil.copyfile(path, temporary)
                if sha256(temporary) != digest:
                    raise ModelError("The file has changed since it was opened; open it again.")
        except FileNotFoundError:
            raise ModelError("The model file is no longer there.") from None

    def _file(self, digest: str) -> Path:
        return self._root / f"{digest}.model"

    def _first(self, name: str | None) -> str | None:
        return next((first for first in self._firsts() if name_of(first) == name), None)

    def _firsts(self) -> list[str]:
        """Return the SHA-256 of each file that is not a later version of another."""
        found = [path.stem for path in self._root.glob("*.model") if len(path.stem) == 64]
        later = {digest for first in found for digest in self._line(first)["versions"]}
        return [digest for digest in found if digest not in later]

    def _line(self, first: str) -> dict[str, Any]:
        """Return what a file has become; a version that is gone is left out."""
        try:
            line = json.loads((self._root / f"{first}.json").read_text())
            versions = {
                str(key): data
                for key, data in line["versions"].items()
                if self._file(key).is_file()
            }
            current = str(line["current"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {"versions": {}, "current": first}
        return {"versions": versions, "current": current if current in versions else first}

    def _write(self, first: str, line: dict[str, Any]) -> None:
        write_text(self._root / f"{first}.json", json.dumps(line, indent=1))
