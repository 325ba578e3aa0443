from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_dante.errors import VolumeError
from napari_dante.volume import Geometry
from tests.volume.grids import (
    AXIS_ORDERS,
    float32,
    oblique_affines,
    rotation,
    shapes,
    straight_affine,
    straight_affines,
)

any_affines = st.one_of(straight_affines, oblique_affines)


def numbered(shape: tuple[int, int, int]) -> NDArray[np.int32]:
    return np.arange(np.prod(shape), dtype=np.int32).reshape(shape)


def world_of_stored(geometry: Geometry, index: NDArray[np.float64]) -> NDArray[np.float64]:
    """Independent of the class: nibabel's RAS, turned to LPS, in the order z, y, x."""
    x, y, z = nib.affines.apply_affine(geometry.affine, index)
    return np.array([z, -y, -x])


def world_in_viewer(geometry: Geometry, index: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array(geometry.translate) + np.array(geometry.scale) * index


@given(shapes, any_affines)
def test_display_and_back_is_the_identity(
    shape: tuple[int, int, int], affine: NDArray[np.float64]
) -> None:
    geometry = Geometry.from_affine(shape, affine)
    stored = numbered(shape)
    shown = geometry.to_display(stored)
    assert shown.shape == geometry.shape
    assert np.shares_memory(shown, stored)
    np.testing.assert_array_equal(geometry.to_stored(shown), stored)
    np.testing.assert_array_equal(geometry.affine, affine)


@given(shapes, any_affines, st.data())
def test_display_affine_is_exact_for_every_voxel(
    shape: tuple[int, int, int], affine: NDArray[np.float64], data: st.DataObject
) -> None:
    geometry = Geometry.from_affine(shape, affine)
    stored = tuple(data.draw(st.integers(0, size - 1)) for size in shape)
    shown = np.argwhere(geometry.to_display(numbered(shape)) == numbered(shape)[stored])[0]
    np.testing.assert_allclose(
        geometry.display_affine[:3, :3] @ shown + geometry.display_affine[:3, 3],
        world_of_stored(geometry, np.array(stored, dtype=float)),
        atol=1e-9,
    )
    for axis in range(3):
        display, index = geometry.stored_slice_to_display(axis, stored[axis])
        assert shown[display] == index
        assert geometry.display_slice_to_stored(display, index) == (axis, stored[axis])
        assert geometry.display_axis_to_stored(display)[0] == axis


@given(shapes, straight_affines)
def test_a_straight_volume_lies_in_the_viewer_where_nibabel_puts_it(
    shape: tuple[int, int, int], affine: NDArray[np.float64]
) -> None:
    geometry = Geometry.from_affine(shape, float32(affine))
    assert not geometry.is_oblique
    apart = []
    for corner in np.ndindex(2, 2, 2):
        stored = np.array(corner) * (np.array(shape) - 1)
        shown = np.zeros(3)
        for axis in range(3):
            display, index = geometry.stored_slice_to_display(axis, int(stored[axis]))
            shown[display] = index
        apart.append(world_in_viewer(geometry, shown) - world_of_stored(geometry, stored))
    assert np.abs(apart).max() < 1e-4


@given(shapes, any_affines)
def test_an_oblique_volume_keeps_its_centre_and_positive_scales(
    shape: tuple[int, int, int], affine: NDArray[np.float64]
) -> None:
    geometry = Geometry.from_affine(shape, affine)
    assert min(geometry.scale) > 0
    centre = world_of_stored(geometry, (np.array(shape) - 1) / 2)
    shown = world_in_viewer(geometry, (np.array(geometry.shape) - 1) / 2)
    np.testing.assert_allclose(shown, centre, atol=1e-9)
    # Each display axis runs to S, P, L and not away from it.
    assert (np.diag(geometry.display_affine)[:3] > -1e-4).all()


@pytest.mark.parametrize("orientation", AXIS_ORDERS)
def test_every_axis_order_is_shown_superior_posterior_left(orientation: str) -> None:
    geometry = Geometry.from_affine((4, 5, 6), straight_affine(orientation))
    assert geometry.orientation == orientation
    stored = np.zeros((4, 5, 6))
    for name, display, end in (("S", 0, -1), ("P", 1, -1), ("L", 2, -1)):
        opposite = {"S": "I", "P": "A", "L": "R"}[name]
        axis = next(i for i, letter in enumerate(orientation) if letter in name + opposite)
        last = end if orientation[axis] == name else 0
        stored[...] = 0
        np.moveaxis(stored, axis, 0)[last] = 1
        shown = geometry.to_display(stored)
        assert np.moveaxis(shown, display, 0)[-1].all()
        assert geometry.stored_axis_to_display(axis) == (display, orientation[axis] != name)
        assert geometry.spacing[display] == pytest.approx((0.8, 1.1, 3.3)[axis])
        assert geometry.shape[display] == (4, 5, 6)[axis]


def test_obliqueness_starts_above_the_tolerance() -> None:
    straight = straight_affine("LPS")
    assert not Geometry.from_affine((64, 64, 20), straight).is_oblique
    turned = rotation(5, 0, 0) @ straight
    assert Geometry.from_affine((64, 64, 20), turned).is_oblique
    assert Geometry.from_affine((64, 64, 20), turned).orientation == "LPS"


def test_an_exact_45_degree_turn_shows_image_and_labels_alike() -> None:
    affine = rotation(45, 0, 0) @ straight_affine("LSA", (2.0, 2.0, 2.0))
    image = Geometry.from_affine((9, 9, 9), affine)
    labels = Geometry.from_affine((9, 9, 9), float32(affine))
    assert image.same_grid(labels)
    assert image.orientation == labels.orientation


def test_same_grid_notices_a_thousandth_of_a_millimetre() -> None:
    affine = straight_affine("RAS")
    geometry = Geometry.from_affine((10, 10, 10), affine)
    near, far = affine.copy(), affine.copy()
    near[0, 3] += 0.0009
    far[0, 3] += 0.0011
    assert geometry.same_grid(Geometry.from_affine((10, 10, 10), near))
    assert not geometry.same_grid(Geometry.from_affine((10, 10, 10), far))
    assert not geometry.same_grid(Geometry.from_affine((10, 10, 11), affine))
    wider = affine.copy()
    wider[2, 2] += 0.001
    assert not geometry.same_grid(Geometry.from_affine((10, 10, 10), wider))


def test_equal_geometries_hash_alike() -> None:
    one = Geometry.from_affine((2, 3, 4), straight_affine("RAS"))
    two = Geometry.from_affine([2, 3, 4], straight_affine("RAS"))
    assert one == two
    assert hash(one) == hash(two)
    assert one != Geometry.from_affine((2, 3, 4), straight_affine("LAS"))
    with pytest.raises(ValueError, match="read-only"):
        one.affine[0, 0] = 2


def broken(row: int, column: int, value: float) -> NDArray[np.float64]:
    affine = straight_affine("RAS")
    affine[row, column] = value
    return affine


@pytest.mark.parametrize(
    "affine",
    [
        pytest.param(broken(0, 3, np.nan), id="nan"),
        pytest.param(broken(0, 0, np.inf), id="infinite"),
        pytest.param(broken(0, 0, 0.0), id="zero spacing"),
        pytest.param(broken(3, 0, 1.0), id="perspective"),
        pytest.param(broken(0, 3, 1e9), id="far away"),
        pytest.param(np.ones((4, 4)), id="parallel axes"),
        pytest.param(np.eye(3), id="3x3"),
    ],
)
def test_an_affine_that_places_nothing_is_refused(affine: NDArray[np.float64]) -> None:
    with pytest.raises(VolumeError):
        Geometry.from_affine((3, 3, 3), affine)


@pytest.mark.parametrize("shape", [(3, 3), (3, 3, 3, 3), (3, 0, 3), (-1, 3, 3)])
def test_a_shape_that_is_not_three_sizes_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(VolumeError):
        Geometry.from_affine(shape, np.eye(4))


def test_a_wrong_shape_or_slice_is_refused() -> None:
    geometry = Geometry.from_affine((2, 3, 4), straight_affine("RAS"))
    with pytest.raises(VolumeError, match="4 x 3 x 2 voxels where 2 x 3 x 4"):
        geometry.to_display(np.zeros((4, 3, 2)))
    with pytest.raises(VolumeError, match="2 x 3 x 4 voxels where 4 x 3 x 2"):
        geometry.to_stored(np.zeros((2, 3, 4)))
    with pytest.raises(VolumeError, match="no slice 4: they are numbered 0 to 3"):
        geometry.stored_slice_to_display(2, 4)
    with pytest.raises(VolumeError, match="no slice -1"):
        geometry.display_slice_to_stored(0, -1)
    with pytest.raises(VolumeError, match="no axis 3"):
        geometry.stored_axis_to_display(3)
