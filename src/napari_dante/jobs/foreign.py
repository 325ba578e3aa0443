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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dante.adapt.loop import Cancelled
from napari_dante.errors import JobError, UnsafeFile
from napari_dante.files import save_array, sha256
from napari_dante.model.trust import is_trusted

__all__ = ["ForeignMask", "predict_foreign"]

SECONDS = 1800.0
_PATIENCE = 0.2
_KEPT = ("PATH", "LANG", "LC_ALL", "OMP_NUM_THREADS", "PYTHONPATH", "SYSTEMROOT", "LD_LIBRARY_PATH")
_MOST_LABELS = 255
_LONGEST_NAME = 64


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
    digest = sha256(model)
    if not is_trusted(digest):
        raise UnsafeFile(
            "The network of this Dafne model can only be built by the code inside the file, and "
            "nobody has allowed that code to run. If you trust whoever made the file, allow it "
            "with --trust-code.",
            detail=digest,
        )
    with tempfile.TemporaryDirectory(prefix="napari-dante-") as name:
        folder = Path(name)
        save_array(folder / "image.npy", np.asarray(image, np.float32))
        asked = {"model": str(model.resolve()), "sha256": digest, "spacing": spacing}
        (folder / "request.json").write_text(json.dumps(asked))
        _run(folder, stopped)
        return _answer(folder, image.shape)


def _run(folder: Path, stopped: Callable[[], bool]) -> None:
    environment = {key: os.environ[key] for key in _KEPT if key in os.environ}
    environment |= {"HOME": str(folder), "TMPDIR": str(folder)}
    command = [sys.executable, "-m", "napari_dante.jobs.foreign_child", str(folder)]
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            errors = _waited(process, stopped)
        finally:
            process.kill()
    if process.returncode != 0:
        said = errors.decode(errors="replace").strip().splitlines()
        raise JobError(
            "The code of this model failed; it may need packages that are not installed here, "
            "or ask for what it must not do.",
            detail=said[-1][:300] if said else f"exit code {process.returncode}",
        )


def _waited(process: subprocess.Popen[bytes], stopped: Callable[[], bool]) -> bytes:
    """Wait for the end of a process; return what it wrote about errors."""
    end = time.monotonic() + SECONDS
    while True:
        try:
            return process.communicate(timeout=_PATIENCE)[1]
        except subprocess.TimeoutExpired:
            if stopped():
                raise Cancelled("The prediction was cancelled.") from None
            if time.monotonic() > end:
                raise JobError("The code of this model took too long, so it was ended.") from None


def _answer(folder: Path, shape: tuple[int, ...]) -> ForeignMask:
    """Read what the process has left; it is not to be trusted either."""
    try:
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
