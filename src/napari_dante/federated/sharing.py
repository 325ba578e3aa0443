"""Sending a model away so that it is never lost on the way. Torch-free."""

from __future__ import annotations

import json
import logging
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from platformdirs import user_data_path

from napari_dante.errors import ShareError
from napari_dante.federated.client import DafneClient, ModelInfo
from napari_dante.files import sha256

__all__ = ["Receipt", "outbox_file", "outbox_path", "push_file", "share_log"]

MERGE_SECONDS = 60.0
_POLL_SECONDS = 1.0
_LOG = logging.getLogger("napari_dante")


@dataclass(frozen=True)
class Receipt:
    """What is known after a file was sent.

    Attributes
    ----------
    before_timestamp
        The server's version when the file was sent.
    after_timestamp
        The first newer version that the server showed, or None when there was none yet:
        a server may merge later, or a person may do it.
    """

    before_timestamp: str
    after_timestamp: str | None


def outbox_path() -> Path:
    """Return the folder where a file to be shared waits until the server has it."""
    return user_data_path("napari-dante") / "outbox"


def share_log() -> Path:
    """Return the append-only log of what left this computer, one JSON line for each push."""
    return user_data_path("napari-dante") / "shared.jsonl"


def outbox_file() -> Path:
    """Return a fresh file name in the outbox; the folder is there."""
    outbox_path().mkdir(parents=True, exist_ok=True)
    return outbox_path() / f"{uuid.uuid4().hex}.model"


def push_file(
    client: DafneClient,
    name: str,
    dafne_path: Path,
    dice: float | None,
    *,
    merge_seconds: float = MERGE_SECONDS,
) -> Receipt:
    """Send a ``.model`` file as an update of `name` and wait for the server's new version.

    A file in the outbox is deleted as soon as the server has proven that it holds it, and
    stays there otherwise. A file elsewhere is the person's own and is left alone.

    Parameters
    ----------
    client
        Of the server.
    name
        Of the model on the server.
    dafne_path
        The file.
    dice
        Mean Dice of the exam, or None.
    merge_seconds
        How long to wait for the new version.

    Raises
    ------
    ModelError
        If `name` cannot be the name of a model.
    ShareError
        If the server refuses or is not there; the file is still where it was.
    """
    before = client.info(name)
    digest = sha256(dafne_path)
    client.upload(name, dafne_path, dice)
    _log_share(client.host, name, digest, dice, before.latest)
    if dafne_path.parent.resolve() == outbox_path().resolve():
        dafne_path.unlink()
    deadline = time.monotonic() + merge_seconds
    after = _newer(client, name, before)
    while after is None and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        after = _newer(client, name, before)
    return Receipt(before.latest, after)


def _log_share(server: str, name: str, digest: str, dice: float | None, base: str) -> None:
    """Append one line to the log of everything that ever left this computer."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    line = {"time": now, "server": server, "model": name, "sha256": digest, "dice": dice}
    log = share_log()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({**line, "base": base}) + "\n")


def _newer(client: DafneClient, name: str, before: ModelInfo) -> str | None:
    try:
        now = client.info(name)
    except ShareError as error:
        _LOG.info("the server did not answer while it was merging: %s", error.detail)
        return None
    newer = [stamp for stamp in now.timestamps if int(stamp) > int(before.latest)]
    return newer[0] if newer else None
