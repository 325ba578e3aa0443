"""A Dafne model whose network only its own code can build: run it, apart from everything.

That takes a person's word for this very file. The code then runs in a process of its own
that has no network, no keys in its environment, an empty folder to work in, and limits on
time, memory and files; ``docs/sharing.md`` says what that does not keep it from.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_dante.adapt.loop import Cancelled
from napari_dante.errors import JobError, ModelError
from napari_dante.files import save_array
from napari_dante.jobs.case import CaseData
from napari_dante.model.dafne import read_dafne
from napari_dante.model.trust import check_trusted

__all__ = ["NOT_CUT", "ForeignMask", "learn_apart", "predict_foreign", "segment_apart"]

NOT_CUT = "This system cannot cut a process off from the network; only Python was kept off."
SECONDS = 1800.0
_PATIENCE = 0.2
_KEPT = ("PATH", "LANG", "LC_ALL", "OMP_NUM_THREADS", "PYTHONPATH", "SYSTEMROOT", "LD_LIBRARY_PATH")
_MOST_LABELS = 255
_LONGEST_NAME = 64
_LONGEST_ERROR = 4096


@dataclass(frozen=True)
class ForeignMask:
    """What foreign code says of a volume.

    Attributes
    ----------
    classes
        (z, y, x) uint8: 0, or the number of a structure.
    names
        Structures 1, 2, …
    network_cut
        Whether the system itself kept the process from the network; else only Python did.
    """

    classes: NDArray[np.uint8]
    names: tuple[str, ...]
    network_cut: bool


def predict_foreign(
    model: Path,
    image: NDArray[Any],
    spacing: tuple[float, float, float],
    stopped: Callable[[], bool] = lambda: False,
) -> ForeignMask:
    """Segment a volume with the code inside a ``.model`` file.

    Parameters
    ----------
    model
        The file.
    image
        (z, y, x) in display order.
    spacing
        mm per voxel (z, y, x).
    stopped
        Asked now and then; the code is ended when it says so.

    Raises
    ------
    UnsafeFile
        If nobody has allowed the code of this file to run.
    Cancelled
        If it was stopped.
    JobError
        If it fails, takes too long or answers nonsense.
    """
    running = segment_apart(model, check_trusted(model), image, spacing)
    with closing(running):
        while True:
            try:
                next(running)
            except StopIteration as end:
                mask: ForeignMask = end.value
                return mask
            if stopped():
                raise Cancelled("The prediction was cancelled.")


def segment_apart(
    model: Path, digest: str, image: NDArray[Any], spacing: tuple[float, float, float]
) -> Generator[float, None, ForeignMask]:
    """Segment a volume with code that may run; yield the seconds that it has taken.

    The code is ended when the generator is closed.

    Parameters
    ----------
    model, digest
        The file, and the SHA-256 that it must have.
    image, spacing
        (z, y, x) in display order; mm per voxel.

    Raises
    ------
    JobError
        If it fails, takes too long or answers nonsense.
    """
    with tempfile.TemporaryDirectory(prefix="napari-dante-") as name:
        folder = Path(name)
        save_array(folder / "image.npy", np.asarray(image, np.float32))
        _ask(folder, model, digest, spacing)
        yield from _run(folder, "predicted")
        return _answer(folder, image.shape)


def learn_apart(
    model: Path,
    digest: str,
    case: CaseData,
    classes: NDArray[np.uint8],
    names: Sequence[str],
) -> Generator[float, None, dict[str, torch.Tensor]]:
    """Let code that may run learn from a case; yield the seconds that it has taken.

    The code is ended when the generator is closed. What it leaves is read as data.

    Parameters
    ----------
    model, digest
        The file, and the SHA-256 that it must have.
    case
        Nothing but the slices to learn from: the code is not given any other.
    classes, names
        The mask of the case (z, y, x), and what its numbers 1, 2, … are.

    Returns
    -------
    dict of str to torch.Tensor
        The weights that came of it; nothing is known of them.

    Raises
    ------
    JobError
        If it fails, takes too long or answers nonsense.
    """
    with tempfile.TemporaryDirectory(prefix="napari-dante-") as name:
        folder = Path(name)
        save_array(folder / "image.npy", np.asarray(case.image, np.float32))
        save_array(folder / "classes.npy", classes)
        _ask(folder, model, digest, case.spacing, names=list(names))
        yield from _run(folder, "learned")
        try:
            return read_dafne(folder / "learned.model").weights
        except ModelError as error:
            raise JobError(
                "The code of this model did not answer with weights.",
                detail=f"{error.sentence} {error.detail}",
            ) from error


def _ask(
    folder: Path, model: Path, digest: str, spacing: Sequence[float], **more: list[str]
) -> None:
    asked = {"model": str(model.resolve()), "sha256": digest, "spacing": spacing}
    (folder / "request.json").write_text(json.dumps(asked | more))


def _run(folder: Path, did: str) -> Iterator[float]:
    """Run the process and yield the seconds that it has taken; end it when that is closed."""
    environment = {key: os.environ[key] for key in _KEPT if key in os.environ}
    environment |= {"HOME": str(folder), "TMPDIR": str(folder)}
    command = [sys.executable, "-m", "napari_dante.jobs.foreign_child", str(folder)]
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=errors,
        ) as process,
    ):  # fmt: skip
        try:
            yield from _waited(process)
        finally:
            process.kill()
        if process.returncode != 0:
            raise JobError(
                f"The code of this model failed while it {did}; it may need packages that are "
                "not installed here, or ask for what it must not do.",
                detail=_last_line(errors) or f"exit code {process.returncode}",
            )


def _waited(process: subprocess.Popen[bytes]) -> Iterator[float]:
    """Yield the seconds that have passed, until a process has ended."""
    begin = time.monotonic()
    while True:
        try:
            process.wait(timeout=_PATIENCE)
            return
        except subprocess.TimeoutExpired:
            seconds = time.monotonic() - begin
        if seconds > SECONDS:
            raise JobError("The code of this model took too long, so it was ended.")
        yield seconds


def _last_line(stream: IO[bytes]) -> str:
    """Return the end of what a process wrote about errors, where there is something."""
    stream.seek(max(0, stream.seek(0, os.SEEK_END) - _LONGEST_ERROR))
    said = stream.read().decode(errors="replace").strip().splitlines()
    return said[-1][:300] if said else ""


def _answer(folder: Path, shape: tuple[int, ...]) -> ForeignMask:
    """Read what the process has left; it is not to be trusted either."""
    try:
        if not all((folder / name).is_file() for name in ("answer.json", "mask.npy")):
            raise ValueError("no answer")
        told = json.loads((folder / "answer.json").read_text())
        names = tuple(_readable(name) for name in told["names"])
        classes = np.load(folder / "mask.npy", allow_pickle=False)
        whole = classes.shape == shape and classes.dtype == np.uint8
        distinct = all(names) and len(set(names)) == len(names) <= _MOST_LABELS
        if not whole or not distinct or classes.max(initial=0) > len(names):
            raise ValueError("a mask of another form")
        return ForeignMask(classes, names, bool(told["network_cut"]))
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise JobError(
            "The code of this model did not answer with masks.", detail=repr(error)
        ) from error


def _readable(name: object) -> str:
    """Return the name of a structure as it may be shown and stored."""
    return "".join(letter for letter in str(name) if letter.isprintable())[:_LONGEST_NAME].strip()
