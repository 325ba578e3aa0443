"""Taking an update in: who sends it, whether it is whole, and into the queue with it."""

from __future__ import annotations

import hmac
import math
from collections.abc import Mapping
from dataclasses import dataclass

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from napari_dante.federated.server.chunks import MAX_UPLOAD, Chunks
from napari_dante.federated.server.door import Door
from napari_dante.federated.server.form import Form
from napari_dante.federated.server.merging import Merging
from napari_dante.federated.server.refused import Refused
from napari_dante.federated.server.store import Store
from napari_dante.federated.server.uploads import Received, Uploads

__all__ = ["Receiving", "address"]

_BLOCK = 1024**2
_TIMES, _MORE = 4, 16 * 1024**2
"""An update may have this many times the bytes of the current version, and so many more:
Dante's files hold a second and a third copy of the weights."""
_MOST_WAITING = 50


@dataclass(frozen=True)
class _Sender:
    user: str
    model: str
    most: int


@dataclass(frozen=True)
class _Facts:
    """What the fields of a form say."""

    dice: float | None
    cases: int | None
    total: int
    index: int
    filename: str
    stated: tuple[str, ...]

    @classmethod
    def of(cls, fields: Mapping[str, str]) -> _Facts:
        total = _number(fields.get("total_chunks", "1"))
        return cls(
            _dice(fields.get("dice")),
            max(1, _number(fields["cases"])) if fields.get("cases") else None,
            total,
            _number(fields.get("chunk_index", "")) if total > 1 else 0,
            fields.get("filename", ""),
            tuple(fields[key] for key in ("original_hash", "hash") if fields.get(key)),
        )


class Receiving:
    """The way of an update from the network to the queue."""

    def __init__(
        self, store: Store, uploads: Uploads, chunks: Chunks, door: Door, merging: Merging
    ) -> None:
        self._store = store
        self._uploads = uploads
        self._chunks = chunks
        self._door = door
        self._merging = merging

    async def upload(self, request: Request) -> dict[str, str]:
        """Answer one upload.

        After a refusal the rest is read and thrown away: a client that is still sending
        would not hear the answer.

        Raises
        ------
        Refused
            If it is not taken.
        """
        refused: Refused | None = None
        sender: _Sender | None = None
        received: Received | None = None
        try:
            form = Form(request.headers.get("content-type", ""))
            async for data in request.stream():
                if refused is not None:
                    continue
                try:
                    form.feed(data)
                    if form.before is not None and received is None:
                        origin = address(request)
                        sender = await run_in_threadpool(self._sender, form.before, origin)
                        received = await run_in_threadpool(self._uploads.receive, sender.model)
                    if received is not None and sender is not None and form.waiting >= _BLOCK:
                        await run_in_threadpool(_write, received, form.take(), sender.most)
                except Refused as error:
                    refused = error
            if refused is not None:
                raise refused
            if sender is None or received is None or not form.ended:
                await run_in_threadpool(self._sender, form.fields, address(request))
                raise Refused(400, "file upload error")
            _write(received, form.take(), sender.most)
            return await run_in_threadpool(self._keep, sender, received, form.fields)
        except ClientDisconnect:
            raise Refused(400, "file upload error") from None
        finally:
            if received is not None:
                received.discard()

    def _sender(self, fields: Mapping[str, str], origin: str) -> _Sender:
        user = self._door.user(fields.get("api_key"), origin)
        name = fields.get("model_type", "")
        self._door.check(user, name, "upload")
        latest = self._store.latest(name)
        if latest is None:
            raise Refused(500, "invalid model type")
        if self._uploads.waiting_of(user) >= _MOST_WAITING:
            raise Refused(429, "too many of your updates are waiting")
        return _Sender(user, name, min(MAX_UPLOAD, _TIMES * latest.size + _MORE))

    def _keep(
        self, sender: _Sender, received: Received, fields: Mapping[str, str]
    ) -> dict[str, str]:
        facts = _Facts.of(fields)
        received.finish()
        if facts.total == 1:
            return self._add(sender, received, facts)
        self._chunks.keep(sender.model, sender.user, facts.filename, facts.index, received)
        if facts.index != facts.total - 1:
            return {"message": "chunk received"}
        whole = self._chunks.join(sender.model, sender.user, facts.filename, facts.total)
        try:
            return self._add(sender, whole, facts)
        finally:
            whole.discard()

    def _add(self, sender: _Sender, received: Received, facts: _Facts) -> dict[str, str]:
        digest = received.sha256.encode()
        if not all(hmac.compare_digest(digest, other.encode()) for other in facts.stated):
            self._store.database.note("damaged upload", user=sender.user, model=sender.model)
            raise Refused(500, "Communication error during upload")
        if received.size > sender.most:
            raise Refused(413, "the upload is too large")
        self._uploads.add(sender.model, sender.user, received, facts.cases, facts.dice)
        self._merging.wake()
        return {"message": "upload successful"}


def address(request: Request) -> str:
    """Return where a request comes from."""
    return request.client.host if request.client else ""


def _write(received: Received, data: bytes, most: int) -> None:
    received.write(data)
    if received.size > most:
        raise Refused(413, "the upload is too large")


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 5):
        raise Refused(422, "a chunk number is not a number")
    return int(text)


def _dice(text: str | None) -> float | None:
    try:
        value = float(text) if text else None
    except ValueError:
        raise Refused(422, "dice is not a number") from None
    return value if value is not None and math.isfinite(value) else None
