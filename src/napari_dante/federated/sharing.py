"""Sending a model away so that it is never lost on the way, and never sent twice. Torch-free."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from napari_dante.errors import JobError, ModelError, Outdated, ShareError, Uncertain, Unreachable
from napari_dante.federated.client import DafneClient, ModelInfo
from napari_dante.federated.history import Receipt, note_receipt, note_share, shares
from napari_dante.federated.outbox import Item, Outbox

__all__ = [
    "Finding",
    "Prover",
    "check_not_shared",
    "follow",
    "look",
    "push_file",
    "retry",
    "send",
    "send_due",
]

MERGE_SECONDS = 60.0
SEND_PAUSES = (2.0, 8.0)
"""Seconds before a file that certainly did not arrive is sent again."""

_POLL_SECONDS = (1.0, 5.0)
_MOST_VERSIONS = 20
_LOG = logging.getLogger("napari_dante")

Finding = tuple[float | None, bool]
"""Share of the update in a version, None where it is not in it, and whether to the last bit."""

Prover = Callable[[Path, Path, Path], Finding | None]
"""Looks whether an update (second) went into a version (third) made from another (first)."""


def push_file(
    client: DafneClient,
    outbox: Outbox,
    path: Path,
    prove: Prover,
    *,
    name: str,
    base: str,
    source: str = "",
    dice: float | None = None,
    merge_seconds: float = MERGE_SECONDS,
) -> Receipt:
    """Send a ``.model`` file as an update of a model, and look for it in the next version.

    What waits for the same server goes along.

    Parameters
    ----------
    client
        Of the server.
    outbox
        Keeps a copy of the file until the server is proven to have merged it.
    path
        The file; it is left alone.
    prove
        The arithmetic, which needs torch.
    name, base
        Of the model on the server, and the version that the file was checked against.
    source
        SHA-256 of the model file of ours that it was made from.
    dice
        Mean Dice of the exam, or None.
    merge_seconds
        How long to wait for the new version.

    Raises
    ------
    ModelError
        If `name` cannot be the name of a model.
    ShareError
        If the weights were shared before, or the server refuses or is not there; what
        was not shared before waits in the outbox.
    """
    check_not_shared(client.host, name, source)
    item = outbox.put(path, url=client.url, name=name, base=base, source=source, dice=dice)
    try:
        sent = send(client, outbox, item)
    except Outdated:
        outbox.drop(item)
        raise
    receipt = follow(client, outbox, sent, prove, merge_seconds)
    for error in send_due(client, outbox):
        _LOG.info("an earlier item still waits: %s", error.detail)
    return receipt


def check_not_shared(server: str, name: str, source: str) -> None:
    """Refuse weights that a version of the server is already proven to hold.

    Raises
    ------
    ShareError
        If they are; sending them again would count them twice.
    """
    for shared in shares():
        same = (shared.server, shared.model, shared.source) == (server, name, source)
        if same and source and shared.receipt and shared.receipt.outcome == "merged":
            raise ShareError(
                f"Nothing was sent. These weights are already in version "
                f"{shared.receipt.after_timestamp} of '{name}' on {server}."
            )


def send(client: DafneClient, outbox: Outbox, item: Item) -> Item:
    """Send an item that waits, with patience; return it as ``sent``.

    An item that was sent before is returned as it is: only one that certainly did not
    arrive is ever sent again.

    Raises
    ------
    Uncertain
        If nobody knows whether it arrived; the item is ``unknown`` from now on.
    ShareError
        If it certainly did not arrive: the server is not there, refuses, or has a newer
        version than the one that the file was checked against. The item waits.
    """
    with outbox.held(item) as now:
        if now.state != "waiting":
            return outbox.save(now)
        for pause in (*SEND_PAUSES, None):
            now = outbox.save(replace(now, tries=now.tries + 1))
            try:
                return _send_once(client, outbox, now)
            except Unreachable as error:
                now = outbox.save(now.put_off(error.sentence))
                if pause is None:
                    raise
                time.sleep(pause)
    raise AssertionError("unreachable")


def _send_once(client: DafneClient, outbox: Outbox, item: Item) -> Item:
    path = outbox.file(item)
    current = client.info(item.name).latest
    if current != item.base:
        error = Outdated(
            f"The server has a newer version of '{item.name}' than the one that this was "
            "checked against, so it was not sent: check and push again."
        )
        outbox.save(replace(item, reason=error.sentence))
        raise error
    outbox.save(replace(item, state="sending", reason=""))
    try:
        client.upload(item.name, path, item.dice)
    except Uncertain as error:
        note_share(item, "unknown")
        outbox.save(replace(item, state="unknown", reason=error.sentence))
        raise
    except ShareError as error:
        note_share(item, "broken off" if isinstance(error, Unreachable) else "refused")
        outbox.save(item.put_off(error.sentence))
        raise
    note_share(item, "received")
    return outbox.save(replace(item, state="sent", reason=""))


def look(client: DafneClient, outbox: Outbox, item: Item, prove: Prover) -> Receipt:
    """Search the server's newer versions for an item that was sent.

    What is found goes into the log of receipts; an item that is proven to be merged
    leaves the outbox.

    Parameters
    ----------
    client
        Of the server.
    outbox, item
        What was sent.
    prove
        The arithmetic, which needs torch.

    Raises
    ------
    ShareError
        If the server refuses or is not there.
    """
    with outbox.held(item) as now, tempfile.TemporaryDirectory() as folder:
        start = now.looked or now.base
        versions = _since(client.info(now.name), start)
        receipt = Receipt(now.base, now.looked or None, time=_now())
        # Without the version that it began from, nothing is proven of the next one.
        unclear = versions[:1] != [start]
        for older, newer in pairwise(versions):
            finding = _found(client, outbox, now, prove, Path(folder), older, newer)
            unclear = unclear or finding is None
            share, exact = finding or (None, False)
            if share is not None:
                receipt = Receipt(now.base, newer, "merged", share, exact, _now())
                break
            receipt = replace(receipt, after_timestamp=newer)
        if receipt.outcome != "merged" and receipt.after_timestamp is not None and not unclear:
            receipt = replace(receipt, outcome="not merged")
            now = outbox.save(replace(now, looked=versions[-1]))
        if versions[1:]:
            note_receipt(now, receipt)
    if receipt.outcome == "merged":
        outbox.drop(now)
    return receipt


def _since(info: ModelInfo, base: str) -> list[str]:
    """Return the versions from `base` on, oldest first."""
    return [stamp for stamp in info.timestamps if int(stamp) >= int(base)][:_MOST_VERSIONS]


def _found(
    client: DafneClient,
    outbox: Outbox,
    item: Item,
    prove: Prover,
    folder: Path,
    older: str,
    newer: str,
) -> Finding | None:
    """Look at one version; two merges may also have begun from one and the same version."""
    try:
        after = _fetched(client, item, folder, newer)
        finding: Finding | None = (None, False)
        for base in dict.fromkeys((older, item.base)):
            finding = prove(_fetched(client, item, folder, base), outbox.file(item), after)
            if finding is None or finding[0] is not None:
                break
    except (JobError, ModelError) as error:
        _LOG.info("a version of the server cannot be read: %s", error.detail)
        return None
    return finding


def _fetched(client: DafneClient, item: Item, folder: Path, version: str) -> Path:
    path = folder / f"{version}.model"
    if not path.is_file():
        client.download(item.name, path, version)
    return path


def follow(
    client: DafneClient,
    outbox: Outbox,
    item: Item,
    prove: Prover,
    merge_seconds: float = MERGE_SECONDS,
) -> Receipt:
    """Wait for the server's next version and look for the item in it.

    Returns
    -------
    Receipt
        ``unknown`` when there is no newer version within `merge_seconds`, or none that can
        be fetched. The item stays in the outbox, to be looked for later.
    """
    deadline = time.monotonic() + merge_seconds
    receipt, newest = Receipt(item.base, None, time=_now()), item.base
    for pause in _pauses():
        latest = _latest(client, item.name)
        if latest is not None and latest != newest:
            receipt, newest = _looked(client, outbox, item, prove) or receipt, latest
        if receipt.outcome == "merged" or time.monotonic() + pause > deadline:
            return receipt
        time.sleep(pause)
    raise AssertionError("endless")


def _looked(client: DafneClient, outbox: Outbox, item: Item, prove: Prover) -> Receipt | None:
    try:
        return look(client, outbox, item, prove)
    except ShareError as error:
        _LOG.info("the server's new version was not searched: %s", error.detail)
        return None


def _pauses() -> Iterator[float]:
    pause, longest = _POLL_SECONDS
    while True:
        yield pause
        pause = min(longest, 1.2 * pause)


def _latest(client: DafneClient, name: str) -> str | None:
    try:
        return client.info(name).latest
    except ShareError as error:
        _LOG.info("the server did not answer while it was merging: %s", error.detail)
        return None


def retry(client: DafneClient, outbox: Outbox, item: Item, prove: Prover) -> Receipt:
    """Do what can be done for an item: send it, or look for what was sent.

    Raises
    ------
    ShareError
        If the server refuses or is not there; the item is still in the outbox.
    """
    if item.state == "waiting":
        sent = send(client, outbox, item)
        return follow(client, outbox, sent, prove, merge_seconds=0.0)
    return look(client, outbox, item, prove)


def send_due(client: DafneClient, outbox: Outbox) -> list[ShareError]:
    """Send what waits for this server and may be tried again; return what went wrong."""
    failures: list[ShareError] = []
    for item in outbox.items():
        if item.url == client.url and item.state == "waiting" and item.not_before <= time.time():
            try:
                send(client, outbox, item)
            except ShareError as error:
                failures.append(error)
    return failures


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
