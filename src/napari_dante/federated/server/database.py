"""The server's memory: users, models, versions, uploads and the audit trail, in SQLite.

Every change of state is one transaction together with its line of the audit trail, so
whatever instant the server is killed at, the trail tells the state. Files come first and
rows second: a file without a row is one that nobody was told of.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import RLock
from typing import Any

from napari_dante.errors import ShareError

__all__ = ["Database", "now"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS secret (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
INSERT OR IGNORE INTO secret VALUES ('salt', randomblob(16));
CREATE TABLE IF NOT EXISTS user (
    name TEXT PRIMARY KEY, hash BLOB NOT NULL UNIQUE, created TEXT NOT NULL, revoked TEXT
) STRICT;
CREATE TABLE IF NOT EXISTS access (
    user TEXT NOT NULL REFERENCES user, model TEXT NOT NULL,
    may TEXT NOT NULL CHECK (may IN ('none', 'read', 'upload')), PRIMARY KEY (user, model)
) STRICT;
CREATE TABLE IF NOT EXISTS model (
    name TEXT PRIMARY KEY, described TEXT NOT NULL, rule TEXT NOT NULL DEFAULT 'half'
) STRICT;
CREATE TABLE IF NOT EXISTS version (
    model TEXT NOT NULL REFERENCES model, timestamp INTEGER NOT NULL, sha256 TEXT NOT NULL,
    size INTEGER NOT NULL, origin TEXT NOT NULL, base INTEGER, upload INTEGER UNIQUE,
    share REAL, dice REAL, exam TEXT, created TEXT NOT NULL, PRIMARY KEY (model, timestamp)
) STRICT;
CREATE TABLE IF NOT EXISTS upload (
    id INTEGER PRIMARY KEY AUTOINCREMENT, model TEXT NOT NULL REFERENCES model,
    user TEXT NOT NULL, file TEXT NOT NULL UNIQUE, sha256 TEXT NOT NULL, size INTEGER NOT NULL,
    received TEXT NOT NULL, cases INTEGER, attempts INTEGER NOT NULL DEFAULT 0,
    state TEXT NOT NULL DEFAULT 'waiting'
        CHECK (state IN ('waiting', 'merged', 'rejected', 'quarantined')),
    reason TEXT NOT NULL DEFAULT '', version INTEGER, dice REAL
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS once ON upload (model, sha256)
    WHERE state IN ('waiting', 'merged');
CREATE TABLE IF NOT EXISTS audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT NOT NULL, event TEXT NOT NULL,
    facts TEXT NOT NULL
) STRICT;
CREATE TRIGGER IF NOT EXISTS audit_stays BEFORE UPDATE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit trail is only appended to'); END;
CREATE TRIGGER IF NOT EXISTS audit_is_kept BEFORE DELETE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit trail is only appended to'); END;
"""


class Database:
    """The file ``server.sqlite`` of a server's folder, open for all threads of this process.

    Raises
    ------
    ShareError
        If the file is not such a database.
    """

    def __init__(self, data: Path) -> None:
        data.mkdir(parents=True, exist_ok=True)
        path = data / "server.sqlite"
        # The hashes of the keys are nobody's business, from the first byte on.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._lock = RLock()
        self._connection = sqlite3.connect(
            path, timeout=30, isolation_level=None, check_same_thread=False
        )
        self._connection.row_factory = sqlite3.Row
        try:
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute("PRAGMA foreign_keys = ON")
            self._connection.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise ShareError("The database of this server is damaged.", repr(error)) from error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def rows(self, query: str, *values: object) -> list[sqlite3.Row]:
        """Return what a query finds."""
        with self._lock:
            return self._connection.execute(query, values).fetchall()

    def row(self, query: str, *values: object) -> sqlite3.Row | None:
        """Return the first row that a query finds, or None."""
        with self._lock:
            found: sqlite3.Row | None = self._connection.execute(query, values).fetchone()
        return found

    def run(self, query: str, *values: object) -> None:
        """Change something; belongs inside :meth:`change`."""
        with self._lock:
            self._connection.execute(query, values)

    @contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """Give a transaction that no other process writes beside; an error undoes it all."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def note(self, event: str, **facts: str | float | None) -> None:
        """Append one line to the audit trail; facts hold neither keys nor patient data.

        Inside :meth:`change` it is part of the transaction.
        """
        known = {key: value for key, value in facts.items() if value is not None}
        with self._lock:
            self._connection.execute(
                "INSERT INTO audit (time, event, facts) VALUES (?, ?, ?)",
                (now(), event, json.dumps(known)),
            )

    def audit(self) -> list[dict[str, Any]]:
        """Return the audit trail, oldest first."""
        rows = self.rows("SELECT time, event, facts FROM audit ORDER BY id")
        return [{"time": time, "event": event, **json.loads(facts)} for time, event, facts in rows]

    def audit_lines(self) -> list[str]:
        """Return the audit trail as lines of JSON."""
        return [json.dumps(entry) for entry in self.audit()]


def now() -> str:
    """Return the time as ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
