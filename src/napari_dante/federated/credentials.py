"""Where an API key is kept: the environment or the system's keyring, never a file."""

from __future__ import annotations

import logging
import os

import httpx
import keyring
from keyring.errors import KeyringError

from napari_dante.errors import ShareError

__all__ = ["ENVIRONMENT", "api_key", "remember_api_key"]

ENVIRONMENT = "NAPARI_DANTE_API_KEY"
_SERVICE = "napari-dante"
_LOG = logging.getLogger("napari_dante")


def api_key(url: str) -> str | None:
    """Return the key for the server at `url`, or None when there is none.

    The environment variable ``NAPARI_DANTE_API_KEY`` comes first, then the system's
    keyring, where the key lies under the server's host.
    """
    if key := os.environ.get(ENVIRONMENT):
        return key
    try:
        found: str | None = keyring.get_password(_SERVICE, httpx.URL(url).host)
    except KeyringError as error:
        _LOG.info("the system's keyring cannot be read: %s", type(error).__name__)
        return None
    return found


def remember_api_key(url: str, key: str) -> None:
    """Put the key for the server at `url` into the system's keyring.

    Raises
    ------
    ShareError
        If this computer has no keyring that can be used.
    """
    try:
        keyring.set_password(_SERVICE, httpx.URL(url).host, key)
    except KeyringError as error:
        raise ShareError(
            "This computer has no safe place for the API key; set the environment variable "
            f"{ENVIRONMENT} instead.",
            detail=type(error).__name__,
        ) from None
