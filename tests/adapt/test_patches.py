"""Samples by number."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_dante.adapt.patches import Grid, PatchSampler


def grid(value: float, annotated: tuple[bool, ...] | None = None) -> Grid:
    shape = (12, 12, 12)
    labels = np.zeros(shape, np.uint8)
    labels[4:8] = 1
    return Grid(np.full(shape, value, np.float32), labels, np.ones(shape, bool), annotated)


@settings(max_examples=30, deadline=None)
@given(share=st.floats(0, 0.95), first=st.integers(0, 500))
def test_earlier_cases_come_with_their_share_in_every_stretch(share: float, first: int) -> None:
    sampler = PatchSampler([grid(0.0)], (4, 4, 4), "none", 0, [grid(1.0), grid(2.0)], share)
    drawn = [sampler.draw(number) for number in range(first, first + 40)]
    assert abs(sum(sample.earlier for sample in drawn) - 40 * share) <= 1 + 1e-6
    assert all(sample.earlier == bool(sample.image.max() > 0) for sample in drawn)


def test_without_earlier_cases_the_share_means_nothing() -> None:
    plain = PatchSampler([grid(0.0), grid(1.0)], (4, 4, 4), "mild", 0)
    shared = PatchSampler([grid(0.0), grid(1.0)], (4, 4, 4), "mild", 0, (), 0.5)
    for number in range(5):
        assert torch.equal(plain.draw(number).image, shared.draw(number).image)


@pytest.mark.parametrize("annotated", [None, (True, False)])
def test_a_sample_says_what_its_case_annotates(annotated: tuple[bool, ...] | None) -> None:
    sample = PatchSampler([grid(0.0, annotated)], (4, 4, 4), "none", 0).draw(0)
    found = None if sample.annotated is None else tuple(sample.annotated.tolist())
    assert found == annotated
