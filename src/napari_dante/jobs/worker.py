"""The worker process: ``python -m napari_dante.jobs.worker``.

It reads requests as JSON lines from standard input and answers with events as JSON lines
on standard output. It stays warm between requests and ends when its input ends, so it
never outlives the viewer.
"""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
from typing import TextIO

from napari_dante.adapt.events import Word
from napari_dante.jobs.events import Event, encode
from napari_dante.jobs.requests import Control, Request, decode_request

__all__ = ["main"]

NICE = 10


class _Inbox:
    """Requests and words to the running job, read in a thread of their own."""

    def __init__(self, stream: TextIO) -> None:
        self._requests: queue.Queue[Request] = queue.Queue()
        self._words: queue.Queue[Word] = queue.Queue()
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def next_request(self) -> Request:
        """Wait for the next request; words to a job that has ended are forgotten."""
        request = self._requests.get()
        with contextlib.suppress(queue.Empty):
            while True:
                self._words.get_nowait()
        return request

    def poll(self, wait: bool) -> Word | None:
        """Return the next word to the running job."""
        try:
            return self._words.get(block=wait)
        except queue.Empty:
            return None

    def _read(self, stream: TextIO) -> None:
        for line in stream:
            request = decode_request(line)
            if isinstance(request, Control):
                self._words.put(request.word)
            else:
                self._requests.put(request)
        # The viewer is gone. Whatever matters is on disk already; files are written in
        # one step, so leaving at once cannot leave half of one.
        os._exit(0)


def main() -> None:
    """Answer requests until standard input ends."""
    answers = _private_stdout()
    if hasattr(os, "nice"):
        os.nice(NICE)
    inbox = _Inbox(sys.stdin)
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    from napari_dante.jobs import tasks

    def tell(event: Event) -> None:
        answers.write(encode(event) + "\n")

    tell(tasks.ready())
    while True:
        for event in tasks.answer(inbox.next_request(), inbox.poll, tell):
            tell(event)


def _private_stdout() -> TextIO:
    """Keep the real standard output for events; whatever a library prints goes to stderr."""
    private = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(private, "w", buffering=1)


if __name__ == "__main__":
    main()
