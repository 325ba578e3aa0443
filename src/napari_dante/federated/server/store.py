"""The server's folder: versions, waiting uploads, quarantine and the audit trail.

::

    DATA/keys.json
    DATA/audit.jsonl
    DATA/models/<Name>/model.json
    DATA/models/<Name>/<Unix seconds>.model
    DATA/models/<Name>/uploads/       what waits to be merged
    DATA/models/<Name>/quarantine/    what was refused, each with a .json that says why
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from shutil import copyfileobj
from threading import Lock
from typing import IO, Any

from napari_dante.errors import ModelError
from napari_dante.files import atomic_path, sha256, write_text
from napari_dante.model.file import check_name

__all__ = ["Store"]


class Store:
    """Everything that the server keeps, under one folder.

    Parameters
    ----------
    data
        The folder; made when it is not there.
    """

    def __init__(self, data: Path) -> None:
        self.data = Path(data)
        self._models = self.data / "models"
        self._models.mkdir(parents=True, exist_ok=True)
        self._audit_lock = Lock()

    def names(self) -> list[str]:
        """Return the models that have a version."""
        return sorted(path.name for path in self._models.iterdir() if self.timestamps(path.name))

    def folder(self, name: str) -> Path:
        """Return the folder of a model.

        Raises
        ------
        ModelError
            If `name` is not allowed, so that no path leads out of the folder.
        """
        check_name(name)
        return self._models / name

    def timestamps(self, name: str) -> list[str]:
        """Return the versions of a model, oldest first; empty for an unknown one."""
        try:
            folder = self.folder(name)
        except ModelError:
            return []
        found = (path.stem for path in folder.glob("*.model"))
        return sorted((stem for stem in found if stem.isascii() and stem.isdigit()), key=int)

    def version(self, name: str, timestamp: str) -> Path | None:
        """Return the file of one version, or None when there is none."""
        if timestamp not in self.timestamps(name):
            return None
        return self.folder(name) / f"{timestamp}.model"

    def latest(self, name: str) -> Path | None:
        """Return the file of the current version, or None for an unknown model."""
        stamps = self.timestamps(name)
        return self.version(name, stamps[-1]) if stamps else None

    def next_timestamp(self, name: str) -> int:
        """Return a version number: now, and after every version that there is."""
        return max([int(time.time()), *(int(stamp) + 1 for stamp in self.timestamps(name))])

    def info(self, name: str) -> dict[str, Any] | None:
        """Return what the server tells of a model, or None for an unknown one."""
        stamps = self.timestamps(name)
        if not stamps:
            return None
        hashes = {stamp: _digest(self.folder(name) / f"{stamp}.model") for stamp in stamps}
        description = self.folder(name) / "model.json"
        extra = json.loads(description.read_text()) if description.is_file() else {}
        return extra | {
            "latest_timestamp": stamps[-1],
            "hash": hashes[stamps[-1]],
            "hashes": hashes,
            "timestamps": stamps,
        }

    def uploads(self, name: str) -> Path:
        """Return the folder of waiting uploads."""
        return self.folder(name) / "uploads"

    def waiting(self) -> Iterator[tuple[str, Path]]:
        """Yield (model, file) of each upload that waits, oldest first."""
        for name in self.names():
            for path in sorted(self.uploads(name).glob("*.model")):
                yield name, path

    def keep_upload(self, name: str, user: str, parts: list[IO[bytes]]) -> Path:
        """Keep an upload until it is merged; return its file.

        Its name tells the second and the user, and is unique.
        """
        stem = f"{int(time.time())}_{user}_{uuid.uuid4().hex[:12]}"
        target = self.uploads(name) / f"{stem}.model"
        with atomic_path(target) as temporary, temporary.open("wb") as stream:
            for part in parts:
                copyfileobj(part, stream, 1024**2)
        return target

    def quarantine(self, name: str, upload: Path, reason: str, detail: str) -> None:
        """Put an upload aside for good, with the reason."""
        folder = self.folder(name) / "quarantine"
        folder.mkdir(exist_ok=True)
        write_text(folder / f"{upload.stem}.json", json.dumps({"reason": reason, "detail": detail}))
        upload.replace(folder / upload.name)

    def audit(self, event: str, **facts: str | float | None) -> None:
        """Append one line to the audit trail; facts hold neither keys nor patient data."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        line = json.dumps({"time": now, "event": event, **facts})
        with self._audit_lock, (self.data / "audit.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")
            stream.flush()
            os.fsync(stream.fileno())


def _digest(path: Path) -> str:
    return _digest_of(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=4096)
def _digest_of(path: Path, _changed: int) -> str:
    return sha256(path)
