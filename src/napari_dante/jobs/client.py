"""The viewer's end of the warm worker process. Neither torch nor Qt is imported here."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import IO, cast

from napari_dante.adapt.events import Word
from napari_dante.errors import JobError
from napari_dante.jobs.events import Event, Failed, Finished, Ready, decode
from napari_dante.jobs.requests import Control, Request, encode_request

__all__ = ["Worker"]

_log = logging.getLogger("napari_dante")

MPS_FALLBACK = ("PYTORCH_ENABLE_MPS_FALLBACK", "1")
"""Lets torch compute on the processor what Apple's graphics cannot; it looks for it only
while it is imported."""


class Worker:
    """One background process that holds torch, kept warm between requests.

    It speaks JSON lines over its own standard input and output: when either end dies the
    other sees the end of the stream at once, on every platform, and there is no socket
    that anybody else could connect to.

    Parameters
    ----------
    threads
        Processor threads it may use; None leaves one core to the viewer.
    """

    def __init__(self, threads: int | None = None) -> None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        self._threads = threads or max(1, (cores or 2) - 1)
        self._process: subprocess.Popen[bytes] | None = None
        self._sending = threading.Lock()
        self._busy = threading.Lock()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self._busy.locked()

    @property
    def pid(self) -> int | None:
        """The process id, or None when it does not run."""
        return self._process.pid if self._process is not None and self.alive else None

    def start(self) -> None:
        """Start the process unless it runs; returns at once, torch loads over there."""
        if self.alive:
            return
        if self._process is not None:
            _close_pipes(self._process)
        threads = str(self._threads)
        environment = dict([MPS_FALLBACK]) | os.environ | {"OMP_NUM_THREADS": threads}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "napari_dante.jobs.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            bufsize=0,
        )

    def warm_up(self) -> Ready | Failed:
        """Start the process and wait until torch is loaded over there.

        Raises
        ------
        JobError
            If a request is being answered.
        """
        with self._alone() as process:
            for event in _events(process):
                if isinstance(event, Ready | Failed):
                    return event
            return _death(process)

    def run(self, request: Request) -> Iterator[Event]:
        """Send a request and yield its events; the last is Finished or Failed.

        A worker that dies is the event ``Failed(kind="worker")``, not an exception, and
        the next request starts a new one.

        Raises
        ------
        JobError
            If another request is still being answered.
        """
        last: Event | None = None
        with self._alone() as process:
            self._send(request)
            for event in _events(process):
                if isinstance(event, Finished | Failed):
                    last = event
                    break
                yield event
            last = last or _death(process)
        # Only now: who hears the last event may ask for the next thing at once.
        yield last

    def control(self, word: Word) -> None:
        """Pause, resume, stop (keeping the best) or cancel the running request."""
        self._send(Control(word))

    def close(self) -> None:
        """End the process: it exits when its input ends; a stuck one is killed.

        A request that is being answered in another thread ends with Failed.
        """
        process, self._process = self._process, None
        if process is None:
            return
        cast("IO[bytes]", process.stdin).close()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        # The other thread sees the end of the stream now; do not close it under its eyes.
        if self._busy.acquire(timeout=5):
            _close_pipes(process)
            self._busy.release()

    @contextmanager
    def _alone(self) -> Iterator[subprocess.Popen[bytes]]:
        if not self._busy.acquire(blocking=False):
            raise JobError("The worker is still busy with the previous task.")
        try:
            self.start()
            yield cast("subprocess.Popen[bytes]", self._process)
        finally:
            self._busy.release()

    def _send(self, request: Request) -> None:
        process = self._process
        if process is None or process.stdin is None:
            return
        try:
            with self._sending:
                process.stdin.write(encode_request(request).encode() + b"\n")
        except (BrokenPipeError, ValueError):
            _log.warning("The worker is gone; its end is reported by the running request.")


def _close_pipes(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        cast("IO[bytes]", stream).close()


def _events(process: subprocess.Popen[bytes]) -> Iterator[Event]:
    for line in cast("IO[bytes]", process.stdout):
        if line.endswith(b"\n"):  # a line without an end is the last breath of the process
            yield decode(line)


def _death(process: subprocess.Popen[bytes]) -> Failed:
    code = process.wait()
    _log.error("The worker ended with exit code %s.", code)
    return Failed(
        "worker",
        "The background process stopped unexpectedly; nothing you corrected is lost. "
        "Press the button again to go on.",
        f"exit code {code}",
    )
