"""A journal is readable whatever happens to its end, and gives back what stood."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_dante.corrections.journal import Entry, Journal, Saved, read_journal, volume_key
from napari_dante.errors import DanteError

SHAPE = (5, 6, 7)
LABELS = [{"value": 1, "name": "core", "colour": [1.0, 0.0, 0.0]}]


def labels(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 4, SHAPE).astype(np.uint8)


def start(axis: int = 0) -> Saved:
    return Saved(labels(0), axis, LABELS, {})


def entry(index: int, seed: int, axis: int = 0, *, approved: bool = False) -> Entry:
    return Entry(index, True, approved, np.take(labels(seed), index, axis))


def same(first: Entry, second: Entry) -> bool:
    flags = (first.index, first.edited, first.approved)
    return flags == (second.index, second.edited, second.approved) and np.array_equal(
        first.plane, second.plane
    )


@settings(max_examples=40, deadline=None)
@given(
    axis=st.integers(0, 2),
    steps=st.lists(st.tuples(st.integers(0, 4), st.integers(1, 99), st.booleans()), max_size=8),
)
def test_the_last_entry_of_each_slice_counts(
    tmp_path_factory: pytest.TempPathFactory, axis: int, steps: list[tuple[int, int, bool]]
) -> None:
    path = tmp_path_factory.mktemp("journal") / "a.journal"
    journal, truth, last = Journal(path, start(axis)), labels(0), {}
    for index, seed, approved in steps:
        one = entry(index, seed, axis, approved=approved)
        journal.append([one])
        np.moveaxis(truth, axis, 0)[index] = one.plane
        last[index] = one
    saved = read_journal(path)
    assert np.array_equal(saved.data, truth)
    assert np.array_equal(saved.baseline, labels(0))
    assert saved.axis == axis
    assert saved.labels == LABELS
    assert saved.slices.keys() == last.keys()
    assert all(same(saved.slices[index], one) for index, one in last.items())


def test_cut_anywhere_it_gives_back_what_was_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    journal = Journal(path, start())
    sizes = [path.stat().st_size]
    for index in range(4):
        journal.append([entry(index, index + 1)])
        sizes.append(path.stat().st_size)
    content = path.read_bytes()
    for cut in range(sizes[0], len(content) + 1):
        path.write_bytes(content[:cut])
        whole = sum(size <= cut for size in sizes[1:])
        assert sorted(read_journal(path).slices) == list(range(whole))
    for cut in range(0, sizes[0], 7):
        path.write_bytes(content[:cut])
        with pytest.raises(DanteError):
            read_journal(path)


def test_a_flipped_bit_ends_the_reading_there(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    journal = Journal(path, start())
    first = path.stat().st_size
    journal.append([entry(0, 1)])
    second = path.stat().st_size
    journal.append([entry(1, 2)])
    content = bytearray(path.read_bytes())
    for place in range(second, len(content)):
        broken = content.copy()
        broken[place] ^= 16
        path.write_bytes(bytes(broken))
        assert sorted(read_journal(path).slices) == [0]
    assert first < second


def test_what_was_undone_is_not_a_correction(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    journal = Journal(path, start())
    journal.append([entry(2, 1)])
    journal.append([Entry(2, False, False, labels(0)[2])])
    assert read_journal(path).slices == {}


def test_it_holds_neither_image_nor_name(tmp_path: Path) -> None:
    image = np.frombuffer(b"CANARY" * 35, np.uint8).reshape(SHAPE)
    key = volume_key(image, b"salt" * 8)
    path = tmp_path / f"{key}.journal"
    Journal(path, start()).append([entry(0, 1)])
    assert b"CANARY" not in path.read_bytes()
    assert str(tmp_path).encode() not in path.read_bytes()


def test_a_volume_is_known_by_its_voxels_and_the_salt() -> None:
    image = labels(3)
    key = volume_key(image, b"a" * 32)
    assert volume_key(image.copy(order="F"), b"a" * 32) == key
    assert volume_key(image, b"b" * 32) != key
    assert volume_key(image[::-1], b"a" * 32) != key
    assert volume_key(image.astype(np.int16), b"a" * 32) != key
