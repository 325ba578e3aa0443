"""Putting together what dafne-dl cuts up: it sends large files in pieces of 50 MiB.

Dafne's FastAPI server takes each piece for a model; this one follows the protocol of the
PHP server, where the piece with the last number asks for the whole to be put together.
"""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from pathlib import Path
from shutil import copyfileobj, rmtree
from typing import IO

from napari_dante.federated.server.refused import Refused
from napari_dante.federated.server.store import Store
from napari_dante.files import atomic_path

__all__ = ["MAX_UPLOAD", "Chunks"]

MAX_UPLOAD = 2 * 1024**3


class Chunks:
    """Pieces of uploads, kept apart for each user and file name.

    What was never completed is thrown away when the server starts.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        for name in store.names():
            rmtree(self._root(name), ignore_errors=True)

    def keep(self, name: str, user: str, filename: str, index: int, part: IO[bytes]) -> None:
        """Keep piece `index` of the file that `user` calls `filename`.

        Raises
        ------
        Refused
            If the pieces together are larger than an upload may be.
        """
        folder = self._folder(name, user, filename)
        with atomic_path(folder / str(index)) as temporary, temporary.open("wb") as stream:
            copyfileobj(part, stream, 1024**2)
        if sum(piece.stat().st_size for piece in folder.iterdir()) > MAX_UPLOAD:
            rmtree(folder)
            raise Refused(413, "the upload is too large")

    def open_all(
        self, stack: ExitStack, name: str, user: str, filename: str, total: int
    ) -> list[IO[bytes]]:
        """Return all pieces in order; leaving `stack` closes and deletes them.

        Raises
        ------
        Refused
            If one is missing.
        """
        folder = self._folder(name, user, filename)
        stack.callback(rmtree, folder)
        pieces = [folder / str(index) for index in range(total)]
        for index, piece in enumerate(pieces):
            if not piece.is_file():
                raise Refused(500, f"missing chunk {index}")
        return [stack.enter_context(piece.open("rb")) for piece in pieces]

    def _root(self, name: str) -> Path:
        return self._store.uploads(name) / ".chunks"

    def _folder(self, name: str, user: str, filename: str) -> Path:
        return self._root(name) / hashlib.sha256(f"{user}/{filename}".encode()).hexdigest()[:32]
