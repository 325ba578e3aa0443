"""What is refused before anything of a request is read."""

from __future__ import annotations

import json
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from napari_dante.federated.server import chunks

__all__ = ["Limits"]

MAX_QUERY = 64 * 1024
_FORM = 1024**2
_UPLOADS = ("/upload_model", "/upload_data")
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]


class Limits:
    """An ASGI application around `app` that knows how long a request may be.

    A request must say how long it is: what comes in pieces without a length could be
    endless.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *_HEADERS]}
            await send(message)

        refused = _refusal(scope)
        if refused is None:
            await self._app(scope, receive, send_guarded)
            return
        status, text = refused
        body = json.dumps({"message": text}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        start: dict[str, Any] = {"type": "http.response.start", "status": status}
        await send_guarded({**start, "headers": headers})
        await send_guarded({"type": "http.response.body", "body": body})


def _refusal(scope: Scope) -> tuple[int, str] | None:
    headers = dict(scope["headers"])
    if b"transfer-encoding" in headers:
        return 411, "say how long the request is"
    length = headers.get(b"content-length", b"0")
    upload = scope["path"].endswith(_UPLOADS)
    most = chunks.MAX_UPLOAD + _FORM if upload else MAX_QUERY
    if not length.isdigit() or len(length) > 20 or int(length) > most:
        return 413, "the upload is too large" if upload else "the request is too large"
    return None
