"""The server's folder: models and their versions.

::

    DATA/server.sqlite                        users, models, versions, uploads, audit trail
    DATA/models/<Name>/<Unix seconds>.model   versions; never changed once they are there
    DATA/models/<Name>/uploads/               what waits to be merged
    DATA/models/<Name>/quarantine/            what was refused; the database says why
    DATA/validation/<Name>/<Case>/            image and labels of the server's own exam
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from napari_dante.errors import ModelError
from napari_dante.federated.server.database import Database, now
from napari_dante.federated.server.rules import RULES, Rule
from napari_dante.files import atomic_path, sha256
from napari_dante.model.file import check_name

__all__ = ["Stale", "Store", "Version"]


class Stale(Exception):
    """Another version came first; what was made from the one before it must be made again."""


@dataclass(frozen=True)
class Version:
    """One version of a model.

    Attributes
    ----------
    timestamp
        Unix seconds; rises along the line of versions.
    origin
        ``"published"``, ``"merged"`` or ``"rollback"``.
    base
        The version that it was made from, or None for the first.
    share
        Of the update that was merged.
    dice
        In the server's own exam, or None when it was not examined.
    exam
        Which exam that was.
    """

    timestamp: int
    sha256: str
    size: int
    origin: str
    base: int | None = None
    upload: int | None = None
    share: float | None = None
    dice: float | None = None
    exam: str | None = None
    created: str = ""


class Store:
    """Everything that the server keeps, under one folder.

    Parameters
    ----------
    data
        The folder; made when it is not there.
    """

    def __init__(self, data: Path) -> None:
        self.data = Path(data)
        self.database = Database(self.data)
        self._models = self.data / "models"
        self._models.mkdir(exist_ok=True)

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    def names(self) -> list[str]:
        """Return the models that there are."""
        return [row["name"] for row in self.database.rows("SELECT name FROM model ORDER BY name")]

    def folder(self, name: str) -> Path:
        """Return the folder of a model.

        Raises
        ------
        ModelError
            If `name` is not allowed, so that no path leads out of the folder.
        """
        check_name(name)
        return self._models / name

    def versions(self, name: str) -> list[Version]:
        """Return the versions of a model, oldest first; empty for an unknown one."""
        rows = self.database.rows(
            "SELECT timestamp, sha256, size, origin, base, upload, share, dice, exam, created "
            "FROM version WHERE model = ? ORDER BY timestamp",
            name,
        )
        return [Version(*row) for row in rows]

    def latest(self, name: str) -> Version | None:
        """Return the current version, or None for an unknown model."""
        versions = self.versions(name)
        return versions[-1] if versions else None

    def path(self, name: str, version: Version) -> Path:
        """Return the file of a version."""
        return self.folder(name) / f"{version.timestamp}.model"

    def version(self, name: str, timestamp: str) -> Version | None:
        """Return one version, or None when there is none of exactly this timestamp."""
        return next((one for one in self.versions(name) if str(one.timestamp) == timestamp), None)

    def info(self, name: str) -> dict[str, Any] | None:
        """Return what the server tells of a model, or None for an unknown one."""
        versions = self.versions(name)
        model = self.database.row("SELECT described FROM model WHERE name = ?", name)
        if not versions or model is None:
            return None
        described: dict[str, Any] = json.loads(model["described"])
        return described | {
            "latest_timestamp": str(versions[-1].timestamp),
            "hash": versions[-1].sha256,
            "hashes": {str(one.timestamp): one.sha256 for one in versions},
            "timestamps": [str(one.timestamp) for one in versions],
            "latest_size": versions[-1].size,
        }

    def rule(self, name: str) -> Rule:
        """Return how updates of a model are merged."""
        row = self.database.row("SELECT rule FROM model WHERE name = ?", name)
        rule: Rule = "half" if row is None else row["rule"]
        return rule

    def set_rule(self, name: str, rule: Rule) -> None:
        """Say how updates of a model are merged from now on.

        Raises
        ------
        ModelError
            If there is no such model or rule.
        """
        if rule not in RULES:
            raise ModelError(f"A model is merged by one of these rules: {', '.join(RULES)}.")
        with self.database.change() as change:
            found = change.execute("UPDATE model SET rule = ? WHERE name = ?", (rule, name))
            if not found.rowcount:
                raise _unknown(name)
            self.database.note("rule", model=name, rule=rule)

    def add_model(
        self, name: str, described: dict[str, Any], write: Callable[[Path, int], None]
    ) -> str:
        """Put a first version of a model on the server; return its timestamp.

        Parameters
        ----------
        name
            Of the model.
        described
            What :meth:`info` tells of it.
        write
            Writes the file of a version with a timestamp.

        Raises
        ------
        ModelError
            If `name` is not allowed or taken.
        """
        folder = self.folder(name)
        folder.mkdir(exist_ok=True)
        timestamp = int(time.time())
        with self.written(name, timestamp, write) as temporary, self.database.change() as change:
            try:
                change.execute(
                    "INSERT INTO model VALUES (?, ?, 'half')", (name, json.dumps(described))
                )
            except sqlite3.IntegrityError:
                raise ModelError(
                    f"The server already has a model '{name}'; send it an update instead."
                ) from None
            version = Version(timestamp, sha256(temporary), temporary.stat().st_size, "published")
            self._insert(name, version, temporary)
        return str(timestamp)

    def next_timestamp(self, name: str) -> int:
        """Return a version number: now, and after every version that there is."""
        return max([int(time.time()), *(one.timestamp + 1 for one in self.versions(name))])

    def add_version(self, name: str, version: Version, temporary: Path) -> None:
        """Make a file the next version; to be called inside a transaction.

        Raises
        ------
        Stale
            If the current version is not the base of this one.
        """
        latest = self.latest(name)
        if latest is None or latest.timestamp != version.base or version.timestamp <= version.base:
            raise Stale
        self._insert(name, version, temporary)

    def _insert(self, name: str, version: Version, temporary: Path) -> None:
        one = version
        self.database.run(
            "INSERT INTO version (model, timestamp, sha256, size, origin, base, upload, share, "
            "dice, exam, created) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            *(name, one.timestamp, one.sha256, one.size, one.origin, one.base, one.upload),
            *(one.share, one.dice, one.exam, now()),
        )
        self.database.note(
            one.origin,
            model=name,
            timestamp=one.timestamp,
            sha256=one.sha256,
            base=one.base,
            upload=one.upload,
            share=one.share,
            dice=one.dice,
        )
        temporary.replace(self.path(name, one))

    @contextmanager
    def written(
        self, name: str, timestamp: int, write: Callable[[Path, int], None]
    ) -> Iterator[Path]:
        """Give the file of a version, complete on the disk, under a name of no meaning."""
        target = self.folder(name) / f".version-{uuid4().hex}"
        try:
            with atomic_path(target) as temporary:
                write(temporary, timestamp)
            yield target
        finally:
            target.unlink(missing_ok=True)

    def note_dice(self, name: str, version: Version, dice: float, exam: str) -> None:
        """Remember what an exam says of a version."""
        with self.database.change() as change:
            change.execute(
                "UPDATE version SET dice = ?, exam = ? WHERE model = ? AND timestamp = ?",
                (dice, exam, name, version.timestamp),
            )
            self.database.note("examined", model=name, timestamp=version.timestamp, dice=dice)

    def rollback(self, name: str, timestamp: str, write: Callable[[Path, Path, int], None]) -> str:
        """Make an old version the current one again, as a new version; return its timestamp.

        Nothing is taken away: versions only ever follow each other, so what clients hold
        stays explained.

        Parameters
        ----------
        name, timestamp
            The old version.
        write
            Writes a copy with another timestamp: from, to, timestamp.

        Raises
        ------
        ModelError
            If there is no such version.
        """
        old = self.version(name, timestamp)
        if old is None:
            raise ModelError(f"There is no version {timestamp} of '{name}' on this server.")
        while True:
            latest, new = self.latest(name), self.next_timestamp(name)
            copy = self.written(name, new, lambda to, stamp: write(self.path(name, old), to, stamp))
            with copy as temporary:
                size, digest = temporary.stat().st_size, sha256(temporary)
                try:
                    with self.database.change():
                        base = None if latest is None else latest.timestamp
                        version = Version(new, digest, size, "rollback", base, dice=old.dice)
                        self.database.note(
                            "rolled back", model=name, timestamp=new, to=old.timestamp
                        )
                        self.add_version(name, replace(version, exam=old.exam), temporary)
                    return str(new)
                except Stale:
                    continue


def _unknown(name: str) -> ModelError:
    return ModelError(f"There is no model '{name}' on this server.")
