"""The process that merges: ``python -m napari_dante.federated.server.worker DATA``.

It stands behind everything else on the machine, has its own memory, and opens no socket. A
line on its standard input says that something waits; the end of the input ends it.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import closing
from pathlib import Path
from threading import Event, Thread

__all__ = ["main"]

_MEMORY = 0.75
"""Share of the machine's memory that it may take; an update that needs more is refused."""

_FIRST_PAUSE, _LONGEST_PAUSE = 30.0, 3600.0
"""Seconds until what failed by a fault of the server is tried again."""


def main(data: Path) -> None:
    """Merge what waits, now and whenever a line comes, until the input ends."""
    bell, over = Event(), Event()
    bell.set()

    def listen() -> None:
        for _ in sys.stdin:
            bell.set()
        over.set()
        bell.set()

    Thread(target=listen, name="bell", daemon=True).start()
    _stand_back()
    from napari_dante.federated.server.merge import Merger
    from napari_dante.federated.server.store import Store

    with closing(Store(data)) as store:
        merger, pause = Merger(store), _FIRST_PAUSE
        while not over.is_set():
            bell.wait(pause)
            bell.clear()
            pause = min(2 * pause, _LONGEST_PAUSE) if merger.again() else _FIRST_PAUSE
            while not over.is_set() and merger.step():
                pass


def _stand_back() -> None:
    """Leave processor and memory to those who wait for an answer."""
    if hasattr(os, "nice"):
        os.nice(10)
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    import psutil

    most = int(psutil.virtual_memory().total * _MEMORY)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    main(Path(sys.argv[1]))
