"""Putting together what dafne-dl cuts up: it sends large files in pieces of 50 MiB.

Dafne's FastAPI server takes each piece for a model; this one follows the protocol of the
PHP server, where the piece with the last number asks for the whole to be put together.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from shutil import rmtree

from napari_dante.federated.server.refused import Refused
from napari_dante.federated.server.uploads import Received, Uploads

__all__ = ["MAX_UPLOAD", "Chunks"]

MAX_UPLOAD = 2 * 1024**3
MOST_UNFINISHED = 16


class Chunks:
    """Pieces of uploads, kept apart for each user and file name."""

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads

    def clear(self, name: str) -> None:
        """Throw away what was never completed."""
        rmtree(self._root(name), ignore_errors=True)

    def keep(self, name: str, user: str, filename: str, index: int, piece: Received) -> None:
        """Keep piece `index` of the file that `user` calls `filename`.

        Raises
        ------
        Refused
            If the pieces together are larger than an upload may be.
        """
        folder = self._folder(name, user, filename)
        folder.mkdir(parents=True, exist_ok=True)
        self._forget_oldest(name)
        piece.path.replace(folder / str(index))
        if sum(path.stat().st_size for path in folder.iterdir()) > MAX_UPLOAD:
            rmtree(folder)
            raise Refused(413, "the upload is too large")

    def _forget_oldest(self, name: str) -> None:
        """Keep the disk from filling with what is begun and never completed."""
        begun = sorted(self._root(name).iterdir(), key=lambda path: path.stat().st_mtime)
        for folder in begun[:-MOST_UNFINISHED]:
            rmtree(folder, ignore_errors=True)

    def join(self, name: str, user: str, filename: str, total: int) -> Received:
        """Return all pieces in order as one file; the pieces are gone afterwards.

        Raises
        ------
        Refused
            If one is missing.
        """
        folder = self._folder(name, user, filename)
        whole = self._uploads.receive(name)
        try:
            for index in range(total):
                _append(whole, folder / str(index), index)
            whole.finish()
        except BaseException:
            whole.discard()
            raise
        finally:
            rmtree(folder, ignore_errors=True)
        return whole

    def _root(self, name: str) -> Path:
        return self._uploads.folder(name) / ".chunks"

    def _folder(self, name: str, user: str, filename: str) -> Path:
        return self._root(name) / hashlib.sha256(f"{user}/{filename}".encode()).hexdigest()[:32]


def _append(whole: Received, piece: Path, index: int) -> None:
    if not piece.is_file():
        raise Refused(500, f"missing chunk {index}")
    with piece.open("rb") as stream:
        while block := stream.read(1024**2):
            whole.write(block)
