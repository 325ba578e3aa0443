"""Bringing a model file in, as a generator of events. Qt-free."""

from __future__ import annotations

import tempfile
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from napari_dante.errors import ForeignCode, ModelError
from napari_dante.files import sha256
from napari_dante.jobs.client import Worker
from napari_dante.jobs.events import Event
from napari_dante.jobs.requests import Import
from napari_dante.model.library import Library
from napari_dante.model.shelf import Shelf, shown
from napari_dante.model.trust import is_trusted, trust
from napari_dante.ui.work import ask

__all__ = ["Foreign", "allow", "take"]


@dataclass(frozen=True)
class Foreign:
    """A model file that only its own code can run, which nobody has allowed yet."""

    path: Path
    digest: str

    @property
    def sentence(self) -> str:
        """What a person should know before they allow it."""
        return (
            "This model can only be run by program code inside its file; nothing of it has run "
            f"yet. Its SHA-256 begins with {shown(self.digest)}: compare that with what its maker "
            "tells you. The code would run apart and without the network, but as you: it could "
            "read and change your files. Trust it only if you trust whoever made it."
        )


def take(
    worker: Worker, library: Library, shelf: Shelf, path: Path
) -> Generator[Event, None, str | Foreign]:
    """Bring a model file into the library or onto the shelf; return its name there.

    Nothing in the file is run.

    Returns
    -------
    str or Foreign
        Foreign where a person has to allow its code first.

    Raises
    ------
    ModelError, JobError
        If it is not a model, or one that cannot be used.
    """
    if not path.is_file():
        raise ModelError("There is no such model file.")
    if path.suffix.lower() != ".model":
        return library.take(path)
    digest = sha256(path)
    with tempfile.TemporaryDirectory(prefix="napari-dante-") as folder:
        out = Path(folder) / "model.safetensors"
        try:
            yield from ask(worker, Import(str(path), str(out), name=""))
        except ForeignCode:
            return shelf.put(path, digest) if is_trusted(digest) else Foreign(path, digest)
        return library.take(out)


def allow(shelf: Shelf, foreign: Foreign) -> str:
    """Put a file on the shelf and allow its code to run; return its name there.

    Raises
    ------
    ModelError
        If it is another file by now, or gone.
    """
    name = shelf.put(foreign.path, foreign.digest)
    trust(foreign.digest)
    return name
