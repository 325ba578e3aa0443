"""Which address of a server is acceptable: the API key is sent there."""

from __future__ import annotations

import ipaddress

import httpx

from napari_dante.errors import ShareError

__all__ = ["base_url", "followed", "is_loopback"]


def base_url(url: str) -> httpx.URL:
    """Return the address that routes are appended to; it ends in one slash.

    Raises
    ------
    ShareError
        If it is no web address, holds more than an address, or is plain ``http`` to
        another computer.
    """
    try:
        parsed = httpx.URL(url.strip())
    except httpx.InvalidURL:
        parsed = httpx.URL("")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ShareError("The address of a server looks like https://www.example.org/api.")
    if parsed.userinfo or parsed.query or parsed.fragment:
        raise ShareError("The address of the server must not hold a name, a key or a question.")
    if parsed.scheme == "http" and not is_loopback(parsed.host):
        raise ShareError(
            f"The address of {parsed.host} must begin with https://, or others could read the key."
        )
    return parsed.copy_with(path=parsed.path.rstrip("/") + "/")


def is_loopback(host: str) -> bool:
    """Tell whether `host` is this very computer."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def followed(old: httpx.URL, new: httpx.URL, route: str) -> httpx.URL:
    """Return the base address after a redirect of ``old + route`` to `new`.

    Raises
    ------
    ShareError
        If it leads to another host, another port or out of TLS.
    """
    same = (old.scheme, old.port) == (new.scheme, new.port)
    upgraded = (old.scheme, new.scheme) == ("http", "https")
    if old.host != new.host or not (same or upgraded):
        raise ShareError(
            f"The server at {old.host} sends its visitors on to {new.host}. The key was not sent "
            "there; if that is right, enter the new address."
        )
    return base_url(str(new.copy_with(query=None, fragment=None)).removesuffix(route))
