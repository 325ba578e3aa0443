"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "append_json",
    "atomic_path",
    "read_json_lines",
    "save_array",
    "sha256",
    "write_bytes",
    "write_text",
]


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Give a temporary name beside `target`; rename it onto `target` on success.

    The temporary name keeps every suffix of `target` (``.nii.gz`` writers look at it),
    the file is fsynced before the rename, and it is removed if the block raises.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        prefix=".writing-", suffix="".join(target.suffixes[-2:]), dir=target.parent
    )
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(target)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def write_bytes(target: Path, data: bytes) -> None:
    """Write `data` to `target` in one step that cannot be seen half done."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(data)


def write_text(target: Path, text: str) -> None:
    """Write UTF-8 `text` to `target` in one step that cannot be seen half done."""
    write_bytes(target, text.encode())


def append_json(target: Path, data: Mapping[str, Any]) -> None:
    """Append one line of JSON; it is on the disk when this returns."""
    line = json.dumps(data).encode() + b"\n"
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("ab") as stream:
        # A line torn by a crash ends here, so that it spoils nothing but itself.
        stream.write(line if _ends_whole(target) else b"\n" + line)
        stream.flush()
        os.fsync(stream.fileno())


def _ends_whole(path: Path) -> bool:
    if path.stat().st_size == 0:
        return True
    with path.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of what :func:`append_json` wrote; none where there is no file."""
    found = []
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        with suppress(ValueError):
            data = json.loads(line)
            if isinstance(data, dict):
                found.append(data)
    return found


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Write ``.npy`` in one step that cannot be seen half done."""
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, array, allow_pickle=False)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 lowercase hexadecimal digits."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
