"""What the viewer asks of the worker: small frozen values, one JSON line each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from napari_dante.adapt.events import Word
from napari_dante.jobs.wire import dump, load

__all__ = [
    "Compare",
    "Control",
    "Export",
    "Import",
    "Predict",
    "Prove",
    "Request",
    "Teach",
    "decode_request",
    "encode_request",
]


@dataclass(frozen=True)
class Predict:
    """Predict ``image.npy`` of `folder` with the model file; answers ``mask.npy`` there.

    ``image.npy`` is (z, y, x) in display order, ``spacing`` its voxel size in mm.
    ``mask.npy`` holds the model's class numbers, uint8, same shape. With `doubt` there is
    ``doubt.npy`` too, float64: how unsure the model is of each slice across z, then y, then
    x (:func:`napari_dante.evaluate.uncertainty.slice_doubt`).

    A Dafne ``.model`` file runs by its own code, if that is allowed
    (:func:`napari_dante.jobs.foreign.predict_foreign`), and ``labels.json`` names what the
    numbers mean; it tells no doubt.
    """

    folder: str
    model: str
    spacing: tuple[float, float, float]
    device: str = "auto"
    doubt: bool = False


@dataclass(frozen=True)
class Teach:
    """Run, or resume, the job folder `folder`."""

    folder: str


@dataclass(frozen=True)
class Export:
    """Write the model file as a Dafne ``.model``, as an update of `base` where given."""

    model: str
    out: str
    base: str | None = None


@dataclass(frozen=True)
class Import:
    """Write the Dafne ``.model`` file as a model file of ours, called `name`.

    Without a name it is called what the file says it is called, or else by its SHA-256.
    """

    source: str
    out: str
    name: str
    server_timestamp: str | None = None


@dataclass(frozen=True)
class Compare:
    """Examine two model files on the slices `exam` of the case in `folder`.

    The answer is ``exam.json`` there. With `merge` the second is first averaged into the
    first, as a Dafne server would do it.
    """

    folder: str
    before: str
    after: str
    exam: tuple[int, ...]
    learned: tuple[int, ...]
    merge: bool = False
    device: str = "auto"


@dataclass(frozen=True)
class Prove:
    """Look whether `update` went into `after`, made from `old`: three Dafne ``.model`` files.

    The answer, in the file `out`, is ``null`` or [share or null, exact] as
    :func:`napari_dante.model.merging.prove_files` gives it.
    """

    old: str
    update: str
    after: str
    out: str


@dataclass(frozen=True)
class Control:
    """A word to the running job. ``stop`` keeps the best so far, ``cancel`` nothing."""

    word: Word


Request = Predict | Teach | Export | Import | Compare | Prove | Control
_KINDS: dict[str, type[Request]] = {kind.__name__: kind for kind in get_args(Request)}


def encode_request(request: Request) -> str:
    """Return `request` as one line of JSON without a line end."""
    return dump(request, "request")


def decode_request(line: str | bytes) -> Request:
    """Read what :func:`encode_request` wrote.

    Raises
    ------
    JobError
        If the line is not a request.
    """
    return load(line, "request", _KINDS)
