"""The exam of a job's first case."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_dante.evaluate.exam import examine
from napari_dante.evaluate.report import ExamReport, Retained
from napari_dante.evaluate.split import Split
from napari_dante.jobs.case import CaseData
from napari_dante.model.spec import Named

__all__ = ["examine_case"]


def examine_case(
    case: CaseData,
    split: Split,
    spec: Named,
    before: NDArray[np.uint8],
    after: NDArray[np.uint8],
    earlier: tuple[Retained, ...],
) -> ExamReport | None:
    """Return the exam of two masks, or None where no slice was set aside.

    Only structures that the case marks are examined: of others it says nothing.

    Parameters
    ----------
    case, split
        The reference, and which slices were learned from and are examined.
    spec
        The model that the class numbers of `before` and `after` (z, y, x) belong to.
    earlier
        What was kept of earlier cases.
    """
    if not split.exam:
        return None
    marked = case.annotated(spec)
    numbered = enumerate(spec.labels, start=1)
    return examine(
        before,
        after,
        case.classes(spec),
        names={index: label.name for index, label in numbered if marked[index]},
        spacing=case.spacing,
        axis=case.axis,
        split=split,
        earlier=earlier,
    )
