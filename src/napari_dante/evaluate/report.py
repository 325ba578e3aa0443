"""What an exam found, and what may be said about it. Torch-free."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from napari_dante.errors import JobError
from napari_dante.evaluate.interval import mean_interval, two_stage_interval
from napari_dante.files import write_text

__all__ = [
    "ExamReport",
    "LabelResult",
    "Metrics",
    "Retained",
    "Score",
    "Verdict",
    "read_report",
    "write_report",
]

Verdict = Literal["better", "no difference", "worse", "not enough data"]

Interval = tuple[float, float]


@dataclass(frozen=True)
class Metrics:
    """One mask against the reference: Dice (0–1), HD95 in mm, NSD (0–1) at the tolerance.

    None everywhere means that the structure is in neither: not applicable. A missed
    structure has Dice 0, NSD 0 and an HD95 as long as the slice's diagonal.
    """

    dice: float | None
    hd95: float | None
    nsd: float | None


@dataclass(frozen=True)
class Score:
    """One structure in one exam slice, under the old and the new model."""

    label: str
    slice: int
    before: Metrics
    after: Metrics


@dataclass(frozen=True)
class Retained:
    """Dice of one structure on earlier cases, under the old and the new model.

    On slices that were not rehearsed; the mean over the cases that have the structure.
    """

    label: str
    before: float
    after: float


@dataclass(frozen=True)
class LabelResult:
    """What the exam says about one structure.

    Attributes
    ----------
    label
        The structure.
    n
        Slices on which both models can be compared.
    interval
        95 % bootstrap interval of its mean Dice difference, None below two slices.
    verdict
        What that allows to be said.
    """

    label: str
    n: int
    interval: Interval | None
    verdict: Verdict


@dataclass(frozen=True)
class ExamReport:
    """Before and after on slices that were never trained on.

    Attributes
    ----------
    axis
        Slice axis in display order (z, y, x).
    exam, learned
        Slice indices along `axis` that were examined and learned from.
    scores
        One for each structure and exam slice.
    tolerance
        NSD tolerance in mm.
    earlier
        What was kept of earlier cases; empty where there were none.
    """

    axis: int
    exam: tuple[int, ...]
    learned: tuple[int, ...]
    scores: tuple[Score, ...]
    tolerance: float
    earlier: tuple[Retained, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """The structures in the order of the model."""
        return tuple(dict.fromkeys(score.label for score in self.scores))

    def mean(
        self,
        when: Literal["before", "after"],
        metric: Literal["dice", "hd95", "nsd"] = "dice",
        *,
        label: str | None = None,
        slice_: int | None = None,
    ) -> float | None:
        """Return the mean over the applicable scores, or None when there is none."""
        values = [
            value
            for score in self.scores
            if label in (None, score.label) and slice_ in (None, score.slice)
            if (value := getattr(getattr(score, when), metric)) is not None
        ]
        return float(np.mean(values)) if values else None

    @property
    def n(self) -> int:
        """How many (structure, slice) pairs can be compared."""
        return sum(len(values) for values in self._differences().values())

    @cached_property
    def interval(self) -> Interval | None:
        """95 % bootstrap interval of the mean Dice difference, None below two slices.

        Slices are drawn with replacement, then structures within each slice, because
        structures of one slice are not independent. With fewer than five slices it is
        narrower than it should be.
        """
        return two_stage_interval(list(self._differences().values()))

    @property
    def verdict(self) -> Verdict:
        """Better or worse only when the interval excludes zero."""
        return _judged(self.interval)

    def of_label(self, label: str) -> LabelResult:
        """Return what may be said about one structure: by slices, as about all of them."""
        differences = [
            score.after.dice - score.before.dice
            for score in self.scores
            if score.label == label
            and score.before.dice is not None
            and score.after.dice is not None
        ]
        interval = mean_interval(differences)
        return LabelResult(label, len(differences), interval, _judged(interval))

    @property
    def sentence(self) -> str:
        """The verdict in words, with its numbers."""
        slices = _counted(len(self.exam), "exam slice")
        before, after = self.mean("before"), self.mean("after")
        if before is None or after is None:
            return f"Not enough data to judge: {slices} without any structure."
        numbers = f"mean Dice {before:.2f} → {after:.2f} on {slices}"
        if self.interval is None:
            return f"Not enough data to judge: {numbers}; correct a few more slices."
        words = {
            "better": "The new model is better",
            "worse": "The new model is worse",
            "no difference": "No difference can be shown",
        }[self.verdict]
        low, high = self.interval
        few = " Few slices: take it as a hint." if len(self.exam) < 5 else ""
        return f"{words}: {numbers} (change {low:+.2f} to {high:+.2f}, 95 %).{few}"

    @property
    def earlier_sentence(self) -> str:
        """What became of earlier cases, in words; empty where there were none."""
        if not self.earlier:
            return ""
        before, after = (
            float(np.mean([getattr(item, when) for item in self.earlier]))
            for when in ("before", "after")
        )
        return f"Earlier cases: mean Dice {before:.2f} → {after:.2f}."

    def _differences(self) -> dict[int, list[float]]:
        """Return Dice after minus before, by slice, for the pairs that can be compared."""
        groups: dict[int, list[float]] = {}
        for score in self.scores:
            if score.before.dice is not None and score.after.dice is not None:
                difference = score.after.dice - score.before.dice
                groups.setdefault(score.slice, []).append(difference)
        return groups

    def summary(self) -> dict[str, Any]:
        """Return the few figures that travel with a model."""
        return {
            "before": self.mean("before"),
            "after": self.mean("after"),
            "slices": len(self.exam),
            "verdict": self.verdict,
        }

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data, with the derived figures for people who read it."""
        return {
            **asdict(self),
            "n": self.n,
            "dice_before": self.mean("before"),
            "dice_after": self.mean("after"),
            "interval": self.interval,
            "verdict": self.verdict,
            "sentence": self.sentence,
            "earlier_sentence": self.earlier_sentence,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ExamReport:
        """Read what :meth:`to_json` wrote; derived figures are computed again.

        Raises
        ------
        JobError
            If an entry is missing or has the wrong form.
        """
        try:
            return cls(
                axis=int(data["axis"]),
                exam=tuple(data["exam"]),
                learned=tuple(data["learned"]),
                scores=tuple(_scores(data["scores"])),
                tolerance=float(data["tolerance"]),
                earlier=tuple(Retained(**item) for item in data.get("earlier", ())),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise JobError("The exam of this job is damaged.", detail=repr(error)) from error


def _judged(interval: Interval | None) -> Verdict:
    if interval is None:
        return "not enough data"
    low, high = interval
    if low > 0:
        return "better"
    return "worse" if high < 0 else "no difference"


def _scores(items: Iterable[Mapping[str, Any]]) -> Iterable[Score]:
    for item in items:
        yield Score(
            label=item["label"],
            slice=int(item["slice"]),
            before=Metrics(**item["before"]),
            after=Metrics(**item["after"]),
        )


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def write_report(path: Path, report: ExamReport) -> None:
    """Write a report as JSON."""
    write_text(path, json.dumps(report.to_json(), indent=1))


def read_report(path: Path) -> ExamReport:
    """Read a report written by :func:`write_report`.

    Raises
    ------
    JobError
        If the file is not there or is not a report.
    """
    try:
        return ExamReport.from_json(json.loads(Path(path).read_text()))
    except (OSError, ValueError) as error:
        raise JobError("There is no readable exam in this job.", detail=repr(error)) from error
