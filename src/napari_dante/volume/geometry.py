"""Where the voxels of a volume are, and how its array is turned for the screen.

Three frames meet here:

* *stored*: the axes of the array in the file, with the 4x4 affine to RAS+ millimetres
  that the file states;
* *display*: axes (z, y, x), each running towards superior, posterior and left, so that
  napari's default camera shows anterior up and the patient's left on the right;
* *world*: LPS millimetres (as DICOM and ITK), written in the order (z, y, x).

Only the stored shape and affine are kept; everything else follows from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_dante.errors import VolumeError

__all__ = ["GRID_TOLERANCE_MM", "VIEWS", "Geometry", "by", "corner_distance"]

VIEWS = ("axial", "coronal", "sagittal")
"""What a person calls the slices along display axes z, y and x."""

GRID_TOLERANCE_MM = 1e-3
"""Two grids are one grid when no corner of the volume moves by more than this."""

# Beyond these an affine is a header error, and float32 could not hold it.
_FARTHEST_MM = 1e7
_SMALLEST_MM = 1e-9

_RAS_TO_ZYX = np.array([[0, 0, 1, 0], [0, -1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1]], dtype=np.float64)

Triple = tuple[int, int, int]
FloatTriple = tuple[float, float, float]


def corner_distance(shape: Sequence[int], first: ArrayLike, second: ArrayLike) -> float:
    """Return the largest distance between the corners of two placements of one array.

    Parameters
    ----------
    shape
        Number of voxels along each axis; the corners are the outer voxel edges.
    first, second
        4x4 affines from voxel indices to the same world.

    Returns
    -------
    float
        Millimetres.
    """
    edges = [(-0.5, size - 0.5) for size in shape]
    corners = np.array([(*corner, 1.0) for corner in product(*edges)])
    moved = corners @ (np.asarray(first, np.float64) - np.asarray(second, np.float64)).T
    return float(np.linalg.norm(moved[:, :3], axis=1).max())


@dataclass(frozen=True, eq=False)
class Geometry:
    """The grid of a volume, exactly as its file states it.

    Parameters
    ----------
    stored_shape
        Number of voxels along the three axes of the array in the file.
    affine
        4x4 float64, stored voxel index to RAS+ world in mm; kept read-only.

    Raises
    ------
    VolumeError
        The shape is not three positive sizes, or the affine does not place voxels in
        space (not finite, singular, not a 4x4 affine).
    """

    stored_shape: Triple
    affine: NDArray[np.float64]

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        _check(self.stored_shape, affine)
        affine.flags.writeable = False
        object.__setattr__(self, "affine", affine)

    @classmethod
    def from_affine(cls, shape: Sequence[int], affine: ArrayLike) -> Geometry:
        """Build the geometry of an array of `shape` placed by a voxel-to-RAS+ `affine`.

        Raises
        ------
        VolumeError
            As for the class.
        """
        sizes = tuple(int(size) for size in shape)
        if len(sizes) != 3:
            raise VolumeError(f"A volume has three axes, this one has {len(sizes)}.")
        return cls((sizes[0], sizes[1], sizes[2]), np.asarray(affine, dtype=np.float64))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Geometry):
            return NotImplemented
        return self.stored_shape == other.stored_shape and np.array_equal(self.affine, other.affine)

    def __hash__(self) -> int:
        # Adding zero makes -0.0 hash like the 0.0 it is equal to.
        return hash((self.stored_shape, (self.affine + 0.0).tobytes()))

    @property
    def _order(self) -> tuple[tuple[int, bool], ...]:
        """Per display axis: the stored axis shown there, and whether it runs backwards."""
        order = [(0, False)] * 3
        for stored, (world, direction) in enumerate(_orientations(self.affine)):
            towards_superior = world == 2
            order[2 - int(world)] = (stored, bool((direction > 0) != towards_superior))
        return tuple(order)

    @property
    def orientation(self) -> str:
        """Where the stored axes run to, one letter each, such as ``"LSA"``."""
        from nibabel.orientations import ornt2axcodes

        return "".join(ornt2axcodes(_orientations(self.affine)))

    @property
    def shape(self) -> Triple:
        """Number of voxels along display axes (z, y, x)."""
        z, y, x = (self.stored_shape[stored] for stored, _ in self._order)
        return z, y, x

    @property
    def stored_spacing(self) -> FloatTriple:
        """Distance in mm between neighbouring voxels along the stored axes."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return i, j, k

    @property
    def spacing(self) -> FloatTriple:
        """Distance in mm between neighbouring voxels along display axes (z, y, x)."""
        stored_spacing = self.stored_spacing
        z, y, x = (stored_spacing[stored] for stored, _ in self._order)
        return z, y, x

    @property
    def display_affine(self) -> NDArray[np.float64]:
        """4x4, display voxel (z, y, x) to world LPS (z, y, x) mm; exact when oblique too."""
        to_stored = np.zeros((4, 4))
        to_stored[3, 3] = 1.0
        for display, (stored, flipped) in enumerate(self._order):
            to_stored[stored, display] = -1.0 if flipped else 1.0
            to_stored[stored, 3] = self.stored_shape[stored] - 1.0 if flipped else 0.0
        exact: NDArray[np.float64] = _RAS_TO_ZYX @ self.affine @ to_stored
        return exact

    @property
    def scale(self) -> FloatTriple:
        """The viewer's scale in mm per voxel (z, y, x), all positive."""
        return self.spacing

    @property
    def translate(self) -> FloatTriple:
        """World LPS (z, y, x) mm where the viewer puts the first display voxel.

        An oblique volume is shown straight, turned about its own centre, which keeps its
        place in the world.
        """
        centre = (np.array(self.shape) - 1.0) / 2.0
        exact = self.display_affine
        z, y, x = (exact[:3, :3] @ centre + exact[:3, 3] - centre * self.spacing).tolist()
        return z, y, x

    @property
    def is_oblique(self) -> bool:
        """Whether showing the volume straight moves a corner by more than the tolerance."""
        viewer = np.diag([*self.scale, 1.0])
        viewer[:3, 3] = self.translate
        return corner_distance(self.shape, viewer, self.display_affine) > GRID_TOLERANCE_MM

    def same_grid(self, other: Geometry) -> bool:
        """Whether every voxel lies at the same place, within 1e-3 mm at the corners."""
        return (
            self.stored_shape == other.stored_shape
            and self._order == other._order
            and corner_distance(self.stored_shape, self.affine, other.affine) <= GRID_TOLERANCE_MM
        )

    def same_place(self, other: Geometry) -> bool:
        """Whether arrays in display order lie alike, however each grid is stored."""
        return (
            self.shape == other.shape
            and corner_distance(self.shape, self.display_affine, other.display_affine)
            <= GRID_TOLERANCE_MM
        )

    def to_display(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return a view of a stored `array` in display order (z, y, x).

        Raises
        ------
        VolumeError
            The shape of `array` is not the stored shape.
        """
        _check_shape(array.shape, self.stored_shape)
        return array.transpose([stored for stored, _ in self._order])[self._flips]

    def to_stored(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return a view of a display-order `array` in stored order: undo `to_display`.

        Raises
        ------
        VolumeError
            The shape of `array` is not the display shape.
        """
        _check_shape(array.shape, self.shape)
        return array[self._flips].transpose(np.argsort([stored for stored, _ in self._order]))

    @property
    def _flips(self) -> tuple[slice, ...]:
        return tuple(slice(None, None, -1 if flipped else 1) for _, flipped in self._order)

    def stored_axis_to_display(self, axis: int) -> tuple[int, bool]:
        """Return the display axis that shows stored `axis`, and whether it is flipped."""
        _check_index(axis, 3, "axis")
        display = [stored for stored, _ in self._order].index(axis)
        return display, self._order[display][1]

    def display_axis_to_stored(self, axis: int) -> tuple[int, bool]:
        """Return the stored axis shown on display `axis`, and whether it is flipped."""
        _check_index(axis, 3, "axis")
        return self._order[axis]

    def stored_slice_to_display(self, axis: int, index: int) -> tuple[int, int]:
        """Return (display axis, display index) of slice `index` along stored `axis`.

        Raises
        ------
        VolumeError
            There is no such axis or slice.
        """
        display, flipped = self.stored_axis_to_display(axis)
        return display, _mirror(index, self.stored_shape[axis], flipped)

    def display_slice_to_stored(self, axis: int, index: int) -> tuple[int, int]:
        """Return (stored axis, stored index) of slice `index` along display `axis`.

        Raises
        ------
        VolumeError
            There is no such axis or slice.
        """
        stored, flipped = self.display_axis_to_stored(axis)
        return stored, _mirror(index, self.stored_shape[stored], flipped)


def _orientations(affine: NDArray[np.float64]) -> NDArray[np.int64]:
    """Row per stored axis: closest RAS+ axis, and +1 or -1 for its direction."""
    # Rounded, so that an image and its labels turned by exactly 45 degrees choose the
    # same axes although one affine went through float32.
    directions = np.round(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0), 5)
    from nibabel.orientations import io_orientation

    closest: NDArray[np.float64] = io_orientation(
        np.block([[directions, np.zeros((3, 1))], [np.zeros((1, 3)), np.ones((1, 1))]])
    )
    if not np.isfinite(closest).all():
        raise VolumeError("The orientation of the volume cannot be told from its header.")
    return closest.astype(np.int64)


