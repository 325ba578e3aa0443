"""Models that the people of the server put there, and take back. Torch only when needed."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_dante.federated.server.store import Store

if TYPE_CHECKING:
    from napari_dante.model.dafne import DafneModel

__all__ = ["publish", "rollback"]

_DESCRIBED = ("categories", "variants", "dependencies", "can_incremental_learn")


def publish(data: Path, name: str, model: DafneModel) -> str:
    """Put a first version of a model on the server; return its timestamp.

    Raises
    ------
    ModelError
        If `name` is not allowed or taken, or the weights are not finite.
    """
    from napari_dante.model.dafne import write_dafne

    described: dict[str, Any] = {
        "model_type": model.kind,
        "model_name": name,
        "dimensionality": str(model.dimensionality),
    }
    described |= {key: model.metadata[key] for key in _DESCRIBED if key in model.metadata}
    with closing(Store(data)) as store:
        return store.add_model(
            name, described, lambda path, stamp: write_dafne(path, replace(model, timestamp=stamp))
        )


def rollback(data: Path, name: str, timestamp: str) -> str:
    """Make an old version the current one again; return the timestamp of its copy.

    Raises
    ------
    ModelError
        If there is no such version.
    """
    from napari_dante.model.dafne import read_dafne, write_dafne

    def copy(source: Path, target: Path, stamp: int) -> None:
        write_dafne(target, replace(read_dafne(source), timestamp=stamp))

    with closing(Store(data)) as store:
        return store.rollback(name, timestamp, copy)
