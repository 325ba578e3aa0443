"""What is worth keeping of a lesson: as a table, as JSON, as a page. Torch-free.

Nothing here tells whose image it was: no path, name or tag, and pictures only on demand.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from napari_dante.evaluate.curve import Curve
from napari_dante.evaluate.mistakes import SliceScore
from napari_dante.evaluate.report import ExamReport, Metrics

__all__ = ["Picture", "RunReport"]

_METRICS = ("dice", "hd95", "nsd")


@dataclass(frozen=True)
class Picture:
    """An exam slice with the outlines of the person and of each model, as PNG files."""

    slice: int
    before: bytes
    after: bytes


@dataclass(frozen=True)
class RunReport:
    """One lesson.

    Attributes
    ----------
    model
        Name of the model that was taught.
    date
        Of the lesson, ISO 8601.
    software
        Version of napari-dante.
    method
        How it was taught, in a sentence.
    view
        What the slices are called: axial, coronal or sagittal.
    structures
        What the case marks.
    learned
        Slices that were learned from.
    exam
        None where no slice was set aside.
    slices
        Dice of every trusted slice.
    curve
        The learning curve.
    pictures
        Of exam slices: patient data, empty unless they were asked for.
    """

    model: str
    date: str
    software: str
    method: str
    view: str
    structures: tuple[str, ...]
    learned: tuple[int, ...]
    exam: ExamReport | None
    slices: tuple[SliceScore, ...]
    curve: Curve
    pictures: tuple[Picture, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data, without the pictures."""
        data = {name: value for name, value in vars(self).items() if name != "pictures"}
        return {
            **data,
            "exam": self.exam.to_json() if self.exam is not None else None,
            "labels": self._label_results(),
            "slices": [asdict(score) for score in self.slices],
            "curve": asdict(self.curve),
        }

    def to_csv(self) -> str:
        """Return a table with a row for each structure and exam slice."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        whens = ("before", "after")
        columns = [f"{metric}_{when}" for metric in _METRICS for when in whens]
        writer.writerow(["structure", "slice", *columns])
        writer.writerows(self._rows())
        return stream.getvalue()

    def _rows(self) -> Iterator[list[Any]]:
        for score in self.exam.scores if self.exam is not None else ():
            pair: tuple[Metrics, Metrics] = (score.before, score.after)
            values = [getattr(one, metric) for metric in _METRICS for one in pair]
            cells = ["" if value is None else f"{value:.4f}" for value in values]
            yield [_harmless(score.label), score.slice, *cells]

    def _label_results(self) -> list[dict[str, Any]]:
        exam = self.exam
        return [] if exam is None else [asdict(exam.of_label(label)) for label in exam.labels]


def _harmless(name: str) -> str:
    """Return a name that no spreadsheet takes for a formula."""
    return f"'{name}" if name[:1] in "=+-@\t\r" else name
