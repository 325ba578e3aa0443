"""Pulling, pushing and the outbox: their options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari_dante.cli.options import add, add_json, lazily

__all__ = ["add_sharing"]


def add_sharing(commands: Any) -> None:  # noqa: ANN401
    """Add ``pull``, ``push``, ``outbox`` and ``receipts``."""
    pull = add(commands, "pull", "sharing", "fetch a model from a Dafne server")
    pull.add_argument("name")
    pull.add_argument("--server", required=True, metavar="URL")
    pull.add_argument("--out", type=Path, required=True, help=".safetensors")
    text = "examine what would replace OUT on the exam slices of this job folder"
    pull.add_argument("--job", type=Path, metavar="DIR", help=text)
    pull.add_argument(
        "--even-if-worse", action="store_true", help="replace OUT although the exam says worse"
    )
    push = add(commands, "push", "sharing", "send the weights of a model to a Dafne server")
    push.add_argument("model")
    push.add_argument("--server", required=True, metavar="URL")
    push.add_argument("--name", required=True, help="name of the model on the server")
    push.add_argument("--exam", type=Path, help="exam.json of the job that made it")
    text = "examine what the server would make of it on the exam slices of this job folder"
    push.add_argument("--job", type=Path, metavar="DIR", help=text)
    add_json(push)
    _add_outbox(commands)


def _add_outbox(commands: Any) -> None:  # noqa: ANN401
    text = "what waits to be shared, or to be merged"
    outbox = commands.add_parser("outbox", help=text, description=text)
    actions = outbox.add_subparsers(title="actions", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help=text)
    add_json(listing)
    listing.set_defaults(command=lazily("outbox", "list_items"))
    retrying = actions.add_parser("retry", help="send what waits, look for what was sent")
    retrying.add_argument("id", nargs="*", help="beginning of an id; all items without one")
    retrying.set_defaults(command=lazily("outbox", "retry_items"))
    dropping = actions.add_parser("drop", help="remove an item; the model itself stays")
    dropping.add_argument("id", nargs="+", help="beginning of an id")
    dropping.set_defaults(command=lazily("outbox", "drop_items"))
    receipts = add(commands, "receipts", "outbox", "what was shared, and what became of it")
    add_json(receipts)
