"""The web interface: the routes, codes and answers of Dafne's own server.

Uploads are bounded before they are read, verified by their SHA-256, and answered before
they are merged, as Dafne does. Images are refused without being looked at.
"""

from __future__ import annotations

import hmac
import logging
import math
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, JSONResponse
from pydantic import BaseModel
from starlette.datastructures import UploadFile

from napari_dante.errors import ShareError
from napari_dante.federated.server.chunks import MAX_UPLOAD, Chunks
from napari_dante.federated.server.keys import user_of
from napari_dante.federated.server.merge import Merger
from napari_dante.federated.server.refused import Refused
from napari_dante.federated.server.store import Store
from napari_dante.files import sha256

__all__ = ["create_app", "serve"]

_LOG = logging.getLogger("napari_dante")


class _Keyed(BaseModel):
    api_key: str


class _Named(_Keyed):
    model_type: str


class _Version(_Named):
    timestamp: str


class _Log(_Keyed):
    message: str


@dataclass
class _Server:
    store: Store
    merger: Merger
    chunks: Chunks

    def user(self, key: object) -> str:
        user = user_of(self.store.data, key) if isinstance(key, str) else None
        if user is None:
            self.store.audit("wrong key")
            raise Refused(401, "invalid access code")
        return user

    def known(self, name: object) -> str:
        if not isinstance(name, str) or self.store.latest(name) is None:
            raise Refused(500, "invalid model type")
        return name


def create_app(data: Path) -> FastAPI:
    """Return the server of the folder `data` as an ASGI application."""
    store = Store(data)
    server = _Server(store, Merger(store), Chunks(store))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        server.merger.start()
        yield
        await run_in_threadpool(server.merger.stop)

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)

    @app.exception_handler(Refused)
    async def refuse(_: Request, refused: Refused) -> JSONResponse:
        return JSONResponse({"message": refused.message}, refused.status)

    _add_queries(app, server)
    _add_uploads(app, server)
    return app


def _add_queries(app: FastAPI, server: _Server) -> None:
    @app.post("/get_available_models")
    def get_available_models(query: _Keyed) -> dict[str, list[str]]:
        server.user(query.api_key)
        return {"models": server.store.names()}

    @app.post("/info_model")
    def info_model(query: _Named) -> dict[str, Any]:
        server.user(query.api_key)
        info = server.store.info(query.model_type)
        if info is None:
            raise Refused(404, "no models found for this type")
        return info

    @app.post("/get_model")
    def get_model(query: _Version) -> FileResponse:
        user = server.user(query.api_key)
        path = server.store.version(query.model_type, query.timestamp)
        if path is None:
            raise Refused(500, "invalid model - not found")
        server.store.audit("download", user=user, model=query.model_type, timestamp=path.stem)
        return FileResponse(path, media_type="application/octet-stream")

    @app.post("/evaluate_model")
    def evaluate_model(query: _Version) -> dict[str, str]:
        # Accepted for compatibility: this server has no images to evaluate on.
        server.user(query.api_key)
        return {"message": "starting evaluation successful"}

    @app.post("/log")
    def log(query: _Log) -> dict[str, str]:
        # The text is not kept: clients write what they like into it.
        server.store.audit("log", user=server.user(query.api_key), length=len(query.message))
        return {"message": "ok"}


def _add_uploads(app: FastAPI, server: _Server) -> None:
    @app.post("/upload_model")
    async def upload_model(request: Request) -> dict[str, str]:
        length = request.headers.get("content-length", "")
        if not length.isdigit() or int(length) > MAX_UPLOAD:
            raise Refused(413, "the upload is too large")
        async with request.form(max_files=1, max_fields=16) as form:
            part = form.get("model_binary")
            if not isinstance(part, UploadFile):
                raise Refused(400, "file upload error")
            fields = {key: value for key, value in form.items() if isinstance(value, str)}
            return await run_in_threadpool(_receive, server, fields, part)

    @app.post("/upload_data")
    async def upload_data(request: Request) -> None:
        async for _ in request.stream():
            pass
        raise Refused(403, "this server takes weights only")


def _receive(server: _Server, fields: dict[str, str], part: UploadFile) -> dict[str, str]:
    user = server.user(fields.get("api_key"))
    name = server.known(fields.get("model_type"))
    dice = _dice(fields.get("dice"))
    total = _number(fields.get("total_chunks", "1"))
    with ExitStack() as stack:
        parts: list[IO[bytes]] = [part.file]
        if total > 1:
            index = _number(fields.get("chunk_index", ""))
            filename = fields.get("filename", "")
            server.chunks.keep(name, user, filename, index, part.file)
            if index != total - 1:
                return {"message": "chunk received"}
            parts = server.chunks.open_all(stack, name, user, filename, total)
        upload = server.store.keep_upload(name, user, parts)
    digest = sha256(upload)
    stated = [fields[key] for key in ("original_hash", "hash") if fields.get(key)]
    if not all(hmac.compare_digest(digest.encode(), other.encode()) for other in stated):
        upload.unlink()
        server.store.audit("damaged upload", user=user, model=name)
        raise Refused(500, "Communication error during upload")
    server.store.audit(
        "upload", user=user, model=name, upload=upload.stem, sha256=digest, dice=dice
    )
    server.merger.add(name, upload)
    return {"message": "upload successful"}


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


def serve(data: Path, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Run the server of the folder `data` until it is interrupted.

    It speaks plain HTTP: beyond this computer, put a TLS proxy before it.

    Raises
    ------
    ShareError
        If the port cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise ShareError(f"Port {port} cannot be used on this computer.", repr(error)) from error
    config = uvicorn.Config(
        create_app(data), access_log=False, log_config=None, log_level="warning"
    )
    with listener:
        _LOG.info("serving on %s port %d", host, listener.getsockname()[1])
        uvicorn.Server(config).run(sockets=[listener])
