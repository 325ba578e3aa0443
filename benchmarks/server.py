"""A real server process under load: many who ask and download while some upload 50 MB.

Clients and server share the machine, and so does the process that merges meanwhile. The
time of a question is that of the client: connection, wait and answer.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import sqlite3
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import torch

from benchmarks.heads import model_path
from benchmarks.pairs import Result, Row
from napari_dante.federated.server import add_user, publish
from napari_dante.model.dafne import DafneModel, to_dafne, write_dafne
from napari_dante.model.file import read_model

__all__ = ["run"]

SMALL, LARGE = "Small", "Large"
CLIENTS, UPLOADERS, ROUNDS = 50, 10, 5
REQUESTS = 1000
PROGRAM = (
    "import logging, sys; from pathlib import Path\n"
    "from napari_dante.federated.server import serve\n"
    "logging.basicConfig(level=logging.INFO)\n"
    "serve(Path(sys.argv[1]), port=0)\n"
)


@dataclass
class Load:
    """What the clients saw."""

    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    downloads: int = 0
    uploads: int = 0
    upload_seconds: list[float] = field(default_factory=list)


def run(quick: bool) -> Result:
    """Load a server; then ask it a thousand times and look at its memory."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "server"
        small = to_dafne(read_model(model_path()))
        publish(data, SMALL, small)
        large = _large(small)
        publish(data, LARGE, large)
        write_dafne(Path(folder) / "large.model", large)
        content = (Path(folder) / "large.model").read_bytes()
        key = add_user(data, "load")
        with _server(data) as (process, port):
            load, wall = _load(port, key, content, CLIENTS, UPLOADERS)
            merged = _wait_for_merges(data)
            memory = _memory(process, port, key, 200 if quick else REQUESTS)
        received, versions = _counted(data)
    figures = {
        "clients": CLIENTS,
        "uploads sent": UPLOADERS,
        "uploads answered": load.uploads,
        "uploads received": received,
        "merged": versions,
        "upload MB": len(content) / 1e6,
        "errors": load.errors,
        "questions": len(load.seconds),
        "downloads": load.downloads,
        "info_model ms": {
            "median": 1000 * statistics.median(load.seconds),
            "p95": 1000 * statistics.quantiles(load.seconds, n=20)[-1],
            "max": 1000 * max(load.seconds),
        },
        "seconds under load": wall,
        "longest upload s": max(load.upload_seconds),
        "seconds until merged": merged,
        **memory,
    }
    return Result(figures, [Row("load", f"{CLIENTS} clients, {UPLOADERS} uploads", _text(figures))])


def _large(small: DafneModel) -> DafneModel:
    """Return a model of 50 MB."""
    ballast = torch.randn(11_300_000, generator=torch.Generator().manual_seed(0))
    return replace(small, weights=small.weights | {"ballast": ballast})


@contextmanager
def _server(data: Path) -> Iterator[tuple[psutil.Process, int]]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(data)], stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        found = None
        while found is None:
            found = re.search(r"port (\d+)", process.stderr.readline())
        yield psutil.Process(process.pid), int(found[1])
    finally:
        process.terminate()
        process.wait(60)


def _load(port: int, key: str, content: bytes, clients: int, uploaders: int) -> tuple[Load, float]:
    load = Load()
    senders = [
        Thread(target=_upload, args=(port, key, content, number, load))
        for number in range(uploaders)
    ]
    askers = [Thread(target=_ask_on, args=(port, key, senders, load)) for _ in range(clients)]
    begin = time.monotonic()
    for thread in (*senders, *askers):
        thread.start()
    for thread in (*senders, *askers):
        thread.join()
    return load, time.monotonic() - begin


