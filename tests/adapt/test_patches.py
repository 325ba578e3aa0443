"""Samples by number."""

from __future__ import annotations

import numpy as np
import pytest

from napari_dante.adapt.patches import Grid, PatchSampler


def grid(value: float, annotated: tuple[bool, ...] | None = None) -> Grid:
    shape = (12, 12, 12)
    labels = np.zeros(shape, np.uint8)
    labels[4:8] = 1
    return Grid(np.full(shape, value, np.float32), labels, np.ones(shape, bool), annotated)


@pytest.mark.parametrize("earlier", [False, True])
def test_a_sample_says_whether_its_case_is_an_earlier_one(earlier: bool) -> None:
    sampler = PatchSampler([grid(0.0)], (4, 4, 4), "none", 0, earlier=earlier)
    assert sampler.draw(3).earlier is earlier


@pytest.mark.parametrize("annotated", [None, (True, False)])
def test_a_sample_says_what_its_case_annotates(annotated: tuple[bool, ...] | None) -> None:
    sample = PatchSampler([grid(0.0, annotated)], (4, 4, 4), "none", 0).draw(0)
    found = None if sample.annotated is None else tuple(sample.annotated.tolist())
    assert found == annotated
