"""Model files that only their own code can run, kept apart from the library. Torch-free."""

from __future__ import annotations

import shutil
from pathlib import Path

from platformdirs import user_data_path

from napari_dante.errors import ModelError
from napari_dante.files import atomic_path, sha256

__all__ = ["Shelf", "shown"]

DIGITS = 12


def shown(digest: str) -> str:
    """Return the part of a SHA-256 that a person is shown and compares."""
    return digest[:DIGITS]


class Shelf:
    """Files in a folder, known by their SHA-256; what they were called is not kept.

    Parameters
    ----------
    root
        The folder; by default in the user's data folder.
    """

    def __init__(self, root: Path | None = None) -> None:
        self._root = root or user_data_path("napari-dante") / "foreign"

    def names(self) -> tuple[str, ...]:
        """Return what the models are called here."""
        return tuple(sorted(_name(path.stem) for path in self._files()))

    def find(self, name: str | None) -> Path | None:
        """Return the file of a model, None where none is called so."""
        return next((path for path in self._files() if _name(path.stem) == name), None)

    def put(self, path: Path, digest: str) -> str:
        """Copy in the file whose SHA-256 is `digest`; return what it is called here.

        Raises
        ------
        ModelError
            If it is another file by now, or gone.
        """
        try:
            with atomic_path(self._root / f"{digest}.model") as temporary:
                shutil.copyfile(path, temporary)
                if sha256(temporary) != digest:
                    raise ModelError("The file has changed since it was opened; open it again.")
        except FileNotFoundError:
            raise ModelError("The model file is no longer there.") from None
        return _name(digest)

    def _files(self) -> list[Path]:
        return [path for path in self._root.glob("*.model") if len(path.stem) == 64]


def _name(digest: str) -> str:
    return f"Foreign model {shown(digest)}"
