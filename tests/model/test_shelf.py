"""Files that only their own code can run: lines of versions, known by their SHA-256."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_dante.errors import ModelError
from napari_dante.files import sha256
from napari_dante.model.file import Lineage
from napari_dante.model.shelf import Shelf, name_of


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "shelf")


def file(tmp_path: Path, content: str) -> tuple[Path, str]:
    path = tmp_path / "Anna.model"
    path.write_text(content)
    return path, sha256(path)


def test_what_was_taught_is_the_next_version_and_there_is_a_way_back(
    tmp_path: Path, shelf: Shelf
) -> None:
    path, first = file(tmp_path, "one")
    name = shelf.put(path, first)
    assert name == name_of(first)
    assert [one.current for one in shelf.history(name)] == [True]
    path, second = file(tmp_path, "two")
    kept = shelf.keep(path, second, Lineage(name, "id", first, {"method": "own code"}))
    path, third = file(tmp_path, "three")
    shelf.keep(path, third, Lineage(name, "id", second, {"method": "own code"}))
    other, _ = file(tmp_path, "another")
    another = shelf.put(other, sha256(other))
    assert set(shelf.names()) == {name, another}
    found = shelf.history(name)
    assert [one.number for one in found] == [1, 2, 3]
    assert [one.parent for one in found] == [None, 1, 2]
    assert [one.current for one in found] == [False, False, True]
    assert {one.lineage.model_id for one in found if one.lineage} == {"id"}
    shelf.use(name, kept)
    assert shelf.find(name) == kept
    assert kept.read_text() == "two"
    assert shelf.names() == Shelf(tmp_path / "shelf").names()
    assert not any("Anna" in str(one) for one in (tmp_path / "shelf").rglob("*"))
    # A version that is brought in again is the one in use, and no model of its own.
    path, _ = file(tmp_path, "three")
    assert shelf.put(path, third) == name
    assert shelf.find(name) == found[2].path
    with pytest.raises(ModelError, match="not a version"):
        shelf.use(another, kept)


def test_only_the_file_that_was_meant_is_kept(tmp_path: Path, shelf: Shelf) -> None:
    path, first = file(tmp_path, "one")
    lineage = Lineage(name_of(first), "id", first)
    with pytest.raises(ModelError, match="no longer here"):
        shelf.keep(path, first, lineage)
    name = shelf.put(path, first)
    changed, _ = file(tmp_path, "two")
    with pytest.raises(ModelError, match="changed"):
        shelf.keep(changed, "0" * 64, lineage)
    changed.unlink()
    with pytest.raises(ModelError, match="no longer there"):
        shelf.keep(changed, "0" * 64, lineage)
    assert len(shelf.history(name)) == 1


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"versions": 3, "current": "x"}'])
def test_a_damaged_list_loses_no_file(tmp_path: Path, shelf: Shelf, content: str) -> None:
    path, first = file(tmp_path, "one")
    name = shelf.put(path, first)
    path, second = file(tmp_path, "two")
    shelf.keep(path, second, Lineage(name, "id", first))
    (tmp_path / "shelf" / f"{first}.json").write_text(content)
    assert set(shelf.names()) == {name, name_of(second)}
    assert shelf.find(name) is not None
    assert shelf.history("unknown") == ()
    shelf.keep(path, second, Lineage(name, "id", first))
    assert shelf.names() == (name,)
    # So does a version that somebody deleted.
    shelf.history(name)[1].path.unlink()
    assert [one.number for one in shelf.history(name)] == [1]
    assert shelf.find(name) == shelf.history(name)[0].path
