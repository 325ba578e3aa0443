"""``outbox list``, ``retry`` and ``drop``, and ``receipts``."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict

from napari_dante.cli.console import complain, emit_json, say
from napari_dante.cli.sharing import connect
from napari_dante.errors import ShareError
from napari_dante.federated.history import shares
from napari_dante.federated.outbox import Item, Outbox
from napari_dante.federated.sharing import retry
from napari_dante.model.merging import prove_files

__all__ = ["drop_items", "list_items", "receipts", "retry_items"]


def list_items(options: Namespace) -> None:
    """Print what waits to be shared, or to be merged."""
    items = Outbox().items()
    if options.json:
        emit_json({"items": [asdict(item) for item in items]})
        return
    for item in items:
        say(f"{item.id}  {item.state:8s} {item.name} for {item.server}, {item.created[:16]} UTC")
        if item.reason:
            say(f"    {item.reason}")
    if not items:
        say("Nothing waits.")


def retry_items(options: Namespace) -> int:
    """Send what waits, and look for what was sent; the items named, or all."""
    outbox, failed = Outbox(), False
    for item in _chosen(outbox, options.id):
        try:
            with connect(item.url) as client:
                receipt = retry(client, outbox, item, prove_files)
        except ShareError as error:
            complain(error)
            failed = True
        else:
            say(f"{item.id}  {receipt.sentence}")
    return int(failed)


def drop_items(options: Namespace) -> None:
    """Remove items with their files; the models in the library stay."""
    outbox = Outbox()
    for item in _chosen(outbox, options.id):
        outbox.drop(item)
        say(f"{item.id} was dropped.")


def receipts(options: Namespace) -> None:
    """Print what left this computer, and what became of it."""
    found = shares()
    if options.json:
        emit_json({"shared": [asdict(shared) for shared in found]})
        return
    for shared in found:
        say(f"{shared.time}  {shared.model} to {shared.server}: {shared.answer}")
        if shared.receipt is not None:
            say(f"    {shared.receipt.sentence}")
    if not found:
        say("Nothing was ever shared from here.")


def _chosen(outbox: Outbox, ids: Sequence[str]) -> list[Item]:
    return [outbox.find(one) for one in ids] if ids else outbox.items()
