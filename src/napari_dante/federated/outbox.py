"""What waits to be shared, on disk: it survives a crash, a restart and a server that is down.

One folder for each item, with the ``.model`` file as it is to be sent and a few lines of
JSON. An item is written before anything is sent and says ``sending`` while it is; so one
that still says so after a crash may or may not have arrived. Torch-free.
"""

from __future__ import annotations

import json
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

import httpx
from filelock import FileLock, Timeout
from platformdirs import user_data_path

from napari_dante.errors import ShareError
from napari_dante.files import atomic_path, sha256, write_text

__all__ = ["Item", "Outbox", "State", "outbox_path"]

State = Literal["waiting", "sending", "unknown", "sent"]

FIRST_PAUSE = 60.0
LONGEST_PAUSE = 6 * 3600.0
_NEW = ".new-"


@dataclass(frozen=True)
class Item:
    """A model on its way to a server.

    Attributes
    ----------
    id
        Name of its folder.
    url, name
        Address of the server, and of the model there.
    sha256
        Of the ``.model`` file.
    source
        SHA-256 of the model file of ours that it was made from.
    base
        The server's version that it was checked against.
    dice
        Mean Dice of the exam, which is sent along, or None.
    cases
        How many images it was taught, which goes to servers that take it, or None.
    created
        ISO 8601, UTC.
    state
        ``waiting`` was not sent, or certainly did not arrive; ``sending`` is on its way;
        ``unknown`` was sent, and nobody knows whether it arrived; ``sent`` is on the
        server, its merge is not proven yet.
    tries
        How often it was sent.
    not_before
        Unix seconds: there is no point in trying earlier.
    reason
        Why it is still here, for a clinician.
    looked
        The last version of the server that was searched for it.
    """

    id: str
    url: str
    name: str
    sha256: str
    source: str
    base: str
    dice: float | None = None
    created: str = ""
    state: State = "waiting"
    tries: int = 0
    not_before: float = 0.0
    reason: str = ""
    looked: str = ""
    cases: int | None = None

    @property
    def server(self) -> str:
        """The server's host name."""
        return httpx.URL(self.url).host

    def put_off(self, reason: str) -> Item:
        """Return the item as it waits for its next try: each pause is twice the last one."""
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self.tries - 1, 20))
        return replace(self, state="waiting", reason=reason, not_before=time.time() + pause)


def outbox_path() -> Path:
    """Return the folder where a file to be shared waits until the server has it."""
    return user_data_path("napari-dante") / "outbox"


class Outbox:
    """The items in a folder, by default in the user's data folder."""

    def __init__(self, root: Path | None = None) -> None:
        self._root = root or outbox_path()

    def items(self) -> list[Item]:
        """Return all items, oldest first; one that a crash interrupted is ``unknown``."""
        folders = [path for path in self._root.glob("*") if not path.name.startswith(".")]
        found = [item for path in folders if (item := _read(path)) is not None]
        return sorted((self._settled(item) for item in found), key=lambda item: item.created)

    def find(self, beginning: str) -> Item:
        """Return the one item whose id begins so.

        Raises
        ------
        ShareError
            If there is none, or more than one.
        """
        found = [item for item in self.items() if beginning and item.id.startswith(beginning)]
        if len(found) != 1:
            raise ShareError(f"The outbox has {len(found)} items whose id begins '{beginning}'.")
        return found[0]

    def put(
        self,
        path: Path,
        *,
        url: str,
        name: str,
        base: str,
        source: str,
        dice: float | None,
        cases: int | None = None,
    ) -> Item:
        """Copy a ``.model`` file in; it is there whole or not at all.

        Raises
        ------
        ShareError
            If the same weights for the same server are there already.
        """
        digest = sha256(path)
        for other in self.items():
            if (other.url, other.name) == (url, name) and (
                other.sha256 == digest or source == other.source != ""
            ):
                raise ShareError(_there_already(other))
        item = Item(
            id=uuid.uuid4().hex[:12],
            url=url,
            name=name,
            sha256=digest,
            source=source,
            base=base,
            dice=dice,
            cases=cases,
            created=datetime.now(UTC).isoformat(),
        )
        new = self._root / f"{_NEW}{item.id}"
        new.mkdir(parents=True)
        with atomic_path(new / "update.model") as temporary:
            shutil.copyfile(path, temporary)
        write_text(new / "item.json", json.dumps(asdict(item), indent=1))
        new.replace(self._folder(item))
        return item

    def file(self, item: Item) -> Path:
        """Return the ``.model`` file.

        Raises
        ------
        ShareError
            If it is not the one that was put in.
        """
        path = self._folder(item) / "update.model"
        if not path.is_file() or sha256(path) != item.sha256:
            raise ShareError("The file in the outbox is damaged; drop it and push again.")
        return path

    def save(self, item: Item) -> Item:
        """Write down what became of an item, and return it."""
        write_text(self._folder(item) / "item.json", json.dumps(asdict(item), indent=1))
        return item

    @contextmanager
    def held(self, item: Item) -> Iterator[Item]:
        """Give the item as it is on disk, while no other process can send or drop it.

        Raises
        ------
        ShareError
            If another process has it, or it is gone.
        """
        try:
            with self._lock(item):
                now = _read(self._folder(item))
                if now is None:
                    raise ShareError("This item is no longer in the outbox.")
                yield _interrupted(now)
        except Timeout:
            raise ShareError("This item is just being sent by another window.") from None

    def drop(self, item: Item) -> None:
        """Remove an item with its file.

        Raises
        ------
        ShareError
            If another process is sending it.
        """
        with self.held(item):
            (self._folder(item) / "item.json").unlink()
        shutil.rmtree(self._folder(item), ignore_errors=True)

    def _folder(self, item: Item) -> Path:
        return self._root / item.id

    def _lock(self, item: Item) -> FileLock:
        # The system lets go of it when the process ends, however it ends.
        return FileLock(self._folder(item) / ".lock", timeout=0)

    def _settled(self, item: Item) -> Item:
        if item.state != "sending":
            return item
        try:
            with self._lock(item):
                return _interrupted(item)
        except Timeout:
            return item


def _interrupted(item: Item) -> Item:
    """Return an item that says ``sending`` although nobody is."""
    if item.state != "sending":
        return item
    reason = "The program ended while it was being sent; it is not known whether it arrived."
    return replace(item, state="unknown", reason=reason)


def _there_already(other: Item) -> str:
    state = {
        "waiting": "wait in the outbox already: retry that item",
        "sending": "are just being sent",
        "unknown": "were sent already, and it is not known whether they arrived: retry that "
        "item to look for them",
        "sent": "were sent already and wait to be merged",
    }[other.state]
    return f"These weights {state} (outbox item {other.id}). Drop it to push them anew."


def _read(folder: Path) -> Item | None:
    """Return the item of a folder; None where there is none, or one that cannot be read."""
    try:
        data: dict[str, Any] = json.loads((folder / "item.json").read_text())
        known = {field.name for field in fields(Item)}
        item = Item(**{key: value for key, value in data.items() if key in known})
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    whole = item.id == folder.name and item.state in get_args(State)
    return item if whole else None