def _ask_on(port: int, key: str, senders: list[Thread], load: Load) -> None:
    """List, ask and download, at least a few times and as long as somebody uploads."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    rounds = 0
    try:
        while rounds < ROUNDS or any(sender.is_alive() for sender in senders):
            _ask(connection, "get_available_models", api_key=key)
            begin = time.monotonic()
            info = json.loads(_ask(connection, "info_model", api_key=key, model_type=SMALL))
            load.seconds.append(time.monotonic() - begin)
            latest = info["latest_timestamp"]
            file = _ask(connection, "get_model", api_key=key, model_type=SMALL, timestamp=latest)
            if hashlib.sha256(file).hexdigest() != info["hash"]:
                raise ValueError("another file")
            load.downloads += 1
            rounds += 1
            time.sleep(0.2)
    except (OSError, ValueError, http.client.HTTPException) as error:
        load.errors.append(repr(error))
    finally:
        connection.close()


def _ask(connection: http.client.HTTPConnection, route: str, **fields: str) -> bytes:
    body = json.dumps(fields)
    connection.request("POST", f"/{route}", body, {"content-type": "application/json"})
    answer = connection.getresponse()
    content = answer.read()
    if answer.status != 200:
        raise ValueError(f"{route}: {answer.status}")
    return content


def _upload(port: int, key: str, content: bytes, number: int, load: Load) -> None:
    """Send the large model with one number changed, so that each file is another one."""
    middle = len(content) // 2
    parts = [content[:middle], struct.pack("<f", float(number)), content[middle + 4 :]]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    fields = {"api_key": key, "model_type": LARGE, "hash": digest.hexdigest()}
    head = "".join(
        f'--edge\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    head += '--edge\r\nContent-Disposition: form-data; name="model_binary"; filename="x"\r\n\r\n'
    body = [head.encode(), *parts, b"\r\n--edge--\r\n"]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    begin = time.monotonic()
    try:
        connection.putrequest("POST", "/upload_model")
        connection.putheader("Content-Type", "multipart/form-data; boundary=edge")
        connection.putheader("Content-Length", str(sum(map(len, body))))
        connection.endheaders()
        for part in body:
            connection.send(part)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise ValueError(f"upload: {answer.status} {text!r}")
        load.uploads += 1
        load.upload_seconds.append(time.monotonic() - begin)
    except (OSError, ValueError, http.client.HTTPException) as error:
        load.errors.append(repr(error))
    finally:
        connection.close()


def _wait_for_merges(data: Path) -> float:
    begin = time.monotonic()
    while _query(data, "SELECT count(*) FROM upload WHERE state = 'waiting'"):
        if time.monotonic() - begin > 400:
            break
        time.sleep(0.2)
    return time.monotonic() - begin


def _memory(process: psutil.Process, port: int, key: str, count: int) -> dict[str, Any]:
    """Return the server's memory in MB along `count` requests."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    latest = json.loads(_ask(connection, "info_model", api_key=key, model_type=SMALL))
    stamp = latest["latest_timestamp"]
    found = []
    for number in range(count):
        if number % (count // 10) == 0:
            found.append(process.memory_info().rss / 1e6)
        if number % 10 == 0:
            _ask(connection, "get_model", api_key=key, model_type=SMALL, timestamp=stamp)
        else:
            _ask(connection, "info_model", api_key=key, model_type=SMALL)
    found.append(process.memory_info().rss / 1e6)
    connection.close()
    return {"requests": count, "memory MB": [round(value, 1) for value in found]}


def _counted(data: Path) -> tuple[int, int]:
    received = _query(data, "SELECT count(*) FROM upload")
    return received, _query(data, "SELECT count(*) FROM upload WHERE state = 'merged'")


def _query(data: Path, text: str) -> int:
    with closing(sqlite3.connect(data / "server.sqlite", timeout=30)) as connection:
        count: int = connection.execute(text).fetchone()[0]
        return count


def _text(figures: dict[str, Any]) -> str:
    info = figures["info_model ms"]
    memory = figures["memory MB"]
    return (
        f"info_model median {info['median']:.0f} ms, p95 {info['p95']:.0f} ms; "
        f"{len(figures['errors'])} errors; {figures['uploads received']} of "
        f"{figures['uploads sent']} uploads of {figures['upload MB']:.0f} MB received, "
        f"{figures['merged']} merged; memory {memory[0]:.0f} → {memory[-1]:.0f} MB over "
        f"{figures['requests']} requests"
    )
