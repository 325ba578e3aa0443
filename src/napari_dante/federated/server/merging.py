"""The merging process, started when it is first needed and again when it has died."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from threading import Event, Lock, Thread

from napari_dante.federated.credentials import ENVIRONMENT

__all__ = ["Merging"]

_COMMAND = "napari_dante.federated.server.worker"
_PATIENCE = 30.0
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
_LOG = logging.getLogger("napari_dante")


class Merging:
    """Keeps one merging process for the folder `data`."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: Thread | None = None
        self._stopping = Event()
        self._lock = Lock()

    def wake(self) -> None:
        """Say that something waits."""
        with self._lock:
            if self._stopping.is_set():
                return
            if self._watch is None:
                self._process = self._start()
                self._watch = Thread(target=self._keep, name="merging", daemon=True)
                self._watch.start()
            self._ring()

    def stop(self) -> None:
        """End the process; what it was at is begun again after the next start."""
        self._stopping.set()
        with self._lock:
            process = self._process
        if process is not None and process.stdin is not None:
            with suppress(OSError):
                process.stdin.close()
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
        if self._watch is not None:
            self._watch.join()

    def _ring(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            # A process that has just died looks into the queue when it is started again.
            with suppress(OSError):
                self._process.stdin.write(b"\n")
                self._process.stdin.flush()

    def _start(self) -> subprocess.Popen[bytes]:
        environment = {key: value for key, value in os.environ.items() if key != ENVIRONMENT}
        command = [sys.executable, "-m", _COMMAND, str(self._data)]
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment
        )

    def _keep(self) -> None:
        """Start the process again when it dies, with longer and longer pauses."""
        pause = _FIRST_PAUSE
        while True:
            process = self._process
            if process is None:
                return
            status = process.wait()
            if process.stdin is not None:
                with suppress(OSError):
                    process.stdin.close()
            if self._stopping.is_set():
                return
            _LOG.error("the merging process ended with status %d; it is started again", status)
            if self._stopping.wait(pause):
                return
            pause = min(2 * pause, _LONGEST_PAUSE)
            with self._lock:
                if not self._stopping.is_set():
                    self._process = self._start()
