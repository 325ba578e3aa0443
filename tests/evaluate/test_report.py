"""A verdict is earned: it needs two slices and an interval on one side of zero."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_dante.errors import JobError
from napari_dante.evaluate.exam import examine
from napari_dante.evaluate.interval import mean_interval, two_stage_interval
from napari_dante.evaluate.report import (
    ExamReport,
    Metrics,
    Score,
    read_report,
    write_report,
)
from napari_dante.evaluate.split import Split


def report(changes: dict[int, list[float | None]], before: float = 0.5) -> ExamReport:
    scores = [
        Score(
            f"label {index}",
            slice_,
            Metrics(before, 3.0, 0.5) if change is not None else Metrics(None, None, None),
            Metrics(before + change, 2.0, 0.6) if change is not None else Metrics(None, None, None),
        )
        for slice_, row in changes.items()
        for index, change in enumerate(row)
    ]
    return ExamReport(0, tuple(changes), (1, 2), tuple(scores), 2.0)


@settings(max_examples=25, deadline=None)
@given(
    st.dictionaries(
        st.integers(0, 50),
        st.lists(st.none() | st.floats(-0.5, 0.5), min_size=2, max_size=2),
        min_size=1,
        max_size=6,
    )
)
def test_verdict_follows_the_interval(changes: dict[int, list[float | None]]) -> None:
    found = report(changes)
    usable = [row for row in changes.values() if any(change is not None for change in row)]
    values = [change for row in usable for change in row if change is not None]
    assert found.n == len(values)
    if len(usable) < 2:
        assert found.verdict == "not enough data"
        assert found.interval is None
    else:
        assert found.interval is not None
        low, high = found.interval
        assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
        expected = "better" if low > 0 else "worse" if high < 0 else "no difference"
        assert found.verdict == expected
    assert "nan" not in found.sentence
    assert ExamReport.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_a_structure_is_judged_by_itself() -> None:
    found = report({4: [0.4, -0.2], 5: [0.3, -0.1], 6: [0.2, None]})
    good, bad = found.of_label("label 0"), found.of_label("label 1")
    assert (good.n, good.verdict) == (3, "better")
    assert (bad.n, bad.verdict) == (2, "worse")
    assert good.interval is not None
    assert 0.2 - 1e-9 <= good.interval[0] < 0.3 < good.interval[1] <= 0.4 + 1e-9
    single = report({4: [0.4]}).of_label("label 0")
    assert (single.n, single.interval, single.verdict) == (1, None, "not enough data")


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=2, max_size=8))
def test_groups_of_one_are_independent_values(values: list[float]) -> None:
    """Both bootstraps are the same there, but for the numbers that are drawn."""
    plain, staged = mean_interval(values), two_stage_interval([[value] for value in values])
    assert plain is not None
    assert staged is not None
    spread = max(values) - min(values)
    assert plain == pytest.approx(staged, abs=0.25 * spread + 1e-9)


def test_one_good_slice_is_not_enough() -> None:
    found = report({4: [0.4, 0.4]})
    assert found.verdict == "not enough data"
    assert found.sentence.startswith("Not enough data")


def test_consistent_gains_and_losses_are_called_by_name() -> None:
    assert report({4: [0.4, 0.3], 5: [0.2, 0.3]}).verdict == "better"
    assert report({4: [-0.4, -0.3], 5: [-0.2, -0.3]}).verdict == "worse"
    assert report({4: [0.4, -0.3], 5: [-0.2, 0.3]}).verdict == "no difference"


def test_file_round_trip(tmp_path: Path) -> None:
    found = report({4: [0.4, None], 5: [0.2, 0.3]})
    write_report(tmp_path / "exam.json", found)
    assert read_report(tmp_path / "exam.json") == found
    (tmp_path / "exam.json").write_text("{}")
    with pytest.raises(JobError):
        read_report(tmp_path / "exam.json")


def test_the_exam_looks_at_its_slices_only() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 3, (6, 9, 8)).astype(np.uint8)
    before = np.zeros_like(truth)
    after = truth.copy()
    after[[0, 1, 4, 5]] = 0
    found = examine(
        before,
        after,
        truth,
        names={1: "one", 2: "two"},
        spacing=(5.0, 1.0, 1.0),
        axis=0,
        split=Split((0,), (2, 3), (1,)),
    )
    assert {score.slice for score in found.scores} == {2, 3}
    assert found.mean("before") == 0
    assert found.mean("after") == 1
    assert found.mean("after", "hd95") == 0
    assert found.mean("before", "hd95") == pytest.approx(np.hypot(9, 8))
    assert found.verdict == "better"
