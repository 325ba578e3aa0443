"""``serve``: the server, and what is done to it."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from napari_dante.cli.console import emit_json, say
from napari_dante.errors import ShareError
from napari_dante.federated.server import first_key, publish
from napari_dante.federated.server import rollback as roll_back
from napari_dante.federated.server import serve as run_server
from napari_dante.federated.server.store import Store
from napari_dante.federated.server.users import EVERY_MODEL, Right, Users
from napari_dante.model.library import Library

if TYPE_CHECKING:
    from napari_dante.model.dafne import DafneModel

__all__ = [
    "add_model",
    "add_user",
    "allow",
    "audit",
    "list_models",
    "list_users",
    "revoke",
    "rollback",
    "rule",
    "serve",
]


def serve(options: Namespace) -> None:
    """Run a Dafne-compatible server; an empty folder gets a key and the starter models."""
    data = _data(options)
    key = first_key(data)
    with closing(Store(data)) as store:
        empty = not store.names()
    if empty:
        library = Library()
        for name in library.shipped():
            publish(data, name, _read(library.versions(name)[0]))
    if key is not None:
        say(f"API key of the user 'admin', shown this once: {key}")
    scheme = "http" if options.certfile is None else "https"
    say(f"Serving on {scheme}://{options.host}:{options.port}/ (Ctrl+C ends it).")
    run_server(
        data,
        options.host,
        options.port,
        certfile=options.certfile,
        keyfile=options.keyfile,
        behind_proxy=options.behind_proxy,
    )


def add_user(options: Namespace) -> None:
    """Give a user a key."""
    with _users(options, new=True) as users:
        right: Right = "read" if options.read_only else "upload"
        key = users.add(options.name, models=options.model, right=right)
    say(f"API key of the user '{options.name}', shown this once: {key}")


def list_users(options: Namespace) -> None:
    """Print the users and what they may do."""
    with _users(options) as users:
        found = users.all()
    if options.json:
        emit_json({"users": [asdict(user) for user in found]})
        return
    for user in found:
        rights = ", ".join(f"{_model(name)}: {right}" for name, right in user.rights.items())
        say(f"{user.name:32s} {rights}{'' if user.revoked is None else '  (revoked)'}")


def revoke(options: Namespace) -> None:
    """Make the key of a user worthless."""
    with _users(options) as users:
        users.revoke(options.name)


def allow(options: Namespace) -> None:
    """Say what a user may do with a model."""
    with _users(options) as users:
        users.allow(
            options.name, EVERY_MODEL if options.model == "all" else options.model, options.right
        )


def list_models(options: Namespace) -> None:
    """Print the models and their versions."""
    with _store(options) as store:
        found = {name: (store.rule(name), store.versions(name)) for name in store.names()}
    if options.json:
        models = [
            {"name": name, "rule": rule, "versions": [asdict(one) for one in versions]}
            for name, (rule, versions) in found.items()
        ]
        emit_json({"models": models})
        return
    for name, (rule, versions) in found.items():
        say(f"{name}: merged by the rule '{rule}'")
        for one in versions:
            dice = "" if one.dice is None else f"  Dice {one.dice:.3f}"
            say(f"  {one.timestamp}  {one.origin}{dice}")


def add_model(options: Namespace) -> None:
    """Offer a new model."""
    timestamp = publish(_data(options), options.name, _read(options.file))
    say(f"{options.name}, version {timestamp}.")


def rollback(options: Namespace) -> None:
    """Make an old version the current one again."""
    timestamp = roll_back(_data(options), options.name, options.version)
    say(f"{options.name} is at version {timestamp} now, which is {options.version} again.")


def rule(options: Namespace) -> None:
    """Say how updates of a model are merged."""
    with _store(options) as store:
        store.set_rule(options.name, options.rule)


def audit(options: Namespace) -> None:
    """Print the audit trail, one JSON object a line."""
    with _store(options) as store:
        for line in store.database.audit_lines():
            say(line)


def _read(path: Path) -> DafneModel:
    from napari_dante.model.dafne import read_dafne, to_dafne
    from napari_dante.model.file import read_model

    return read_dafne(path) if path.suffix == ".model" else to_dafne(read_model(path))


@contextmanager
def _store(options: Namespace, *, new: bool = False) -> Iterator[Store]:
    data = _data(options)
    if not new and not (data / "server.sqlite").is_file():
        raise ShareError("There is no server in this folder.")
    with closing(Store(data)) as store:
        yield store


@contextmanager
def _users(options: Namespace, *, new: bool = False) -> Iterator[Users]:
    with _store(options, new=new) as store:
        yield Users(store.database)


def _data(options: Namespace) -> Path:
    if options.data is None:
        options.usage("the following arguments are required: --data")
    data: Path = options.data
    return data


def _model(name: str) -> str:
    return "all" if name == EVERY_MODEL else name
