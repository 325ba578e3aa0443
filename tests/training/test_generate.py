"""What is painted can be learned from, is the same every time, and invents nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from training.anatomy import STRUCTURES, TISSUES, Head, structure_of, tissue_of
from training.generate import Generator

EDGE = 16
numbers = st.integers(0, 2**40)
relaxed = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def painter(head: Head, seed: int = 1) -> Generator:
    return Generator([head], EDGE, 2.0, seed)


def pictured(head: Head) -> Head:
    """The same head with a real image: its classes, as brightness."""
    return replace(head, image=(head.classes / 40).astype(np.float32))


@relaxed
@given(numbers)
def test_the_number_decides_and_nothing_else(head: Head, number: int) -> None:
    first, second = painter(head), painter(head)
    second.draw(number + 1)
    one, two = first.draw(number), second.draw(number)
    assert torch.equal(one.image, two.image)
    assert torch.equal(one.structures, two.structures)
    assert torch.equal(one.tissues, two.tissues)
    other = painter(head, seed=2).draw(number)
    assert not torch.equal(one.image, other.image)


@relaxed
@given(numbers, st.booleans())
def test_shares_sum_to_one_and_hold_only_what_the_head_has(
    head: Head, number: int, real: bool
) -> None:
    sample = painter(pictured(head) if real else head).draw(number)
    present = np.unique(head.classes)
    for shares, count, table in (
        (sample.structures, len(STRUCTURES) + 1, structure_of()),
        (sample.tissues, len(TISSUES) + 1, tissue_of()),
    ):
        assert shares.shape == (count, EDGE, EDGE, EDGE)
        assert torch.allclose(shares.sum(dim=0), torch.ones(EDGE, EDGE, EDGE))
        shown = set(shares.flatten(1).any(dim=1).nonzero()[:, 0].tolist())
        assert shown <= {0, *np.unique(table[present]).tolist()}


@relaxed
@given(numbers, st.booleans())
def test_an_image_is_finite_and_scaled(head: Head, number: int, real: bool) -> None:
    image = painter(pictured(head) if real else head).draw(number).image
    assert image.shape == (1, EDGE, EDGE, EDGE)
    assert image.dtype == torch.float32
    assert torch.isfinite(image).all()
    assert image.max() < 20


def test_what_is_painted_shows_what_is_to_be_learned(head: Head) -> None:
    """White matter and cortex differ in brightness in most of the contrasts."""
    painted = painter(head)
    apart = 0
    for number in range(40):
        sample = painted.draw(number)
        white, grey = (sample.structures[k] > 0.9 for k in (1, 2))
        if white.sum() < 20 or grey.sum() < 20:
            continue
        first, second = sample.image[0][white], sample.image[0][grey]
        apart += bool((first.mean() - second.mean()).abs() > 0.5 * first.std())
    assert apart >= 15


def test_some_samples_show_no_head_and_most_do(head: Head) -> None:
    painted = painter(head)
    empty = [not painted.draw(number).tissues[1:].any() for number in range(150)]
    assert 2 <= sum(empty) <= 30


def test_own_tissues_of_a_real_image_are_taken(head: Head) -> None:
    """With nothing but CSF in them, no grey or white matter is to be learned there."""
    only_fluid = replace(pictured(head), tissues=np.ones_like(head.classes))
    painted = painter(only_fluid)
    kinds = [painted.draw(number).tissues.flatten(1).any(dim=1).tolist() for number in range(30)]
    real = [kind for kind in kinds if not (kind[2] or kind[3])]
    assert 1 <= len(real) <= 20


@pytest.mark.parametrize("batch", [1, 3])
def test_a_batch_is_its_samples(head: Head, batch: int) -> None:
    painted = painter(head)
    found = painted.batch(range(7, 7 + batch))
    for place, number in enumerate(range(7, 7 + batch)):
        assert torch.equal(found.image[place], painted.draw(number).image)
        assert torch.equal(found.tissues[place], painted.draw(number).tissues)
