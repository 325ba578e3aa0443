"""Keeps the journal of one mask, in a thread of its own. Qt-free."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dante.corrections.journal import Entry, Journal, Saved, read_journal, volume_key
from napari_dante.corrections.place import journal_folder, salt
from napari_dante.errors import DanteError
from napari_dante.ui.tracker import Tracker
from napari_dante.volume import Label, labels_to_json

__all__ = ["Keeper", "find_saved"]

_log = logging.getLogger("napari_dante")


def find_saved(key: str, shape: tuple[int, ...]) -> tuple[Path, Saved] | None:
    """Return the newest journal of an image that holds corrections, None without one.

    `key` is what the image is known by (:func:`napari_dante.jobs.casebook.key_of`).
    """
    for path in sorted(journal_folder().glob(f"{key}-*.journal"), reverse=True):
        try:
            saved = read_journal(path)
        except DanteError as error:
            _log.warning("A journal cannot be read: %s", error.detail)
            continue
        if saved.slices and saved.baseline.shape == shape:
            return path, saved
    return None


class Keeper:
    """Writes what a person corrects, a moment after they did.

    Parameters
    ----------
    image
        The image, which the journal is found by again.
    tracker
        Of the mask.
    table
        Name and colour per label value.
    failed
        Called, from another thread, with a sentence when the disk does not take it.
    """

    def __init__(
        self,
        image: NDArray[Any],
        tracker: Tracker,
        table: Mapping[int, Label],
        failed: Callable[[str], None],
    ) -> None:
        self._tracker = tracker
        self._failed = failed
        self._labels = labels_to_json(table)
        self._written: dict[int, Entry] = {}
        self._axis = tracker.record.axis
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="dante-journal")
        self._journal = self._thread.submit(self._open, image, self._state())

    def note(self) -> None:
        """Write what differs from what was written; returns at once."""
        if self._axis != self._tracker.record.axis:
            self.renew()
            return
        entries = self._changed()
        if entries:
            self._thread.submit(self._append, entries)

    def renew(self) -> None:
        """Write everything anew, after a model wrote another proposal."""
        self._axis = self._tracker.record.axis
        self._written.clear()
        self._thread.submit(self._replace, self._state())

    def rename(self, table: Mapping[int, Label]) -> None:
        """Write everything anew, with other names or colours."""
        self._labels = labels_to_json(table)
        self.renew()

    def supersede(self, older: Path) -> None:
        """Remove the journal that this one was restored from, once this one is written."""
        self._thread.submit(self._remove, older)

    def close(self) -> None:
        """Write what is left; a journal without corrections is removed."""
        with suppress(RuntimeError):  # Python is ending and takes no more work
            self.note()
            self._thread.submit(self._tidy)
        self._thread.shutdown(wait=True)

    def _state(self) -> Saved:
        slices = {entry.index: entry for entry in self._changed()}
        return Saved(self._tracker.record.baseline.copy(), self._axis, self._labels, slices)

    def _changed(self) -> list[Entry]:
        """Return the slices that do not stand in the journal as they are now."""
        record, data = self._tracker.record, self._tracker.layer.data
        approved, edited, changed = record.approved(data), record.edited(data), record.changed(data)
        standing = set(np.flatnonzero(approved | changed).tolist())
        planes = np.moveaxis(data, self._axis, 0)
        entries = []
        for index in sorted(standing | self._written.keys()):
            flags = bool(edited[index]), bool(approved[index])
            old = self._written.get(index)
            plane = record.approval(index) if approved[index] else None
            if (
                old is None
                or flags != (old.edited, old.approved)
                or not (old.plane is plane or np.array_equal(old.plane, planes[index]))
            ):
                entries.append(
                    Entry(index, *flags, planes[index].copy() if plane is None else plane)
                )
        self._written.update((entry.index, entry) for entry in entries)
        return entries

    def _open(self, image: NDArray[Any], start: Saved) -> Journal | None:
        folder = journal_folder()
        with self._honestly():
            name = f"{volume_key(image, salt(folder))}-{time.time_ns()}.journal"
            return Journal(folder / name, start)
        return None

    def _append(self, entries: list[Entry]) -> None:
        journal = self._journal.result()
        if journal is not None:
            with self._honestly():
                journal.append(entries)

    def _replace(self, start: Saved) -> None:
        journal = self._journal.result()
        if journal is not None:
            with self._honestly():
                Journal(journal.path, start)

    def _remove(self, older: Path) -> None:
        if self._journal.result() is not None:
            with self._honestly():
                older.unlink(missing_ok=True)

    def _tidy(self) -> None:
        journal = self._journal.result()
        if journal is not None:
            with self._honestly():
                if not read_journal(journal.path).slices:
                    journal.path.unlink()

    @contextmanager
    def _honestly(self) -> Iterator[None]:
        """Say it when the disk does not take the journal, and go on."""
        try:
            yield
        except OSError as error:
            _log.error("The journal cannot be written: %s", error.strerror)
            self._failed(
                "Your corrections are not being saved, because the disk does not take them: "
                "save the mask yourself."
            )
