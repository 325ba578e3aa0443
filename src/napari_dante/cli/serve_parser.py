"""``serve`` and what is done to a server: its options."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from napari_dante.cli.options import Command, add_json, lazily

__all__ = ["add_serving"]

RULES = ("half", "cases", "examined")
RIGHTS = ("none", "read", "upload")


def add_serving(commands: Any) -> None:  # noqa: ANN401
    """Add ``serve`` with its actions."""
    text = "a Dafne-compatible server, its users and its models"
    serve = commands.add_parser("serve", help=text, description=text)
    _add_data(serve)
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=int, default=8000)
    serve.add_argument("--certfile", type=Path, help="certificate chain for TLS, PEM")
    serve.add_argument("--keyfile", type=Path, help="its private key, PEM")
    serve.add_argument(
        "--behind-proxy",
        action="store_true",
        help="believe a proxy on this computer when it says where a request comes from",
    )
    serve.set_defaults(command=lazily("serving", "serve"), usage=serve.error)
    groups = serve.add_subparsers(title="actions", metavar="ACTION")
    _add_users(groups)
    _add_models(groups)
    _action(groups, "audit", lazily("serving", "audit"), "everything that ever happened")


def _add_users(groups: Any) -> None:  # noqa: ANN401
    users = groups.add_parser("user", help="who may use the server")
    actions = users.add_subparsers(title="actions", metavar="ACTION", required=True)
    text = "give a user a key, shown this once; an older key of theirs is worthless then"
    add = _action(actions, "add", lazily("serving", "add_user"), text)
    add.add_argument("name")
    add.add_argument(
        "--model",
        action="append",
        default=[],
        help="a model that a new user may use, again for each; all of them when left out",
    )
    add.add_argument("--read-only", action="store_true", help="a new user may not send updates")
    listing = _action(actions, "list", lazily("serving", "list_users"), "users and their rights")
    add_json(listing)
    revoke = _action(actions, "revoke", lazily("serving", "revoke"), "make a key worthless")
    revoke.add_argument("name")
    allow = _action(actions, "allow", lazily("serving", "allow"), "what a user may do with a model")
    allow.add_argument("name")
    allow.add_argument("model", help="name, or 'all' for those that are not named")
    allow.add_argument("right", choices=RIGHTS)


def _add_models(groups: Any) -> None:  # noqa: ANN401
    models = groups.add_parser("model", help="what the server offers")
    actions = models.add_subparsers(title="actions", metavar="ACTION", required=True)
    listing = _action(actions, "list", lazily("serving", "list_models"), "models and versions")
    add_json(listing)
    add = _action(actions, "add", lazily("serving", "add_model"), "offer a new model")
    add.add_argument("name")
    add.add_argument("file", type=Path, help=".safetensors of ours, or Dafne's .model")
    text = "make an old version the current one again"
    rollback = _action(actions, "rollback", lazily("serving", "rollback"), text)
    rollback.add_argument("name")
    rollback.add_argument("version", help="as 'serve model list' prints it")
    text = "how updates are merged: half and half, by cases, or as examined"
    rule = _action(actions, "rule", lazily("serving", "rule"), text)
    rule.add_argument("name")
    rule.add_argument("rule", choices=RULES)


def _action(
    actions: Any,  # noqa: ANN401
    name: str,
    command: Command,
    text: str,
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=text, description=text)
    # SUPPRESS: what was said before the action must not be forgotten after it.
    _add_data(parser, default=argparse.SUPPRESS)
    parser.set_defaults(command=command, usage=parser.error)
    return parser


def _add_data(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    parser.add_argument("--data", type=Path, default=default, help="the server's folder, required")
