"""Where journals are, and the salt that the names of volumes are hashed with."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from platformdirs import user_data_path

from napari_dante.files import write_bytes

__all__ = ["journal_folder", "salt"]


def journal_folder() -> Path:
    """Return where journals are."""
    return user_data_path("napari-dante") / "journal"


@cache
def salt(folder: Path) -> bytes:
    """Return the salt of a folder; it is made when it is not there.

    Raises
    ------
    OSError
        If the disk does not keep it.
    """
    path = folder / "salt"
    if not path.is_file():
        write_bytes(path, os.urandom(32))
    return path.read_bytes()
