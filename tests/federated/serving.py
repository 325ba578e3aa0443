"""A real server process, as a department runs it, that can be killed."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

__all__ = ["Server", "query"]

PROGRAM = """
import logging, resource, sys
from pathlib import Path
from napari_dante.federated.server import serve
logging.basicConfig(level=logging.INFO, format="%(message)s")
if sys.argv[2] != "0":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
serve(Path(sys.argv[1]), port=0)
"""


class Server:
    """``serve`` on a free port, with its merging process in one process group.

    Parameters
    ----------
    data
        Its folder.
    largest
        Bytes that a file may have, after which its disk counts as full; 0 for any.
    """

    def __init__(self, data: Path, largest: int = 0) -> None:
        self.data = data
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(data), str(largest)],
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stderr is not None
        self.log: list[str] = []
        while not (self.log and (found := re.search(r"port (\d+)", self.log[-1]))):
            self.log.append(self.process.stderr.readline())
            assert self.log[-1], self.log
        self.url = f"http://127.0.0.1:{found[1]}"

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)
        self._collect()

    def kill(self) -> None:
        """``kill -9`` everything, as a power failure does."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(20)
        self._collect()

    def _collect(self) -> None:
        if self.process.stderr is not None and not self.process.stderr.closed:
            self.log += self.process.stderr.readlines()
            self.process.stderr.close()


def query(data: Path, text: str, *values: object) -> list[tuple[Any, ...]]:
    """Look into the database of a server from outside, whatever state it is in."""
    deadline = time.monotonic() + 20
    while True:
        try:
            with closing(sqlite3.connect(data / "server.sqlite")) as connection:
                return connection.execute(text, values).fetchall()
        except sqlite3.OperationalError:
            assert time.monotonic() < deadline
            time.sleep(0.01)
