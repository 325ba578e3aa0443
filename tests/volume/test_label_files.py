"""Label names and colours go to ITK-SNAP and 3D Slicer, and come back."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_dante.errors import VolumeError
from napari_dante.volume import Label, default_label, read_label_file, write_label_file

# As the two programs write them (ITK-SNAP 4; 3D Slicer 5, developer guide "Colors").
SNAP = """\
################################################
# ITK-SnAP Label Description File
# File format:
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
################################################
    0     0    0    0        0  0  0    "Clear Label"
    1   255    0    0        1  1  1    "Inner ERC/CS"
  200   186  194  212      0.5  1  0    "Deep "white" R"
"""
SLICER = """\
# Color table file C:/Users/a/Segmentation-label_ColorTable.ctbl
# 4 values
0 Background 0 0 0 0
1 artery 216 101 79 255
2 (none) 0 0 0 0
3 connective_tissue 111 184 210.5 255
"""
names = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters='_"'), min_size=1)
sentences = st.lists(names, min_size=1, max_size=3).map(" ".join).filter(lambda one: one[0] != "'")
tables = st.dictionaries(
    st.integers(1, 70_000),
    st.builds(Label, sentences, st.tuples(*[st.integers(0, 255).map(lambda b: b / 255)] * 3)),
    min_size=1,
    max_size=6,
)


def test_the_files_of_both_programs_are_read(tmp_path: Path) -> None:
    (tmp_path / "snap").write_text(SNAP)
    (tmp_path / "slicer").write_text(SLICER)
    assert read_label_file(tmp_path / "snap") == {
        1: Label("Inner ERC/CS", (1.0, 0.0, 0.0)),
        200: Label('Deep "white" R', (0.7294, 0.7608, 0.8314)),
    }
    assert read_label_file(tmp_path / "slicer") == {
        1: Label("artery", (0.8471, 0.3961, 0.3098)),
        3: Label("connective tissue", (0.4353, 0.7216, 0.8255)),
    }


@pytest.mark.parametrize("name", ["a.ctbl", "a.label", "a.txt"])
@given(table=tables)
def test_what_is_written_comes_back(
    tmp_path_factory: pytest.TempPathFactory, name: str, table: dict[int, Label]
) -> None:
    path = tmp_path_factory.mktemp("labels") / name
    write_label_file(path, {0: Label("background", (0, 0, 0)), **table})
    back = read_label_file(path)
    assert list(back) == sorted(table)
    for value, label in table.items():
        if name == "a.ctbl":
            # Slicer strips these from both ends itself.
            assert back[value].name == label.name.strip("'")
        else:
            assert back[value].name == label.name
        assert back[value].colour == pytest.approx(label.colour, abs=1e-4)


def test_default_colours_survive(tmp_path: Path) -> None:
    table = {value: default_label(value) for value in range(1, 40)}
    write_label_file(tmp_path / "a.ctbl", table)
    for value, label in read_label_file(tmp_path / "a.ctbl").items():
        assert label.colour == pytest.approx(table[value].colour, abs=0.5 / 255 + 1e-4)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"", "no label names"), (b"1 2 3", "neither"), (b"\x00\xff" * 99, "neither")],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(VolumeError, match=sentence):
        read_label_file(tmp_path / "x")


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    for name, table in (("a.csv", {}), ("a.ctbl", {-1: default_label(1)})):
        with pytest.raises(VolumeError):
            write_label_file(tmp_path / name, table)
    assert not list(tmp_path.iterdir())
    with pytest.raises(VolumeError, match="cannot be read"):
        read_label_file(tmp_path / "absent")
