"""What nobody looked at teaches nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_dante.adapt.loss import distance_to, trusted_dice_ce


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), share=st.floats(0, 1))
def test_gradient_is_zero_outside_trusted_voxels(seed: int, share: float) -> None:
    torch.manual_seed(seed)
    logits = torch.randn(2, 3, 4, 5, 6, requires_grad=True)
    labels = torch.randint(0, 3, (2, 4, 5, 6))
    trusted = torch.rand(2, 4, 5, 6) < share
    loss = trusted_dice_ce(logits, labels, trusted)
    loss.backward()
    assert logits.grad is not None
    untrusted = ~trusted[:, None].expand_as(logits)
    assert torch.equal(logits.grad[untrusted], torch.zeros(int(untrusted.sum())))
    if trusted.any():
        assert logits.grad.abs().sum() > 0


def test_labels_outside_trusted_voxels_do_not_matter() -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 3, 4, 4, 4)
    labels = torch.randint(0, 3, (1, 4, 4, 4))
    trusted = torch.zeros(1, 4, 4, 4, dtype=torch.bool)
    trusted[:, 1] = True
    other = torch.where(trusted, labels, (labels + 1) % 3)
    first, second = (trusted_dice_ce(logits, target, trusted) for target in (labels, other))
    assert torch.equal(first, second)


def test_a_right_answer_costs_less_than_a_wrong_one() -> None:
    labels = torch.randint(0, 3, (1, 4, 4, 4))
    trusted = torch.ones(1, 4, 4, 4, dtype=torch.bool)
    right = torch.nn.functional.one_hot(labels, 3).movedim(-1, 1) * 20.0
    wrong = right.roll(1, dims=1)
    assert trusted_dice_ce(right, labels, trusted) < 0.01 < trusted_dice_ce(wrong, labels, trusted)


def test_an_absent_structure_adds_no_dice_term() -> None:
    labels = torch.ones(1, 4, 4, 4, dtype=torch.long)
    trusted = torch.ones_like(labels, dtype=torch.bool)
    logits = torch.nn.functional.one_hot(labels, 3).movedim(-1, 1) * 20.0
    assert trusted_dice_ce(logits, labels, trusted) < 0.01


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), annotated=st.lists(st.booleans(), min_size=3, max_size=3))
def test_a_structure_that_is_not_annotated_is_neither_learned_nor_unlearned(
    seed: int, annotated: list[bool]
) -> None:
    """The odds between the background and what may hide in it stay as they were."""
    torch.manual_seed(seed)
    logits = torch.randn(1, 4, 3, 4, 5, requires_grad=True)
    known = torch.tensor([[True, *annotated]])
    labels = torch.randint(0, 4, (1, 3, 4, 5))
    labels[~known[0][labels]] = 0
    trusted_dice_ce(logits, labels, torch.ones_like(labels, dtype=torch.bool), known).backward()
    assert logits.grad is not None
    hidden = [0, *(index for index in range(1, 4) if not known[0, index])]
    gradient, share = logits.grad[:, hidden], torch.softmax(logits[:, hidden], dim=1)
    together = gradient.sum(dim=1, keepdim=True)
    assert torch.allclose(gradient, together * share, atol=1e-6)


def test_everything_annotated_is_the_plain_loss() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 3, 4, 4, 4), torch.randint(0, 3, (2, 4, 4, 4))
    trusted = torch.rand(2, 4, 4, 4) < 0.5
    everything = torch.ones(2, 3, dtype=torch.bool)
    assert torch.equal(
        trusted_dice_ce(logits, labels, trusted),
        trusted_dice_ce(logits, labels, trusted, everything),
    )


@pytest.mark.parametrize("classes", [3, 5])
def test_the_distance_to_the_teacher(classes: int) -> None:
    """Zero for the same answer, new classes hidden in the background; else it pulls there."""
    torch.manual_seed(0)
    teacher = torch.randn(2, 3, 4, 4, 4)
    new = torch.full((2, classes - 3, 4, 4, 4), -torch.inf)
    where = torch.zeros(2, 4, 4, 4, dtype=torch.bool)
    where[:, 1] = True
    assert distance_to(torch.cat([teacher, new], 1), teacher, where).abs() < 1e-6
    other = torch.randn(2, classes, 4, 4, 4, requires_grad=True)
    distance = distance_to(other, teacher, where)
    distance.backward()
    assert distance > 0.01
    assert other.grad is not None
    assert other.grad[:, :, 1].abs().sum() > 0
    other.grad[:, :, 1] = 0
    assert torch.equal(other.grad, torch.zeros_like(other.grad))


def test_without_untrusted_voxels_the_teacher_says_nothing() -> None:
    nowhere = torch.zeros(1, 2, 2, 2, dtype=torch.bool)
    assert distance_to(torch.ones(1, 2, 2, 2, 2), torch.zeros(1, 2, 2, 2, 2), nowhere) == 0
