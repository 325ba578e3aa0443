"""A real server on a real loopback socket."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
import uvicorn

from napari_dante.federated import DafneClient
from napari_dante.federated.server import add_user, app, create_app, publish
from napari_dante.federated.server.database import Database
from napari_dante.federated.server.merge import Merger
from napari_dante.federated.server.store import Store
from napari_dante.model.dafne import to_dafne
from tests.federated.tiny import tiny_model


@contextmanager
def running(app: Any) -> Iterator[str]:
    """Serve an ASGI application; gives its base address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
        thread = Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            until(lambda: server.started)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for `condition`, or fail."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once."""
    monkeypatch.setattr("napari_dante.federated.client.PAUSES", (0.0, 0.0))
    monkeypatch.setattr("napari_dante.federated.sharing.APART", 0.0)


@dataclass
class Site:
    """A server with one model and one user."""

    url: str
    data: Path
    key: str
    first: str

    def client(self) -> DafneClient:
        return DafneClient(self.url, self.key, timeout=10)

    def audit(self) -> str:
        with closing(Database(self.data)) as database:
            return "\n".join(database.audit_lines())


class ThreadMerging:
    """Merges in a thread: a process of its own, which real servers have, takes seconds to start.

    ``test_faults.py`` has real servers.
    """

    def __init__(self, data: Path) -> None:
        self._data = data
        self._bell, self._over = Event(), Event()
        self._thread = Thread(target=self._run)
        self._thread.start()

    def wake(self) -> None:
        self._bell.set()

    def stop(self) -> None:
        self._over.set()
        self._bell.set()
        self._thread.join()

    def _run(self) -> None:
        with closing(Store(self._data)) as store:
            merger = Merger(store)
            while self._bell.wait() and not self._over.is_set():
                self._bell.clear()
                while not self._over.is_set() and merger.step():
                    pass


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(app, "Merging", ThreadMerging)
    data = tmp_path / "server"
    data.mkdir()
    key = add_user(data, "anna")
    first = publish(data, "Tiny head", to_dafne(tiny_model(0)))
    with running(create_app(data)) as url:
        yield Site(url, data, key, first)
