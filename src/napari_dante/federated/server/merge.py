"""From an upload to the next version, one at a time.

The arithmetic is Dafne's, bit for bit, so that a client can prove that its update went in:
with W = 0.5, each tensor becomes ``cast(old * W) + cast(new * (1 - W))``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any

import torch

from napari_dante.errors import ModelError
from napari_dante.federated.server.store import Store
from napari_dante.files import sha256, write_text
from napari_dante.model.dafne import DafneModel, check_same_weights, read_dafne, write_dafne

__all__ = ["Merger", "average", "check_update", "publish"]

ORIGINAL_WEIGHT = 0.5
_DESCRIBED = ("categories", "variants", "dependencies", "can_incremental_learn")
_LOG = logging.getLogger("napari_dante")


def average(
    old: Mapping[str, torch.Tensor], new: Mapping[str, torch.Tensor], weight: float
) -> dict[str, torch.Tensor]:
    """Return ``weight`` parts of `old` and ``1 - weight`` of `new`, in the types of `old`.

    Each product is rounded to the tensor's type before the sum (whole numbers towards
    zero), as in a Dafne server, where every step passes through a network.
    """
    return {
        key: (value * weight).to(value.dtype)
        + (new[key].to(value.dtype) * (1 - weight)).to(value.dtype)
        for key, value in old.items()
    }


def check_update(current: DafneModel, update: DafneModel) -> None:
    """Refuse an update that must not be averaged into `current`.

    Raises
    ------
    ModelError
        If it is another model, a difference, of another layout, or not finite.
    """
    # A UUID and its text are unequal here as in dafne-dl.
    if current.model_id != update.model_id:
        raise ModelError("The update is of another model (its model_id differs).")
    if (current.kind, current.dimensionality) != (update.kind, update.dimensionality):
        raise ModelError("The update is of another kind of model.")
    if update.is_delta:
        raise ModelError("The update holds differences instead of full weights.")
    check_same_weights(current.weights, update.weights)
    for key, value in current.weights.items():
        sent = update.weights[key]
        if sent.is_floating_point() != value.is_floating_point() or sent.is_complex():
            raise ModelError("The update holds numbers of another type.", detail=key)
        if not torch.isfinite(sent.to(value.dtype)).all():
            raise ModelError("The update holds numbers that are not finite.", detail=key)


def publish(data: Path, name: str, model: DafneModel) -> str:
    """Put a first version of a model on the server; return its timestamp.

    Raises
    ------
    ModelError
        If `name` is not allowed or taken, or the weights are not finite.
    """
    store = Store(data)
    folder = store.folder(name)
    if store.timestamps(name):
        raise ModelError(f"The server already has a model '{name}'; send it an update instead.")
    timestamp = store.next_timestamp(name)
    path = folder / f"{timestamp}.model"
    write_dafne(path, replace(model, timestamp=timestamp))
    store.uploads(name).mkdir(exist_ok=True)
    described: dict[str, Any] = {
        "model_type": model.kind,
        "model_name": name,
        "dimensionality": str(model.dimensionality),
    }
    described |= {key: model.metadata[key] for key in _DESCRIBED if key in model.metadata}
    write_text(folder / "model.json", json.dumps(described, indent=1))
    store.audit("published", model=name, timestamp=str(timestamp), sha256=sha256(path))
    return str(timestamp)


class Merger:
    """One background thread that merges uploads in the order of their arrival."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._queue: SimpleQueue[tuple[str, Path] | None] = SimpleQueue()
        self._stopping = Event()
        self._thread = Thread(target=self._run, name="merge", daemon=True)

    def start(self) -> None:
        """Begin, with what was still waiting when the server last stopped."""
        for item in self._store.waiting():
            self._queue.put(item)
        self._thread.start()

    def stop(self) -> None:
        """Finish the merge at hand; what waits behind it is merged after the next start."""
        self._stopping.set()
        self._queue.put(None)
        self._thread.join()

    def add(self, name: str, upload: Path) -> None:
        """Let `upload` wait its turn."""
        self._queue.put((name, upload))

    def _run(self) -> None:
        while (item := self._queue.get()) is not None and not self._stopping.is_set():
            name, upload = item
            try:
                self._merge(name, upload)
            except (OSError, ModelError, MemoryError, RuntimeError) as error:
                # The fault is the server's, so the upload stays for the next start.
                _LOG.error("a merge of %s failed: %s", name, type(error).__name__)
                self._store.audit("merge failed", model=name, upload=upload.stem)

    def _merge(self, name: str, upload: Path) -> None:
        latest = self._store.latest(name)
        if latest is None:
            return
        digest = sha256(upload)
        current = read_dafne(latest)
        try:
            update = read_dafne(upload)
            check_update(current, update)
        except ModelError as error:
            self._store.quarantine(name, upload, error.sentence, error.detail)
            self._store.audit(
                "quarantined", model=name, upload=upload.stem, sha256=digest, reason=error.sentence
            )
            _LOG.warning("an update of %s was put aside: %s", name, error.sentence)
            return
        timestamp = self._store.next_timestamp(name)
        weights = average(current.weights, update.weights, ORIGINAL_WEIGHT)
        target = latest.with_name(f"{timestamp}.model")
        write_dafne(target, replace(current, weights=weights, timestamp=timestamp))
        upload.unlink()
        self._store.audit(
            "merged",
            model=name,
            upload=upload.stem,
            sha256=digest,
            base=latest.stem,
            timestamp=str(timestamp),
        )
        _LOG.info("an update of %s was merged into version %s", name, timestamp)
