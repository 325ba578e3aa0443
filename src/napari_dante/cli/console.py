"""The one place that writes to the terminal."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from typing import Any

from napari_dante.errors import DanteError

__all__ = ["complain", "emit_json", "notice", "progress", "say"]

_log = logging.getLogger("napari_dante")


def say(text: str) -> None:
    """Write a line to standard output."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def emit_json(data: Mapping[str, Any]) -> None:
    """Write one JSON object to standard output."""
    say(json.dumps(data, indent=1))


def complain(error: DanteError) -> None:
    """Write the sentence to standard error, the detail to the log."""
    _log.info("%s: %s", type(error).__name__, error.detail)
    sys.stderr.write(f"{error.sentence}\n")


def notice(text: str) -> None:
    """Write a line to standard error, under the progress line if there is one."""
    sys.stderr.write(f"\n{text}\n" if sys.stderr.isatty() else f"{text}\n")
    sys.stderr.flush()


def progress(text: str, *, last: bool = False) -> None:
    """Rewrite the progress line on standard error, if a person is looking at it."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}" + ("\n" if last else ""))
        sys.stderr.flush()
