"""A case on the grid of a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from napari_dante.adapt.data import to_grid
from napari_dante.adapt.patches import Grid
from napari_dante.jobs.case import CaseData
from napari_dante.model.spec import ArchitectureSpec

__all__ = ["case_grid"]


def case_grid(case: CaseData, slices: Sequence[int], spec: ArchitectureSpec) -> Grid:
    """Return a case with only `slices` trusted, and with what its labels tell apart.

    Raises
    ------
    TeachError
        If a trusted slice holds a structure that the model does not know.
    """
    grid = to_grid(
        np.asarray(case.image),
        case.classes(spec),
        spacing=case.spacing,
        axis=case.axis,
        slices=slices,
        spec=spec,
    )
    annotated = case.annotated(spec)
    return grid if all(annotated) else replace(grid, annotated=annotated)
