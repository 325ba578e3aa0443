"""Looking for our weights in the versions that a server shows afterwards. Torch-free."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from napari_dante.errors import JobError, ModelError, ShareError
from napari_dante.federated.client import DafneClient, Fate, ModelInfo
from napari_dante.federated.history import Receipt, note_receipt
from napari_dante.federated.outbox import Item, Outbox

__all__ = ["MERGE_SECONDS", "Finding", "Prover", "follow", "look"]

MERGE_SECONDS = 60.0
_POLL_SECONDS = (1.0, 5.0)
_MOST_VERSIONS = 20
_SETTLED = ("merged", "refused")
_LOG = logging.getLogger("napari_dante")

Finding = tuple[float | None, bool]
"""Share of the update in a version, None where it is not in it, and whether to the last bit."""

Prover = Callable[[Path, Path, Path], Finding | None]
"""Looks whether an update (second) went into a version (third) made from another (first)."""


def look(client: DafneClient, outbox: Outbox, item: Item, prove: Prover) -> Receipt:
    """Search the server's newer versions for an item that was sent.

    What is found goes into the log of receipts; an item that is proven to be merged, or
    that the server says it has refused, leaves the outbox.

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
        info = client.info(now.name)
        versions = _since(info, start)
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
        if receipt.outcome != "merged":
            fate = _fate(client, info, now)
            if fate is not None and fate.refused:
                receipt = replace(receipt, outcome="refused", reason=fate.reason)
        if versions[1:] or receipt.outcome == "refused":
            note_receipt(now, receipt)
    if receipt.outcome in _SETTLED:
        outbox.drop(now)
    return receipt


def _fate(client: DafneClient, info: ModelInfo, item: Item) -> Fate | None:
    """Return what the server says of an item, None where it does not say such things."""
    if "my_uploads" not in info.extensions:
        return None
    try:
        return client.fate(item.name, item.sha256)
    except ShareError as error:
        _LOG.info("the server did not say what became of an item: %s", error.detail)
        return None


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
        info = _info(client, item.name)
        if info is not None and (info.latest != newest or _refused(client, info, item)):
            receipt, newest = _looked(client, outbox, item, prove) or receipt, info.latest
        if receipt.outcome in _SETTLED or time.monotonic() + pause > deadline:
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


def _refused(client: DafneClient, info: ModelInfo, item: Item) -> bool:
    fate = _fate(client, info, item)
    return fate is not None and fate.refused


def _info(client: DafneClient, name: str) -> ModelInfo | None:
    try:
        return client.info(name)
    except ShareError as error:
        _LOG.info("the server did not answer while it was merging: %s", error.detail)
        return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
