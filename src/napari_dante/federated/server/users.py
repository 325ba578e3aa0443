"""Who may use the server, and for what. Keys are kept as scrypt hashes only.

A key is found by its hash, so all hashes of one server share a salt. That gives nothing
away: keys are random, no two are the same.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from napari_dante.errors import ShareError
from napari_dante.federated.credentials import ENVIRONMENT
from napari_dante.federated.server.database import Database, now
from napari_dante.model.file import check_name

__all__ = ["EVERY_MODEL", "RIGHTS", "Right", "User", "Users", "add_user", "first_key"]

Right = Literal["none", "read", "upload"]
RIGHTS: tuple[Right, ...] = get_args(Right)
EVERY_MODEL = "*"


@dataclass(frozen=True)
class User:
    """One user.

    Attributes
    ----------
    name
        Of the user.
    created, revoked
        ISO 8601; `revoked` is None while the key is valid.
    rights
        By model; :data:`EVERY_MODEL` is for those that are not named.
    """

    name: str
    created: str
    revoked: str | None
    rights: dict[str, Right]


class Users:
    """The users of one server."""

    def __init__(self, database: Database) -> None:
        self._database = database
        salt = database.row("SELECT value FROM secret WHERE name = 'salt'")
        self._salt = b"" if salt is None else bytes(salt["value"])

    def add(
        self, name: str, key: str | None = None, models: Iterable[str] = (), right: Right = "upload"
    ) -> str:
        """Give `name` a new key, which replaces an older one, and return it.

        Parameters
        ----------
        name
            1 to 32 letters, digits, hyphens or underscores.
        key
            A random one when None.
        models
            What a new user has `right` for; every model when empty. The rights of a
            user who is there already stay as they are.

        Raises
        ------
        ShareError
            If `name` is not allowed.
        ModelError
            If one of `models` cannot be the name of a model.
        """
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,32}", name):
            raise ShareError(
                "The name of a user has 1 to 32 letters, digits, hyphens or underscores."
            )
        wanted = list(models) or [EVERY_MODEL]
        for model in wanted:
            _check_model(model)
        key = secrets.token_urlsafe(24) if key is None else key
        hashed = self.hash(key)
        with self._database.change() as change:
            known = change.execute("SELECT 1 FROM user WHERE name = ?", (name,)).fetchone()
            change.execute(
                "INSERT INTO user (name, hash, created) VALUES (?, ?, ?) ON CONFLICT (name) "
                "DO UPDATE SET hash = excluded.hash, revoked = NULL",
                (name, hashed, now()),
            )
            self._database.note("new key" if known else "user added", user=name)
            if not known:
                for model in wanted:
                    self._allow(name, model, right)
        return key

    def revoke(self, name: str) -> None:
        """Make the key of a user worthless from now on.

        Raises
        ------
        ShareError
            If there is no such user with a key.
        """
        with self._database.change() as change:
            found = change.execute(
                "UPDATE user SET revoked = ? WHERE name = ? AND revoked IS NULL", (now(), name)
            )
            if not found.rowcount:
                raise ShareError(f"There is no user '{name}' with a valid key.")
            self._database.note("key revoked", user=name)

    def allow(self, name: str, model: str, right: Right) -> None:
        """Say what a user may do with a model, or with :data:`EVERY_MODEL` not named.

        Raises
        ------
        ShareError
            If there is no such user.
        ModelError
            If `model` cannot be the name of a model.
        """
        _check_model(model)
        with self._database.change() as change:
            if not change.execute("SELECT 1 FROM user WHERE name = ?", (name,)).fetchone():
                raise ShareError(f"There is no user '{name}'.")
            self._allow(name, model, right)

    def _allow(self, name: str, model: str, right: Right) -> None:
        self._database.run(
            "INSERT INTO access (user, model, may) VALUES (?, ?, ?) "
            "ON CONFLICT (user, model) DO UPDATE SET may = excluded.may",
            *(name, model, right),
        )
        self._database.note("rights", user=name, model=model, may=right)

    def right(self, name: str, model: str) -> Right:
        """Return what a user may do with a model."""
        found = self._database.row(
            "SELECT may FROM access WHERE user = ? AND model IN (?, ?) ORDER BY model = ?",
            *(name, model, EVERY_MODEL, EVERY_MODEL),
        )
        right: Right = "none" if found is None else found["may"]
        return right

    def all(self) -> list[User]:
        """Return all users by name."""
        rows = self._database.rows("SELECT name, created, revoked FROM user ORDER BY name")
        return [
            User(row["name"], row["created"], row["revoked"], self.rights(row["name"]))
            for row in rows
        ]

    def rights(self, name: str) -> dict[str, Right]:
        """Return what a user may do, by model."""
        rows = self._database.rows(
            "SELECT model, may FROM access WHERE user = ? ORDER BY model", name
        )
        return {row["model"]: row["may"] for row in rows}

    def hash(self, key: str) -> bytes:
        """Return what is kept of a key; slow on purpose."""
        return hashlib.scrypt(key.encode("utf-8", "replace"), salt=self._salt, n=2**12, r=8, p=1)

    def owner(self, hashed: bytes) -> str | None:
        """Return whose valid key has this hash, or None."""
        row = self._database.row("SELECT name FROM user WHERE hash = ? AND revoked IS NULL", hashed)
        return None if row is None else str(row["name"])


def _check_model(name: str) -> None:
    if name != EVERY_MODEL:
        check_name(name)


def add_user(data: Path, user: str) -> str:
    """Give `user` a new key for the server of the folder `data`; see :meth:`Users.add`."""
    with closing(Database(data)) as database:
        return Users(database).add(user)


def first_key(data: Path) -> str | None:
    """Make sure that a server has a user; return a newly made key, or None.

    On a server without users, ``admin`` gets the key in the environment variable
    ``NAPARI_DANTE_API_KEY``, or else a new one, which is returned to be shown once.
    """
    with closing(Database(data)) as database:
        users = Users(database)
        if users.all():
            return None
        key = os.environ.get(ENVIRONMENT)
        made = users.add("admin", key or None)
    return None if key else made
