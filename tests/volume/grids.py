"""Affines of every kind, for laws that must hold on all of them."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

AXIS_ORDERS = [
    "".join(letter[side] for letter, side in zip(order, sides, strict=True))
    for order in permutations(("LR", "PA", "IS"))
    for sides in product((0, 1), repeat=3)
]
"""The 48 ways in which stored axes can run, such as ``"LSA"``."""

_STEPS = {
    "R": (1, 0, 0),
    "L": (-1, 0, 0),
    "A": (0, 1, 0),
    "P": (0, -1, 0),
    "S": (0, 0, 1),
    "I": (0, 0, -1),
}


def straight_affine(
    orientation: str,
    spacing: tuple[float, float, float] = (0.8, 1.1, 3.3),
    origin: tuple[float, float, float] = (-12.5, 31.25, 7.75),
) -> NDArray[np.float64]:
    """Return the affine of axes that run exactly to `orientation`."""
    affine = np.eye(4)
    affine[:3, :3] = np.array([_STEPS[letter] for letter in orientation]).T * spacing
    affine[:3, 3] = origin
    return affine


def rotation(x: float, y: float, z: float) -> NDArray[np.float64]:
    """Return the 4x4 rotation by angles in degrees about the world axes."""
    total = np.eye(4)
    for axis, angle in enumerate(np.radians((x, y, z))):
        turn = np.eye(4)
        one, two = [other for other in range(3) if other != axis]
        turn[one, one] = turn[two, two] = np.cos(angle)
        turn[one, two], turn[two, one] = -np.sin(angle), np.sin(angle)
        total = turn @ total
    return total


def float32(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what a NIfTI sform keeps of an affine."""
    return affine.astype(np.float32).astype(np.float64)


angles = st.floats(-89.0, 89.0)
steps = st.floats(0.2, 8.0)
places = st.floats(-300.0, 300.0)
sizes = st.integers(1, 7)

straight_affines = st.builds(
    straight_affine,
    st.sampled_from(AXIS_ORDERS),
    st.tuples(steps, steps, steps),
    st.tuples(places, places, places),
)
oblique_affines = st.builds(
    lambda affine, turn: rotation(*turn) @ affine,
    straight_affines,
    st.tuples(angles, angles, angles),
)
shapes = st.tuples(sizes, sizes, sizes)
