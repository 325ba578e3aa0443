"""Where a network halves its maps, and how wide its kernels are. Torch-free.

The rules of nnU-Net (Isensee et al., Nat. Methods 2021): thick slices are neither
down-sampled nor convolved across before the pixels have grown as large.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["COARSEST", "Edges", "Spacing", "halvings", "kernels", "pooling"]

Edges = tuple[int, int, int]
Spacing = tuple[float, float, float]

COARSEST = 4
"""Voxels that a feature map keeps along each axis."""


def pooling(patch: Edges, spacing: Spacing, most: int, coarsest: int = COARSEST) -> list[Edges]:
    """Return the stride of each level, per axis (z, y, x).

    An axis is halved while `coarsest` voxels are left and its voxels are less than twice
    as long as the shortest ones that can still be halved.

    Parameters
    ----------
    patch
        Voxels (z, y, x); an axis of one voxel is never halved.
    spacing
        mm (z, y, x).
    most
        Levels at most.
    coarsest
        Voxels that each axis keeps.
    """
    edges, sizes = list(patch), list(spacing)
    strides: list[Edges] = []
    while len(strides) < most:
        able = [axis for axis in range(3) if edges[axis] >= 2 * coarsest]
        if not able:
            break
        finest = min(sizes[axis] for axis in able)
        stride = [2 if axis in able and sizes[axis] < 2 * finest else 1 for axis in range(3)]
        edges = [-(-edge // step) for edge, step in zip(edges, stride, strict=True)]
        sizes = [size * step for size, step in zip(sizes, stride, strict=True)]
        strides.append((stride[0], stride[1], stride[2]))
    return strides


def halvings(patch: Edges, most: int) -> list[Edges]:
    """Return the strides of a network that can only halve all its axes together."""
    shortest = min(edge for edge in patch if edge > 1)
    strides: list[Edges] = []
    while len(strides) < most and shortest >= 2 * COARSEST:
        shortest = -(-shortest // 2)
        first, second, third = (1 if edge == 1 else 2 for edge in patch)
        strides.append((first, second, third))
    return strides


def kernels(strides: Sequence[Edges], spacing: Spacing, flat: int | None = None) -> list[Edges]:
    """Return the kernel of each level: one more than `strides`, the first at full resolution.

    An axis is convolved across from the level on at which its voxels are less than twice
    as long as the shortest ones; `flat` is an axis that the network does not see.
    """
    sizes, seen = list(spacing), [False] * 3
    found: list[Edges] = []
    for stride in [(1, 1, 1), *strides]:
        sizes = [size * step for size, step in zip(sizes, stride, strict=True)]
        finest = min(size for axis, size in enumerate(sizes) if axis != flat)
        seen = [old or size < 2 * finest for old, size in zip(seen, sizes, strict=True)]
        first, second, third = (3 if wide else 1 for wide in seen)
        found.append((first, second, third))
    return found
