"""The models on this computer: shipped starters, kept versions, the way back. Torch-free."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from platformdirs import user_data_path

from napari_dante.errors import ModelError
from napari_dante.files import atomic_path, sha256, write_text
from napari_dante.model.file import (
    Lineage,
    check_name,
    read_header,
    read_model,
    write_model,
)
from napari_dante.model.spec import ArchitectureSpec

__all__ = ["Library", "Version", "number_of"]

STARTERS = Path(str(files("napari_dante"))) / "resources" / "models"
USUAL = "brain-tissue"
"""The model to begin with where nobody has chosen one."""


@dataclass(frozen=True)
class Version:
    """One version of a model.

    Attributes
    ----------
    number
        0 for what came with napari-dante, then counted up.
    path
        Its file.
    lineage
        Where it comes from, None where the file cannot be read.
    parent
        Number of the version that it was taught from, None where that is not here.
    current
        Whether it is the one in use.
    """

    number: int
    path: Path
    lineage: Lineage | None
    parent: int | None
    current: bool


class Library:
    """Named lines of model versions in a folder; nothing is ever overwritten or deleted.

    A version is ``ROOT/NAME/0001.safetensors``, counted up; ``ROOT/NAME/current`` names
    the one in use. Version 0 of a shipped model is the file inside the package.

    Parameters
    ----------
    root
        The folder; by default the user's data folder.
    """

    def __init__(self, root: Path | None = None) -> None:
        self._root = root or user_data_path("napari-dante") / "models"

    def shipped(self) -> tuple[str, ...]:
        """Return the names of the models that come with napari-dante, the usual one first."""
        found = (path.stem for path in STARTERS.glob("*.safetensors"))
        return tuple(sorted(found, key=lambda name: (name != USUAL, name)))

    def names(self) -> tuple[str, ...]:
        """Return the names of all models, shipped ones first."""
        own = sorted(path.name for path in self._root.glob("*") if self._numbered(path.name))
        return tuple(dict.fromkeys([*self.shipped(), *own]))

    def versions(self, name: str) -> tuple[Path, ...]:
        """Return the files of a model, oldest first; empty for an unknown name."""
        starter = STARTERS / f"{name}.safetensors"
        return (*((starter,) if starter.is_file() else ()), *self._numbered(name))

    def resolve(self, model: str | Path) -> Path:
        """Return the file of a path, or the current version of a name.

        Raises
        ------
        ModelError
            If there is neither such a file nor such a name.
        """
        path = Path(model)
        if path.is_file():
            return path
        versions = self.versions(str(model))
        if not versions:
            known = ", ".join(self.names())
            raise ModelError(f"There is no such model; the library has: {known}.")
        current = self._root / str(model) / "current"
        chosen = current.read_text().strip() if current.is_file() else ""
        return next((path for path in versions if path.name == chosen), versions[-1])

    def history(self, name: str) -> tuple[Version, ...]:
        """Return the versions of a model, oldest first, and which came from which.

        It takes as long as hashing the files does, the first time.
        """
        paths = self.versions(name)
        current = self.resolve(name) if paths else None
        digests = {_digest(path, path.stat().st_mtime_ns): number_of(path) for path in paths}
        found = []
        for path in paths:
            lineage = _lineage(path)
            parent = digests.get(lineage.parent or "") if lineage is not None else None
            found.append(Version(number_of(path), path, lineage, parent, path == current))
        return tuple(found)

    def header(self, name: str) -> tuple[ArchitectureSpec, Lineage]:
        """Return the spec and lineage of the current version."""
        return read_header(self.resolve(name))

    def keep(self, candidate: Path) -> Path:
        """Copy a model file in as the next version of its name, and make it current.

        Raises
        ------
        ModelError
            If `candidate` is not a model of ours.
        """
        _, lineage = read_header(candidate)

        def copied(target: Path) -> None:
            with atomic_path(target) as temporary:
                shutil.copyfile(candidate, temporary)

        return self._add(lineage.name, copied)

    def _add(self, name: str, write: Callable[[Path], None]) -> Path:
        """Let a file be written as the next version of a name, and make it current."""
        folder, numbered = self._root / name, self._numbered(name)
        number = int(numbered[-1].stem) + 1 if numbered else 1
        target = folder / f"{number:04d}.safetensors"
        write(target)
        write_text(folder / "current", target.name)
        return target

    def _identity(self, name: str) -> str:
        return self.header(name)[1].model_id

    def take(self, file: Path) -> str:
        """Bring in a model file that somebody was given; return what it is called here.

        It is the next version of a model that it continues. Where another model has its
        name already, it gets a number behind it.

        Raises
        ------
        ModelError
            If `file` is not a model of ours.
        """
        lineage = read_header(file)[1]
        digest, name, number = sha256(file), lineage.name, 1
        while (known := self.versions(name)) and self._identity(name) != lineage.model_id:
            number += 1
            name = f"{lineage.name[:58]} ({number})"
        for path in known:
            if sha256(path) == digest:
                self.use(name, path)
                return name
        if name == lineage.name:
            self.keep(file)
            return name
        model = read_model(file)
        renamed = replace(model, lineage=replace(lineage, name=name))
        self._add(name, lambda target: write_model(target, renamed, half=False))
        return name

    def use(self, name: str, version: Path) -> None:
        """Make one of :meth:`versions` the current one; the others stay.

        Raises
        ------
        ModelError
            If `version` is not a version of `name`.
        """
        check_name(name)
        if version not in self.versions(name):
            raise ModelError(f"This is not a version of the model '{name}'.")
        write_text(self._root / name / "current", version.name)

    def _numbered(self, name: str) -> list[Path]:
        return sorted((self._root / name).glob("[0-9][0-9][0-9][0-9].safetensors"))


def number_of(path: Path) -> int:
    """Return the version number of a file of the library; a shipped one is 0."""
    return int(path.stem) if re.fullmatch(r"\d{4}", path.stem) else 0


def _lineage(path: Path) -> Lineage | None:
    try:
        return read_header(path)[1]
    except ModelError:
        return None


@lru_cache(maxsize=256)
def _digest(path: Path, _written: int) -> str:
    return sha256(path)
