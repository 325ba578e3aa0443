"""What the commands' options have in common, and what they make of their words."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from typing import Any

__all__ = [
    "Command",
    "add",
    "add_json",
    "fraction",
    "key_value",
    "lazily",
    "parse_label",
    "parse_new_label",
    "parse_slices",
    "share",
]

Command = Callable[[argparse.Namespace], int | None]


def lazily(module: str, name: str) -> Command:
    """Import a command only when it runs: ``--help`` must not wait for torch."""

    def command(options: argparse.Namespace) -> int | None:
        function = getattr(importlib.import_module(f"napari_dante.cli.{module}"), name)
        status: int | None = function(options)
        return status

    return command


def add(commands: Any, name: str, module: str, text: str) -> argparse.ArgumentParser:  # noqa: ANN401
    """Add a command that runs the function of its name in a module of this package."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(command=lazily(module, name))
    return parser


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add the option to print one JSON object."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def parse_slices(text: str) -> tuple[int, ...]:
    """Return the indices in a list such as ``10,12,40-44``, ascending."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        try:
            found.update(range(int(first), int(last or first) + 1))
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"'{text}' is not a list of slices such as 10,12,40-44"
            ) from None
    if not found or min(found) < 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a list of slices such as 10,12,40-44")
    return tuple(sorted(found))


def key_value(text: str) -> tuple[str, str]:
    """Return both sides of ``key=value``."""
    key, mark, value = text.partition("=")
    if not (mark and key and value):
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form key=value")
    return key, value


def parse_new_label(text: str) -> tuple[int | None, str]:
    """Return the label value, if one is given, and the name of a new structure."""
    value, mark, name = text.partition("=")
    number, name = (int(value), name) if mark and value.isdecimal() else (None, text)
    if not name.strip() or number == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form name or value=name")
    return number, name.strip()


def parse_label(text: str) -> tuple[int, str]:
    """Return a label value and the name that it shall have."""
    value, name = parse_new_label(text)
    if value is None:
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form value=name")
    return value, name


def fraction(text: str) -> float:
    """Return a number from 0 to below 1."""
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError("must be at least 0 and below 1")
    return value


def share(text: str) -> float:
    """Return a number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError("must be from 0 to 1")
    return value
