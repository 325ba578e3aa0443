"""A model on disk: one ``.safetensors``, its description and history in the header.

Torch-free: the viewer's process reads and copies models, it never runs them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from napari_dante.errors import ModelError
from napari_dante.files import atomic_path
from napari_dante.model.card import Card
from napari_dante.model.spec import ArchitectureSpec

__all__ = ["Lineage", "Model", "check_name", "read_header", "read_model", "write_model"]

KEY = "napari_dante"


@dataclass(frozen=True)
class Lineage:
    """Where a model comes from. Nothing here can name a patient, a person or a path.

    Attributes
    ----------
    name
        Its name in the library and on a server: letters, digits, space, ``-()``.
    model_id
        Identity that never changes along a line of versions; a server merges by it.
    parent
        SHA-256 of the model file that was adapted, or None for a first version.
    recipe
        The recipe that made it, as JSON data, or None.
    exam
        Mean Dice before and after and their numbers, or None when not examined.
    server_timestamp
        The version of a server that it was pulled as, or None.
    created
        ISO 8601, UTC.
    software
        Version of napari-dante that wrote it.
    card
        What it was made for and how good it was, or None: once taught, a model is no longer
        what its card says.
    cases
        How many images its last lesson learned from, or None.
    """

    name: str
    model_id: str
    parent: str | None = None
    recipe: Mapping[str, Any] | None = None
    exam: Mapping[str, Any] | None = None
    server_timestamp: str | None = None
    created: str = ""
    software: str = ""
    card: Card | None = None
    cases: int | None = None

    def __post_init__(self) -> None:
        check_name(self.name)
        if not self.created:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            object.__setattr__(self, "created", now)
        if not self.software:
            object.__setattr__(self, "software", version("napari-dante"))

    def child(
        self,
        parent: str | None,
        recipe: Mapping[str, Any],
        exam: Mapping[str, Any] | None,
        cases: int | None = None,
    ) -> Lineage:
        """Return the lineage of a version taught on `cases` from the file with SHA-256 `parent`.

        Without a parent it is the first version of its line.
        """
        return replace(
            self,
            parent=parent,
            recipe=recipe,
            exam=exam,
            server_timestamp=None,
            created="",
            software="",
            card=None,
            cases=cases,
        )

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Lineage:
        """Read what :func:`dataclasses.asdict` made of a lineage."""
        card = data.get("card")
        return cls(**{**data, "card": None if card is None else Card(**card)})


@dataclass(frozen=True)
class Model:
    """A spec, its weights by state-dict key, and its lineage."""

    spec: ArchitectureSpec
    weights: Mapping[str, NDArray[Any]]
    lineage: Lineage


def check_name(name: str) -> None:
    """Refuse a name that a Dafne server or a file system would not take.

    Raises
    ------
    ModelError
        If `name` is empty or has other characters than letters, digits, space, ``-()``.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ()-]{0,63}", name):
        raise ModelError(
            f"'{name}' cannot be the name of a model: use letters, digits, spaces, "
            "hyphens and parentheses."
        )


def write_model(path: Path, model: Model, *, half: bool = True) -> None:
    """Write a model in one step that cannot be seen half done.

    Parameters
    ----------
    path
        Target, ``.safetensors``.
    model
        What to write; the weights must be finite.
    half
        Store floating-point weights as float16, which halves the file; a weight beyond
        its range is an error, not an infinity. What comes from a server is stored whole,
        because its masks must be the server's to the voxel.

    Raises
    ------
    ModelError
        If a weight is not finite.
    """
    with np.errstate(over="ignore"):
        weights = {
            key: value.astype(np.float16 if half and value.dtype.kind == "f" else value.dtype, "C")
            for key, value in model.weights.items()
        }
    bad = [key for key, value in weights.items() if not np.isfinite(value).all()]
    if bad:
        raise ModelError(
            "The model holds numbers that are not finite, so it was not saved.", detail=str(bad)
        )
    kept = _kept(weights)
    header = {
        "spec": model.spec.to_json(),
        "lineage": asdict(model.lineage),
        "copies": {key: name for key, name in kept.items() if key != name},
    }
    stored = {name: weights[name] for name in kept.values()}
    with atomic_path(path) as temporary:
        save_file(stored, temporary, metadata={KEY: json.dumps(header)})


def read_header(path: Path) -> tuple[ArchitectureSpec, Lineage]:
    """Return what a model file says of itself, without its weights.

    Raises
    ------
    ModelError
        If the file is not there or is not a model of ours.
    """
    with _opened(path) as stream:
        return _header(stream.metadata())


def read_model(path: Path) -> Model:
    """Read a model; floating-point weights come as float32.

    Raises
    ------
    ModelError
        If the file is not there, is damaged or is not a model of ours.
    """
    with _opened(path) as stream:
        spec, lineage = _header(stream.metadata())
        try:
            weights = {key: _full(stream.get_tensor(key)) for key in stream.keys()}  # noqa: SIM118
            copies = json.loads(stream.metadata()[KEY]).get("copies", {})
            weights.update({key: weights[name].copy() for key, name in copies.items()})
        except (SafetensorError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise _not_a_model(repr(error)) from error
    return Model(spec, weights, lineage)


def _kept(weights: Mapping[str, NDArray[Any]]) -> dict[str, str]:
    """Return for each weight the name of the first one that equals it to the bit.

    MONAI's ``DynUNet`` holds every block under two names; a file holds it once.
    """
    first: dict[tuple[str, tuple[int, ...], bytes], str] = {}
    return {
        key: first.setdefault((value.dtype.str, value.shape, value.tobytes()), key)
        for key, value in weights.items()
    }


def _full(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(np.float32) if array.dtype.kind == "f" else array


def _opened(path: Path) -> Any:  # noqa: ANN401
    if not Path(path).is_file():
        raise ModelError("There is no such model file.")
    try:
        return safe_open(path, framework="numpy")
    except (SafetensorError, OSError) as error:
        raise _not_a_model(repr(error)) from error


def _header(metadata: Mapping[str, str] | None) -> tuple[ArchitectureSpec, Lineage]:
    try:
        header = json.loads((metadata or {})[KEY])
        return ArchitectureSpec.from_json(header["spec"]), Lineage.from_json(header["lineage"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _not_a_model(repr(error)) from error


def _not_a_model(detail: str) -> ModelError:
    return ModelError("This file is not a napari-dante model, or it is damaged.", detail=detail)
