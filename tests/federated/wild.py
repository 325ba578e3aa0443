"""A server on a real socket that fails as it is told: it cuts, hangs, lies or forgets."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any

PROBE = (405, {"detail": "Method Not Allowed"})
OK = (200, {"message": "upload successful"})


@dataclass
class Wild:
    """Versions of one model, and a plan for the next requests of each route.

    A plan is a list of ``None`` (as it should be), ``("cut", share)``, ``("hang",)``,
    ``("lost",)`` (keep it, then close without an answer) or ``("say", status, body)``.
    """

    versions: dict[str, bytes]
    plan: dict[str, list[Any]] = field(default_factory=dict)
    kept: list[bytes] = field(default_factory=list)
    seen: list[tuple[str, bytes]] = field(default_factory=list)
    released: Event = field(default_factory=Event)
    url: str = ""

    def publish(self, stamp: str, blob: bytes) -> None:
        self.versions[stamp] = blob

    @contextmanager
    def running(self) -> Iterator[Wild]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            # What the other side has handed on is then about what has arrived.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
            self.url = f"http://127.0.0.1:{listener.getsockname()[1]}/api/"
            thread = Thread(target=self._serve, args=(listener,), daemon=True)
            thread.start()
            try:
                yield self
            finally:
                self.released.set()
                listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(20)
            try:
                self._answer(connection)
            except (OSError, _Cut):
                # A reset, not a polite end: that is what a dying network looks like.
                linger = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    def _answer(self, connection: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            block = connection.recv(65536)
            if not block:
                return
            head += block
        head, body = head.split(b"\r\n\r\n", 1)
        method, path = head.split(b" ")[:2]
        route = path.decode().rsplit("/", 1)[-1]
        plan = self.plan.get(route, [])
        what = plan.pop(0) if plan and method == b"POST" else None
        length = int((re.search(rb"(?i)content-length: (\d+)", head) or [0, b"0"])[1])
        stop = int(length * what[1]) if what and what[0] == "cut-upload" else length
        while len(body) < stop:
            body += connection.recv(min(65536, stop - len(body)))
        self.seen.append((f"{method.decode()} {path.decode()}", head + b"\r\n\r\n" + body))
        if what and what[0] == "cut-upload":
            raise _Cut
        if what and what[0] == "hang":
            self.released.wait(20)
            raise _Cut
        if what and what[0] == "say":
            self._send(connection, what[1], what[2])
            return
        status, content = PROBE if method == b"GET" else self._right(route, body)
        if what and what[0] == "lost":
            raise _Cut
        self._send(connection, status, content, what[1] if what else 1.0)

    def _right(self, route: str, body: bytes) -> tuple[int, Any]:
        if route == "get_available_models":
            return 200, {"models": ["Tiny head"]}
        if route == "upload_model":
            found = re.search(rb"octet-stream\r\n\r\n(.*)\r\n--[0-9a-f]+--\r\n$", body, re.DOTALL)
            assert found
            self.kept.append(found[1])
            return OK
        if route == "get_model":
            return 200, self.versions[json.loads(body)["timestamp"]]
        hashes = {stamp: hashlib.sha256(blob).hexdigest() for stamp, blob in self.versions.items()}
        return 200, {"hashes": hashes, "latest_timestamp": max(hashes), "timestamps": list(hashes)}

    def _send(
        self, connection: socket.socket, status: int, content: Any, share: float = 1.0
    ) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        location = ""
        if 300 <= status < 400:
            location, data = f"location: {data.decode()}\r\n", b""
        head = f"HTTP/1.1 {status} x\r\n{location}content-length: {len(data)}\r\n"
        connection.sendall(f"{head}connection: close\r\n\r\n".encode())
        connection.sendall(data[: int(len(data) * share)])
        if share < 1:
            raise _Cut


class _Cut(Exception):
    """The connection breaks here."""
