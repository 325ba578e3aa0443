"""Sending a model away so that it is never lost on the way, and never sent twice. Torch-free."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path

from napari_dante.errors import Outdated, ShareError, Uncertain, Unreachable
from napari_dante.federated.client import DafneClient
from napari_dante.federated.history import Receipt, note_share, shares
from napari_dante.federated.lookout import MERGE_SECONDS, Prover, follow, look
from napari_dante.federated.outbox import Item, Outbox

__all__ = ["check_not_shared", "push_file", "retry", "send", "send_due"]

SEND_PAUSES = (2.0, 8.0)
"""Seconds before a file that certainly did not arrive is sent again."""

APART = 1.1
"""Seconds between two uploads: Dafne's servers name a file by the second it came in, so a
second one would overwrite the first."""

_last: dict[str, float] = {}
_LOG = logging.getLogger("napari_dante")


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
    cases: int | None = None,
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
    cases
        How many images it was taught, or None; it goes to servers that take it.
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
    item = outbox.put(
        path, url=client.url, name=name, base=base, source=source, dice=dice, cases=cases
    )
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
    info = client.info(item.name)
    if info.latest != item.base:
        error = Outdated(
            f"The server has a newer version of '{item.name}' than the one that this was "
            "checked against, so it was not sent: check and push again."
        )
        outbox.save(replace(item, reason=error.sentence))
        raise error
    time.sleep(max(0.0, _last.get(item.url, 0.0) + APART - time.monotonic()))
    outbox.save(replace(item, state="sending", reason=""))
    leaves = item if "cases" in info.extensions else replace(item, cases=None)
    try:
        client.upload(item.name, path, item.dice, leaves.cases)
    except Uncertain as error:
        note_share(leaves, "unknown")
        outbox.save(replace(item, state="unknown", reason=error.sentence))
        raise
    except ShareError as error:
        note_share(leaves, "broken off" if isinstance(error, Unreachable) else "refused")
        outbox.save(item.put_off(error.sentence))
        raise
    finally:
        _last[item.url] = time.monotonic()
    note_share(leaves, "received")
    return outbox.save(replace(item, state="sent", reason=""))


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
