"""The server's memory: users, models, versions, uploads and the audit trail, in SQLite.

Every change of state is one transaction together with its line of the audit trail, so
whatever instant the server is killed at, the trail tells the state. Files come first and
rows second: a file without a row is one that nobody was told of.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, RLock, Thread, local
from typing import Any

from napari_dante.errors import ShareError

__all__ = ["Database", "now"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS secret (name TEXT PRIMARY KEY, value BLOB NOT NULL);
INSERT OR IGNORE INTO secret VALUES ('salt', randomblob(16));
CREATE TABLE IF NOT EXISTS user (
    name TEXT PRIMARY KEY, hash BLOB NOT NULL UNIQUE, created TEXT NOT NULL, revoked TEXT
);
CREATE TABLE IF NOT EXISTS access (
    user TEXT NOT NULL REFERENCES user, model TEXT NOT NULL,
    may TEXT NOT NULL CHECK (may IN ('none', 'read', 'upload')), PRIMARY KEY (user, model)
);
CREATE TABLE IF NOT EXISTS model (
    name TEXT PRIMARY KEY, described TEXT NOT NULL, rule TEXT NOT NULL DEFAULT 'half'
);
CREATE TABLE IF NOT EXISTS version (
    model TEXT NOT NULL REFERENCES model, timestamp INTEGER NOT NULL, sha256 TEXT NOT NULL,
    size INTEGER NOT NULL, origin TEXT NOT NULL, base INTEGER, upload INTEGER UNIQUE,
    share REAL, dice REAL, exam TEXT, created TEXT NOT NULL, PRIMARY KEY (model, timestamp)
);
CREATE TABLE IF NOT EXISTS upload (
    id INTEGER PRIMARY KEY AUTOINCREMENT, model TEXT NOT NULL REFERENCES model,
    user TEXT NOT NULL, file TEXT NOT NULL UNIQUE, sha256 TEXT NOT NULL, size INTEGER NOT NULL,
    received TEXT NOT NULL, cases INTEGER, attempts INTEGER NOT NULL DEFAULT 0,
    state TEXT NOT NULL DEFAULT 'waiting'
        CHECK (state IN ('waiting', 'merged', 'rejected', 'quarantined')),
    reason TEXT NOT NULL DEFAULT '', version INTEGER, dice REAL
);
CREATE UNIQUE INDEX IF NOT EXISTS once ON upload (model, sha256)
    WHERE state IN ('waiting', 'merged');
CREATE TABLE IF NOT EXISTS audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT NOT NULL, event TEXT NOT NULL,
    facts TEXT NOT NULL
);
CREATE TRIGGER IF NOT EXISTS audit_stays BEFORE UPDATE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit trail is only appended to'); END;
CREATE TRIGGER IF NOT EXISTS audit_is_kept BEFORE DELETE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit trail is only appended to'); END;
"""
_NOTE = "INSERT INTO audit (time, event, facts) VALUES (?, ?, ?)"


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
        self._path = path
        self._lock = RLock()
        self._inside = local()
        self._idle: deque[sqlite3.Connection] = deque()
        self._later: deque[tuple[str, str, str]] = deque(maxlen=100_000)
        self._closing = Event()
        self._writer: Thread | None = None
        self._connection = self._connect()
        try:
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute("PRAGMA foreign_keys = ON")
            self._connection.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise ShareError("The database of this server is damaged.", repr(error)) from error

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=30, isolation_level=None, check_same_thread=False
        )
        connection.row_factory = sqlite3.Row
        return connection

    def close(self) -> None:
        """Close the file."""
        self._closing.set()
        if self._writer is not None:
            self._writer.join()
        with self._lock:
            for connection in (*self._idle, self._connection):
                connection.close()

    def rows(self, query: str, *values: object) -> list[sqlite3.Row]:
        """Return what a query finds; inside :meth:`change` with what has changed so far."""
        if getattr(self._inside, "change", False):
            return self._connection.execute(query, values).fetchall()
        # Readers have connections of their own: a full disk queue delays writers only.
        try:
            reader = self._idle.pop()
        except IndexError:
            reader = self._connect()
        try:
            return reader.execute(query, values).fetchall()
        finally:
            self._idle.append(reader)

    def row(self, query: str, *values: object) -> sqlite3.Row | None:
        """Return the first row that a query finds, or None."""
        found = self.rows(query, *values)
        return found[0] if found else None

    def run(self, query: str, *values: object) -> None:
        """Change something; belongs inside :meth:`change`."""
        with self._lock:
            self._connection.execute(query, values)

    @contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """Give a transaction that no other process writes beside; an error undoes it all."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            self._inside.change = True
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            else:
                self._connection.execute("COMMIT")
            finally:
                self._inside.change = False

    def note(self, event: str, **facts: str | float | None) -> None:
        """Append one line to the audit trail; facts hold neither keys nor patient data.

        Inside :meth:`change` it is part of the transaction.
        """
        with self._lock:
            self._connection.execute(_NOTE, _line(event, facts))

    def note_soon(self, event: str, **facts: str | float | None) -> None:
        """Append one line to the audit trail within a second, about what changes no state.

        Nobody waits for the disk because somebody downloads a model.
        """
        self._later.append(_line(event, facts))
        with self._lock:
            if self._writer is None:
                self._writer = Thread(target=self._write_later, name="audit", daemon=True)
                self._writer.start()

    def _write_later(self) -> None:
        with closing(self._connect()) as connection:
            while not self._closing.wait(0.5):
                self._flush(connection)
            self._flush(connection)

    def _flush(self, connection: sqlite3.Connection) -> None:
        lines = [self._later.popleft() for _ in range(len(self._later))]
        if not lines:
            return
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_NOTE, lines)
            connection.execute("COMMIT")
        except sqlite3.OperationalError:  # a full disk: later, then
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._later.extendleft(reversed(lines))

    def audit(self) -> list[dict[str, Any]]:
        """Return the audit trail, oldest first."""
        rows = self.rows("SELECT time, event, facts FROM audit ORDER BY id")
        return [{"time": time, "event": event, **json.loads(facts)} for time, event, facts in rows]

    def audit_lines(self) -> list[str]:
        """Return the audit trail as lines of JSON."""
        return [json.dumps(entry) for entry in self.audit()]


def _line(event: str, facts: Mapping[str, str | float | None]) -> tuple[str, str, str]:
    known = {key: value for key, value in facts.items() if value is not None}
    return now(), event, json.dumps(known)


def now() -> str:
    """Return the time as ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
