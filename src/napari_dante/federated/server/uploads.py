"""The queue: every update that was ever received, and what became of it."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from napari_dante.federated.server.database import now
from napari_dante.federated.server.store import Stale, Store, Version
from napari_dante.files import sha256

__all__ = ["ATTEMPTS", "Fate", "Received", "Upload", "Uploads"]

State = Literal["waiting", "merged", "rejected", "quarantined"]
ATTEMPTS = 3
"""How often the server may break down over one update before the update is to blame."""

_COLUMNS = (
    "id, model, user, file, sha256, size, received, cases, attempts, state, reason, version, dice"
)
_STAY = ".model"


@dataclass(frozen=True)
class Upload:
    """One update that was received.

    Attributes
    ----------
    cases
        How many the sender says it was taught, or None.
    attempts
        How often its merge was begun.
    state
        ``"waiting"``, ``"merged"``, ``"rejected"`` (examined and found worse) or
        ``"quarantined"`` (not fit to be merged).
    reason
        Why it was refused, one sentence for the sender.
    version
        The version that it went into.
    dice
        What the server's exam says of the result.
    """

    id: int
    model: str
    user: str
    file: str
    sha256: str
    size: int
    received: str
    cases: int | None
    attempts: int
    state: State
    reason: str
    version: int | None
    dice: float | None


@dataclass(frozen=True)
class Fate:
    """How an update ends that is not merged."""

    state: State
    reason: str
    detail: str = ""
    dice: float | None = None


class Received:
    """A file on its way in: hashed while it is written, and of no account until it is added."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._stream = path.open("wb")
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Of what was written so far, in lowercase hexadecimal digits."""
        return self._digest.hexdigest()

    def write(self, data: bytes) -> None:
        """Append some bytes."""
        self._stream.write(data)
        self._digest.update(data)
        self.size += len(data)

    def finish(self) -> None:
        """Bring everything to the disk."""
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()

    def discard(self) -> None:
        """Forget the file, unless it has been added."""
        self._stream.close()
        self.path.unlink(missing_ok=True)


class Uploads:
    """The uploads of one server."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._database = store.database

    def folder(self, name: str) -> Path:
        """Return where the uploads of a model wait."""
        return self._store.folder(name) / "uploads"

    def path(self, upload: Upload) -> Path:
        """Return the file of an upload that waits."""
        return self.folder(upload.model) / upload.file

    def quarantine(self, upload: Upload) -> Path:
        """Return the file of an upload that was refused."""
        return self._store.folder(upload.model) / "quarantine" / upload.file

    def receive(self, name: str) -> Received:
        """Return a new file for an upload to be written into."""
        folder = self.folder(name)
        folder.mkdir(exist_ok=True)
        return Received(folder / f".received-{uuid.uuid4().hex}")

    def add(
        self, name: str, user: str, received: Received, cases: int | None, dice: float | None
    ) -> Upload | None:
        """Let a finished file wait its turn; None when it waits or was merged already.

        A client that never heard our answer sends its file again: it must not count twice.
        """
        file = f"{int(time.time())}_{user}_{uuid.uuid4().hex[:12]}{_STAY}"
        with self._database.change() as change:
            try:
                number = change.execute(
                    "INSERT INTO upload (model, user, file, sha256, size, received, cases) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (name, user, file, received.sha256, received.size, now(), cases),
                ).lastrowid
            except sqlite3.IntegrityError:
                self._database.note(
                    "upload repeated", user=user, model=name, sha256=received.sha256
                )
                return None
            self._database.note(
                "upload",
                user=user,
                model=name,
                upload=number,
                sha256=received.sha256,
                dice=dice,
                cases=cases,
            )
            received.path.replace(self.folder(name) / file)
        return self.get(number or 0)

    def get(self, number: int) -> Upload | None:
        """Return one upload."""
        found = self._found("WHERE id = ?", number)
        return found[0] if found else None

    def of(self, name: str) -> list[Upload]:
        """Return all uploads of a model, newest first."""
        return self._found("WHERE model = ? ORDER BY id DESC", name)

    def waiting_of(self, user: str) -> int:
        """Return how many updates of a user wait."""
        return sum(upload.user == user for upload in self.waiting())

    def waiting(self) -> list[Upload]:
        """Return what waits, in the order of arrival."""
        return self._found("WHERE state = 'waiting' ORDER BY id")

    def usual_cases(self, name: str, last: int = 9) -> float | None:
        """Return the median number of cases of the `last` merged uploads that tell it."""
        rows = self._database.rows(
            "SELECT cases FROM upload WHERE model = ? AND state = 'merged' AND cases IS NOT NULL "
            "ORDER BY id DESC LIMIT ?",
            *(name, last),
        )
        counts = sorted(int(row["cases"]) for row in rows)
        return float(counts[len(counts) // 2]) if counts else None

    def begin(self, upload: Upload) -> Upload | None:
        """Count one attempt; None when another process has finished it meanwhile."""
        with self._database.change() as change:
            change.execute(
                "UPDATE upload SET attempts = attempts + 1 WHERE id = ? AND state = 'waiting'",
                (upload.id,),
            )
            found = self.get(upload.id)
            if found is None or found.state != "waiting":
                return None
            self._database.note("merge begun", upload=upload.id, attempt=found.attempts)
        return found

    def postpone(self, upload: Upload, reason: str) -> None:
        """Let an upload wait for better times: the fault was the server's."""
        with self._database.change() as change:
            change.execute(
                "UPDATE upload SET attempts = attempts - 1, reason = ? "
                "WHERE id = ? AND state = 'waiting'",
                (reason, upload.id),
            )
            self._database.note("merge failed", upload=upload.id, reason=reason)

    def merged(self, upload: Upload, version: Version, temporary: Path) -> None:
        """Make the merged file the next version and tell so; once, whatever happens.

        Raises
        ------
        Stale
            If another version or another process came first.
        """
        with self._database.change() as change:
            done = change.execute(
                "UPDATE upload SET state = 'merged', reason = '', version = ?, dice = ? "
                "WHERE id = ? AND state = 'waiting'",
                (version.timestamp, version.dice, upload.id),
            )
            if done.rowcount != 1:
                raise Stale
            self._store.add_version(upload.model, version, temporary)
        self.path(upload).unlink(missing_ok=True)

    def refuse(self, upload: Upload, fate: Fate) -> None:
        """Put an upload aside for good, with the reason."""
        with self._database.change() as change:
            done = change.execute(
                "UPDATE upload SET state = ?, reason = ?, dice = ? "
                "WHERE id = ? AND state = 'waiting'",
                (fate.state, fate.reason, fate.dice, upload.id),
            )
            if done.rowcount != 1:
                return
            self._database.note(
                fate.state,
                model=upload.model,
                upload=upload.id,
                sha256=upload.sha256,
                reason=fate.reason,
                detail=fate.detail[:300] or None,
                dice=fate.dice,
            )
        self._put_aside(upload)

    def _put_aside(self, upload: Upload) -> None:
        self.quarantine(upload).parent.mkdir(exist_ok=True)
        if self.path(upload).is_file():
            self.path(upload).replace(self.quarantine(upload))

    def settle(self) -> None:
        """Bring the files in line with the database after the server was killed.

        Nothing that anybody was told of is lost: a file without a row was never
        acknowledged, and a version without a row was never shown.
        """
        with self._database.change():
            for name in self._store.names():
                self.folder(name).mkdir(exist_ok=True)
                self._remove_unfinished(name)
                for upload in self.of(name):
                    if upload.state != "waiting":
                        self._finish(upload)
                    elif not self.path(upload).is_file():
                        self._lost(upload)

    def _remove_unfinished(self, name: str) -> None:
        known = {upload.file for upload in self.of(name)}
        versions = {f"{one.timestamp}{_STAY}" for one in self._store.versions(name)}
        for folder, kept in ((self.folder(name), known), (self._store.folder(name), versions)):
            for path in folder.iterdir():
                if path.suffix == _STAY and path.name not in kept:
                    self._database.note("unfinished file set aside", sha256=sha256(path))
                    path.replace(path.with_suffix(".unfinished"))
                elif path.is_file() and path.name.startswith(".") and _is_old(path):
                    path.unlink(missing_ok=True)

    def _finish(self, upload: Upload) -> None:
        if upload.state == "merged":
            self.path(upload).unlink(missing_ok=True)
        else:
            self._put_aside(upload)

    def _lost(self, upload: Upload) -> None:
        reason = "The server no longer has the file; please send it again."
        self._database.run(
            "UPDATE upload SET state = 'quarantined', reason = ? WHERE id = ?", reason, upload.id
        )
        self._database.note("quarantined", upload=upload.id, model=upload.model, reason=reason)

    def _found(self, where: str, *values: object) -> list[Upload]:
        rows: list[Any] = self._database.rows(f"SELECT {_COLUMNS} FROM upload {where}", *values)
        return [Upload(*row) for row in rows]


def _is_old(path: Path) -> bool:
    """Tell whether a temporary file can belong to nobody who is still writing it."""
    return path.stat().st_mtime < time.time() - 3600
