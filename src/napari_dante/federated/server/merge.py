"""From an upload to the next version, one at a time.

Nothing of an upload is executed. It is read by the allow-list reader, compared with the
current version, averaged, and the result is examined on the server's own cases.
"""

from __future__ import annotations

import logging
import sqlite3
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from napari_dante.errors import DanteError, ModelError
from napari_dante.federated.aggregate import Share, best_share, federated_average
from napari_dante.federated.server.exam import Exam
from napari_dante.federated.server.store import Stale, Store, Version
from napari_dante.federated.server.uploads import ATTEMPTS, Fate, Upload, Uploads
from napari_dante.files import sha256
from napari_dante.model.dafne import DafneModel, check_same_weights, read_dafne, write_dafne
from napari_dante.model.merging import average

__all__ = ["Merger", "check_update"]

HALF = 0.5
MOST_CASES = 4
"""An update counts for at most this many times the usual cases, whatever its sender says."""

_LOG = logging.getLogger("napari_dante")


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


@dataclass(frozen=True)
class _Merged:
    weights: dict[str, torch.Tensor]
    share: float
    dice: float | None = None
    before: float | None = None
    exam: Exam | None = None


class Merger:
    """Merges what waits, one update at a time.

    Any number of processes may do this at once: the database lets only one of them finish
    an update, and only from the version that is still the current one.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._uploads = Uploads(store)
        self._postponed: set[int] = set()

    def step(self) -> bool:
        """Finish, or at least try, one upload; False when there is none to be tried now."""
        for upload in self._uploads.waiting():
            if upload.id in self._postponed or (begun := self._uploads.begin(upload)) is None:
                continue
            if begun.attempts > ATTEMPTS:
                sentence = "The server broke down over this update each time that it tried."
                self._uploads.refuse(begun, Fate("quarantined", sentence))
            else:
                self._try(begun)
            return True
        return False

    def again(self) -> bool:
        """Let what failed by a fault of the server be tried again; tell whether there is any."""
        found = bool(self._postponed)
        self._postponed.clear()
        return found

    def _try(self, upload: Upload) -> None:
        try:
            self._merge(upload)
        except (OSError, DanteError, MemoryError, RuntimeError, sqlite3.Error) as error:
            # The fault is the server's: full disk, no memory, a damaged version or exam.
            _LOG.error("a merge of %s failed: %s", upload.model, type(error).__name__)
            sentence = error.sentence if isinstance(error, DanteError) else type(error).__name__
            self._postponed.add(upload.id)
            with suppress(sqlite3.Error):  # the disk is still full
                self._uploads.postpone(upload, f"The server could not merge it yet: {sentence}")

    def _merge(self, upload: Upload) -> None:
        while True:
            latest = self._store.latest(upload.model)
            if latest is None:
                raise ModelError("The model of this upload is gone.")
            current = read_dafne(self._store.path(upload.model, latest))
            update = self._checked(upload, current)
            if update is None:
                return
            merged = self._average(upload, latest, current, update)
            if (
                merged.dice is not None
                and merged.before is not None
                and merged.dice < merged.before
            ):
                self._uploads.refuse(upload, _worse(merged))
                return
            try:
                self._publish(upload, latest, current, merged)
            except Stale:
                found = self._uploads.get(upload.id)
                if found is None or found.state != "waiting":
                    return
            else:
                return

    def _checked(self, upload: Upload, current: DafneModel) -> DafneModel | None:
        path = self._uploads.path(upload)
        try:
            if sha256(path) != upload.sha256:
                raise ModelError("The file has changed on the server's disk; please send it again.")
            update = read_dafne(path)
            check_update(current, update)
        except ModelError as error:
            self._uploads.refuse(upload, Fate("quarantined", error.sentence, error.detail))
            _LOG.warning("an update of %s was put aside: %s", upload.model, error.sentence)
            return None
        return update

    def _average(
        self, upload: Upload, latest: Version, current: DafneModel, update: DafneModel
    ) -> _Merged:
        exam = Exam.of(self._store, upload.model, current)
        before = None if exam is None else self._dice(upload.model, latest, current, exam)
        rule = self._store.rule(upload.model)
        if rule == "examined" and exam is not None:
            best = best_share(current.weights, update.weights, exam.dice)
            weights = average(current.weights, update.weights, 1 - best.share)
            return _Merged(weights, best.share, best.dice, before, exam)
        if rule == "cases" and upload.cases is not None:
            usual = self._uploads.usual_cases(upload.model) or float(upload.cases)
            counts = [usual, min(float(upload.cases), MOST_CASES * usual)]
            weights = federated_average([current.weights, update.weights], counts)
            share = counts[1] / sum(counts)
        else:
            weights, share = average(current.weights, update.weights, HALF), HALF
        found = Share(share, exam.dice(weights)) if exam is not None else None
        return _Merged(weights, share, None if found is None else found.dice, before, exam)

    def _dice(self, name: str, latest: Version, current: DafneModel, exam: Exam) -> float:
        """Return what the exam says of the current version; it is examined once only."""
        if latest.dice is not None and latest.exam == exam.token:
            return latest.dice
        found = exam.dice(current.weights)
        self._store.note_dice(name, latest, found, exam.token)
        return found

    def _publish(
        self, upload: Upload, latest: Version, current: DafneModel, merged: _Merged
    ) -> None:
        def write(path: Path, timestamp: int) -> None:
            write_dafne(path, replace(current, weights=merged.weights, timestamp=timestamp))

        timestamp = self._store.next_timestamp(upload.model)
        with self._store.written(upload.model, timestamp, write) as temporary:
            version = Version(
                timestamp,
                sha256(temporary),
                temporary.stat().st_size,
                "merged",
                latest.timestamp,
                upload.id,
                merged.share,
                merged.dice,
                merged.exam.token if merged.exam else None,
            )
            self._uploads.merged(upload, version, temporary)
        _LOG.info("an update of %s was merged into version %s", upload.model, timestamp)


def _worse(merged: _Merged) -> Fate:
    cases = len(merged.exam) if merged.exam else 0
    sentence = (
        "It would make the model worse on the server's own cases "
        f"({cases}): mean Dice {merged.before:.3f} → {merged.dice:.3f}."
    )
    return Fate("rejected", sentence, dice=merged.dice)
