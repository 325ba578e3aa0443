"""Files whose code a person has allowed to run, by their SHA-256. Torch-free."""

from __future__ import annotations

import json
from pathlib import Path

from platformdirs import user_data_path

from napari_dante.errors import UnsafeFile
from napari_dante.files import sha256, write_text

__all__ = ["check_trusted", "is_trusted", "trust", "trusted_file"]


def trusted_file() -> Path:
    """Return where it is remembered."""
    return user_data_path("napari-dante") / "trusted.json"


def is_trusted(digest: str) -> bool:
    """Tell whether a person has allowed the code of this very file."""
    return digest in _read()


def check_trusted(model: Path) -> str:
    """Return the SHA-256 of a ``.model`` file whose code a person has allowed to run.

    Raises
    ------
    UnsafeFile
        If nobody has.
    """
    digest = sha256(model)
    if not is_trusted(digest):
        raise UnsafeFile(
            "The network of this Dafne model can only be built by the code inside the file, and "
            "nobody has allowed that code to run. If you trust whoever made the file, allow it "
            "with --trust-code.",
            detail=digest,
        )
    return digest


def trust(digest: str) -> None:
    """Remember that a person allows the code of this very file."""
    write_text(trusted_file(), json.dumps(sorted({*_read(), digest}), indent=1))


def _read() -> list[str]:
    try:
        found = json.loads(trusted_file().read_text())
    except (OSError, ValueError):
        return []
    return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []
