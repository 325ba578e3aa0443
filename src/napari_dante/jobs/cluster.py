"""A job on another computer: a Dask scheduler whose workers see the same folder.

The viewer's process needs ``distributed`` (extra ``cluster``), never torch. Progress and
words travel through files in the job folder, so a lost connection loses nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

from napari_dante.adapt.events import Word
from napari_dante.errors import JobError
from napari_dante.files import write_text
from napari_dante.jobs.events import Event, Failed, Finished, decode
from napari_dante.jobs.folder import JobFolder

__all__ = ["run_on_cluster", "tell_cluster"]

_log = logging.getLogger("napari_dante")

INTERVAL = 0.2
"""Seconds between two looks at the folder."""


def run_on_cluster(address: str, folder: Path) -> Iterator[Event]:
    """Run or resume a job folder on a cluster and yield its events.

    Parameters
    ----------
    address
        Of the scheduler, such as ``tcp://gpu-server:8786``. Its workers must have
        napari-dante installed and see `folder` under the same path.
    folder
        A job folder.

    Raises
    ------
    JobError
        If ``distributed`` is not installed or the scheduler does not answer.
    """
    job = JobFolder(folder)
    seen = job.events.stat().st_size if job.events.is_file() else 0
    _word_file(folder).unlink(missing_ok=True)
    client = _client(address)
    try:
        future = client.submit(run_here, str(folder.resolve()), pure=False)
        yield from _follow(job, seen, lambda: str(future.status))
    finally:
        client.close()


def tell_cluster(folder: Path, word: Word) -> None:
    """Pause, resume, stop (keeping the best) or cancel the job in `folder`."""
    write_text(_word_file(folder), word)


def run_here(folder: str) -> None:
    """Run a job folder in a cluster's worker; its events are the folder's own."""
    from napari_dante.jobs.run import run_job

    for _ in run_job(Path(folder), _poll(Path(folder))):
        pass


def _poll(folder: Path) -> Callable[[bool], Word | None]:
    word = _word_file(folder)

    def poll(wait: bool) -> Word | None:
        while wait and not word.is_file():
            time.sleep(INTERVAL)
        if not word.is_file():
            return None
        said = next((known for known in get_args(Word) if known == word.read_text()), None)
        word.unlink()
        return said

    return poll


def _follow(job: JobFolder, seen: int, status: Callable[[], str]) -> Iterator[Event]:
    """Yield the lines that are added to the events until the last one."""
    pending = b""
    while True:
        over = status() in {"error", "lost", "cancelled", "finished"}
        if job.events.is_file():
            with job.events.open("rb") as stream:
                stream.seek(seen)
                added = stream.read()
            seen += len(added)
            *lines, pending = (pending + added).split(b"\n")
            for line in lines:
                event = decode(line)
                yield event
                if isinstance(event, Finished | Failed):
                    return
        if over:
            _log.error("The cluster ended the job as '%s'.", status())
            yield Failed("cluster", "The cluster ended the job; press Teach to go on.", status())
            return
        time.sleep(INTERVAL)


def _word_file(folder: Path) -> Path:
    return folder / "word"


def _client(address: str) -> Any:  # noqa: ANN401
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise JobError(
            "Running on a cluster needs one more package: pip install 'napari-dante[cluster]'.",
            detail=repr(error),
        ) from error
    try:
        return Client(address, timeout=5, set_as_default=False)
    except (OSError, ValueError) as error:
        raise JobError("The cluster does not answer.", detail=type(error).__name__) from error
