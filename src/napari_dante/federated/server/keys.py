"""Who may use the server. Keys are kept as salted scrypt hashes only."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
from pathlib import Path
from threading import Lock

from napari_dante.errors import ShareError
from napari_dante.federated.credentials import ENVIRONMENT
from napari_dante.files import write_text

__all__ = ["add_user", "first_key", "user_of"]

_LOCK = Lock()


def add_user(data: Path, user: str) -> str:
    """Give `user` a new key, which replaces an older one, and return it.

    The key is shown this once; the server keeps only its hash.

    Raises
    ------
    ShareError
        If `user` is not 1 to 32 letters, digits, hyphens or underscores.
    """
    key = secrets.token_urlsafe(24)
    _register(data, user, key)
    return key


def first_key(data: Path) -> str | None:
    """Make sure that a server has a user; return a newly made key, or None.

    On a server without users, ``admin`` gets the key in the environment variable
    ``NAPARI_DANTE_API_KEY``, or else a new one, which is returned to be shown once.
    """
    if _read(data):
        return None
    if key := os.environ.get(ENVIRONMENT):
        _register(data, "admin", key)
        return None
    return add_user(data, "admin")


def user_of(data: Path, key: str) -> str | None:
    """Return whose key it is, or None."""
    for user, entry in _read(data).items():
        salt = bytes.fromhex(entry["salt"])
        if hmac.compare_digest(_hash(key, salt), bytes.fromhex(entry["hash"])):
            return user
    return None


def _register(data: Path, user: str, key: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,32}", user):
        raise ShareError("The name of a user has 1 to 32 letters, digits, hyphens or underscores.")
    salt = secrets.token_bytes(16)
    with _LOCK:
        users = _read(data)
        users[user] = {"salt": salt.hex(), "hash": _hash(key, salt).hex()}
        write_text(_path(data), json.dumps(users, indent=1))
        _path(data).chmod(0o600)


def _hash(key: str, salt: bytes) -> bytes:
    return hashlib.scrypt(key.encode(), salt=salt, n=2**12, r=8, p=1)


def _path(data: Path) -> Path:
    return data / "keys.json"


def _read(data: Path) -> dict[str, dict[str, str]]:
    try:
        text = _path(data).read_text()
    except FileNotFoundError:
        return {}
    try:
        users: dict[str, dict[str, str]] = json.loads(text)
    except ValueError as error:
        raise ShareError("The list of keys of this server is damaged.", repr(error)) from error
    return users
