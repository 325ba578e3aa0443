from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import napari_dante.volume
from napari_dante.errors import VolumeError
from napari_dante.volume import (
    Geometry,
    Label,
    LabelMap,
    Volume,
    default_label,
    labels_from_json,
    labels_to_json,
    match_grid,
)
from tests.volume.grids import straight_affine

part = st.floats(0, 1)
tables = st.dictionaries(
    st.integers(-5, 10**6),
    st.builds(Label, st.text(), st.tuples(part, part, part)),
)


def geometry(shape: tuple[int, int, int] = (4, 5, 6), orientation: str = "RAS") -> Geometry:
    return Geometry.from_affine(shape, straight_affine(orientation))


def label_map(place: Geometry) -> LabelMap:
    return LabelMap(np.zeros(place.shape, np.uint8), place, {})


def volume(place: Geometry) -> Volume:
    return Volume(np.zeros(place.shape), place, source=Path("CANARY/CANARY.nii"))


@given(tables)
def test_a_label_table_survives_json(table: dict[int, Label]) -> None:
    assert labels_from_json(json.loads(json.dumps(labels_to_json(table)))) == table


@pytest.mark.parametrize(
    "table",
    [[{}], [1], [{"value": 1, "name": "a", "colour": [1, 2]}], ["text"]],
)
def test_what_is_no_label_table_is_refused(table: list[object]) -> None:
    with pytest.raises(VolumeError):
        labels_from_json(table)


def test_default_colours_are_distinct_and_valid() -> None:
    colours = [default_label(value).colour for value in range(1, 22)]
    assert len(set(colours)) == 21
    assert all(0 <= channel <= 1 for colour in colours for channel in colour)
    assert default_label(3) == default_label(3)
    assert default_label(-4).name == "label -4"


def test_labels_on_the_grid_match() -> None:
    match_grid(label_map(geometry()), volume(geometry()))


def test_labels_of_another_shape_are_refused_with_both_shapes() -> None:
    with pytest.raises(VolumeError, match="labels 4 x 5 x 7, image 4 x 5 x 6"):
        match_grid(label_map(geometry((4, 5, 7))), volume(geometry()))


def test_labels_at_another_place_are_refused() -> None:
    with pytest.raises(VolumeError, match="another place"):
        match_grid(label_map(geometry(orientation="LAS")), volume(geometry()))


def test_an_array_that_does_not_fit_its_geometry_is_refused() -> None:
    with pytest.raises(VolumeError, match="4 x 5 x 6 voxels, its geometry says 6 x 5 x 4"):
        Volume(np.zeros((4, 5, 6)), geometry())
    with pytest.raises(VolumeError, match="whole numbers"):
        LabelMap(np.zeros((6, 5, 4)), geometry(), {})


def test_repr_names_no_source() -> None:
    assert "CANARY" not in repr(volume(geometry()))


def test_every_public_name_exists_and_is_sorted() -> None:
    names = napari_dante.volume.__all__
    assert len(set(names)) == len(names)
    assert all(hasattr(napari_dante.volume, name) for name in names)