def _check(shape: Triple, affine: NDArray[np.float64]) -> None:
    if min(shape) < 1:
        raise VolumeError("The volume holds no voxels.", detail=f"shape {shape}")
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise VolumeError("The position of the voxels in space is missing or not a number.")
    if not np.array_equal(affine[3], (0, 0, 0, 1)):
        raise VolumeError("The position of the voxels in space is not a valid affine.")
    if np.abs(affine).max() > _FARTHEST_MM:
        raise VolumeError("The header places the volume more than ten kilometres away.")
    zooms = np.linalg.norm(affine[:3, :3], axis=0)
    if not (zooms > _SMALLEST_MM).all() or abs(np.linalg.det(affine[:3, :3] / zooms)) < 1e-6:
        raise VolumeError(
            "The header gives two voxels the same place in space (a spacing of zero or "
            "parallel axes); the volume cannot be placed."
        )
    _orientations(affine)


def _check_shape(shape: tuple[int, ...], expected: Triple) -> None:
    if shape != expected:
        raise VolumeError(f"The array is {by(shape)} voxels where {by(expected)} are expected.")


def by(shape: Sequence[int]) -> str:
    """Return a shape as people write it, such as ``256 x 256 x 24``."""
    return " x ".join(str(size) for size in shape)


def _check_index(index: int, size: int, what: str) -> None:
    if not 0 <= index < size:
        raise VolumeError(f"There is no {what} {index}: they are numbered 0 to {size - 1}.")


def _mirror(index: int, size: int, flipped: bool) -> int:
    _check_index(index, size, "slice")
    return size - 1 - index if flipped else index
