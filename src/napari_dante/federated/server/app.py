"""The web interface: the routes, codes and answers of Dafne's own servers.

Uploads are bounded before they are read, verified by their SHA-256, and answered before
they are merged, as Dafne does. Images are refused without being looked at.
"""

from __future__ import annotations

import base64
import binascii
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from pydantic import BaseModel, StringConstraints

from napari_dante.federated.server.chunks import Chunks
from napari_dante.federated.server.door import Door
from napari_dante.federated.server.limits import Limits
from napari_dante.federated.server.merging import Merging
from napari_dante.federated.server.page import POLICY, page
from napari_dante.federated.server.receiving import Receiving, address
from napari_dante.federated.server.refused import Refused
from napari_dante.federated.server.store import Store
from napari_dante.federated.server.uploads import Upload, Uploads

__all__ = ["create_app"]

EXTENSIONS = ("cases", "my_uploads")
"""What this server takes beyond Dafne's protocol: a form field, and a route."""

Text = Annotated[str, StringConstraints(max_length=256)]


class _Keyed(BaseModel):
    api_key: Text


class _Named(_Keyed):
    model_type: Text


class _Version(_Named):
    timestamp: Text


class _Log(_Keyed):
    message: str


class _Server:
    def __init__(self, data: Path) -> None:
        self.store = Store(data)
        self.uploads = Uploads(self.store)
        self.chunks = Chunks(self.uploads)
        self.door = Door(self.store.database)
        self.merging = Merging(data)
        self.receiving = Receiving(self.store, self.uploads, self.chunks, self.door, self.merging)

    def start(self) -> None:
        """Bring order into what a killed server left, and go on where it stopped."""
        self.uploads.settle()
        for name in self.store.names():
            self.chunks.clear(name)
        if self.uploads.waiting():
            self.merging.wake()

    def stop(self) -> None:
        self.merging.stop()
        self.store.close()

    def reader(self, query: _Named, request: Request) -> str:
        """Return the user of a query about one model, if it is theirs to read."""
        user = self.door.user(query.api_key, address(request))
        self.door.check(user, query.model_type, "read")
        return user

    def readable(self, user: str) -> list[str]:
        return [name for name in self.store.names() if self.door.allowed(user, name, "read")]


def create_app(data: Path) -> FastAPI:
    """Return the server of the folder `data` as an ASGI application."""
    server = _Server(data)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(server.start)
        yield
        await run_in_threadpool(server.stop)

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Limits)

    @app.exception_handler(Refused)
    async def refuse(_: Request, refused: Refused) -> JSONResponse:
        return JSONResponse({"message": refused.message}, refused.status, refused.headers)

    @app.exception_handler(RequestValidationError)
    async def misread(_: Request, error: RequestValidationError) -> JSONResponse:
        # FastAPI's own answer would repeat the request, and with it the key.
        found = [{key: one[key] for key in ("type", "loc", "msg")} for one in error.errors()]
        return JSONResponse({"detail": found}, 422)

    @app.exception_handler(OSError)
    @app.exception_handler(sqlite3.OperationalError)
    async def full(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"message": "the server cannot store anything now"}, 507)

    _add_queries(app, server)
    _add_uploads(app, server)
    return app


def _add_queries(app: FastAPI, server: _Server) -> None:
    @app.post("/get_available_models")
    def get_available_models(query: _Keyed, request: Request) -> dict[str, list[str]]:
        user = server.door.user(query.api_key, address(request))
        return {"models": server.readable(user)}

    @app.post("/info_model")
    def info_model(query: _Named, request: Request) -> dict[str, Any]:
        server.reader(query, request)
        info = server.store.info(query.model_type)
        if info is None:
            raise Refused(404, "no models found for this type")
        return info | {"extensions": list(EXTENSIONS)}

    @app.post("/get_model")
    def get_model(query: _Version, request: Request) -> FileResponse:
        user = server.reader(query, request)
        version = server.store.version(query.model_type, query.timestamp)
        if version is None:
            raise Refused(500, "invalid model - not found")
        server.store.database.note_soon(
            "download", user=user, model=query.model_type, timestamp=version.timestamp
        )
        return FileResponse(
            server.store.path(query.model_type, version),
            media_type="application/octet-stream",
            headers={"X-SHA256-Checksum": version.sha256},
        )

    @app.post("/evaluate_model")
    def evaluate_model(query: _Version, request: Request) -> dict[str, str]:
        # Accepted for compatibility: this server examines every update by itself.
        server.reader(query, request)
        return {"message": "starting evaluation successful"}

    @app.post("/log")
    def log(query: _Log, request: Request) -> dict[str, str]:
        # The text is not kept: clients write what they like into it.
        user = server.door.user(query.api_key, address(request))
        server.store.database.note_soon("log", user=user, length=len(query.message))
        return {"message": "ok"}

    @app.post("/my_uploads")
    def my_uploads(query: _Named, request: Request) -> dict[str, list[dict[str, Any]]]:
        user = server.reader(query, request)
        mine = (one for one in server.uploads.of(query.model_type) if one.user == user)
        return {"uploads": [_told(one) for one in mine]}

    @app.get("/")
    def overview(request: Request) -> HTMLResponse:
        user = server.door.user(_basic_key(request), address(request))
        names = server.readable(user)
        return HTMLResponse(
            page(server.store, server.uploads, names, user),
            headers={"Content-Security-Policy": POLICY},
        )


def _told(upload: Upload) -> dict[str, Any]:
    """Return what the sender of an update is told about it."""
    return {
        "sha256": upload.sha256,
        "received": upload.received,
        "state": upload.state,
        "reason": upload.reason,
        "version": None if upload.version is None else str(upload.version),
        "dice": upload.dice,
    }


def _basic_key(request: Request) -> str:
    """Return the key that a browser sends: any name, and the key for a password."""
    kind, _, code = request.headers.get("authorization", "").partition(" ")
    try:
        _, mark, key = base64.b64decode(code, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        mark, key = "", ""
    if kind.lower() != "basic" or not mark:
        raise Refused(401, "invalid access code", {"WWW-Authenticate": 'Basic realm="models"'})
    return key


def _add_uploads(app: FastAPI, server: _Server) -> None:
    @app.post("/upload_model")
    async def upload_model(request: Request) -> dict[str, str]:
        return await server.receiving.upload(request)

    @app.post("/upload_data")
    async def upload_data(request: Request) -> None:
        async for _ in request.stream():
            pass
        raise Refused(403, "this server takes weights only")
