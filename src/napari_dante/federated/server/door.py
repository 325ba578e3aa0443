"""Who comes in: keys, and patience with those who guess them."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict, deque
from threading import Lock

from napari_dante.federated.server.database import Database
from napari_dante.federated.server.refused import Refused
from napari_dante.federated.server.users import Right, Users

__all__ = ["Door"]

WRONG_KEYS = 10
WINDOW = 60.0
"""An address that has sent so many wrong keys within so many seconds has to wait."""

_REMEMBERED = 1024


class Door:
    """Checks keys. Addresses are remembered for a minute, in memory, and never written down.

    A key that was right before passes even from an address that has to wait: a hospital
    often is one address.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._users = Users(database)
        self._lock = Lock()
        self._hashes: OrderedDict[bytes, bytes] = OrderedDict()
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()

    def user(self, key: str | None, address: str) -> str:
        """Return whose key it is.

        Raises
        ------
        Refused
            If it is nobody's, or too many wrong ones came from `address`.
        """
        digest = hashlib.sha256((key or "").encode("utf-8", "replace")).digest()
        with self._lock:
            hashed = self._hashes.get(digest)
            if hashed is None and self._must_wait(address):
                raise Refused(429, "too many wrong keys; wait a minute")
        if hashed is None:
            hashed = self._users.hash(key or "")
        user = self._users.owner(hashed)
        with self._lock:
            if user is None:
                self._hashes.pop(digest, None)
                self._wrong.setdefault(address, deque(maxlen=WRONG_KEYS)).append(time.monotonic())
                self._wrong.move_to_end(address)
                _keep(self._wrong)
            else:
                self._hashes[digest] = hashed
                _keep(self._hashes)
        if user is None:
            self._database.note_soon("wrong key")
            raise Refused(401, "invalid access code")
        return user

    def allowed(self, user: str, model: str, wanted: Right) -> bool:
        """Tell whether a user may ``"read"`` or ``"upload"`` a model."""
        right = self._users.right(user, model)
        return right == "upload" or right == wanted

    def check(self, user: str, model: str, wanted: Right) -> None:
        """Refuse what a user may not do.

        Raises
        ------
        Refused
            If `user` may not ``"read"`` or ``"upload"`` this model.
        """
        if not self.allowed(user, model, wanted):
            raise Refused(403, "access denied for this model")

    def _must_wait(self, address: str) -> bool:
        times = self._wrong.get(address)
        return (
            times is not None and len(times) == WRONG_KEYS and times[0] > time.monotonic() - WINDOW
        )


def _keep(entries: OrderedDict[str, deque[float]] | OrderedDict[bytes, bytes]) -> None:
    while len(entries) > _REMEMBERED:
        entries.popitem(last=False)
