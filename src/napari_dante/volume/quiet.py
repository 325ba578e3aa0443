"""Silence around readers whose warnings and log lines quote what stands in a file."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

__all__ = ["quietly"]

_LIBRARIES = ("pydicom", "highdicom", "nrrd")
_lock = threading.Lock()
_inside = 0
_open = ExitStack()


@contextmanager
def quietly() -> Iterator[None]:
    """Keep warnings and the libraries' log lines back; in any number of threads at a time.

    What is silenced belongs to the whole process, so the first thread to come in silences
    it and the last one to leave gives it back as it was.
    """
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _inside
    from pydicom.config import disable_value_validation

    with _lock:
        if _inside == 0:
            _open.enter_context(disable_value_validation())
            _open.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            for name in _LIBRARIES:
                _open.enter_context(_disabled(logging.getLogger(name)))
        _inside += 1


def _leave() -> None:
    global _inside
    with _lock:
        _inside -= 1
        if _inside == 0:
            _open.close()


@contextmanager
def _disabled(logger: logging.Logger) -> Iterator[None]:
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before
