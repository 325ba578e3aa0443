"""What nobody looked at teaches nothing."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_dante.adapt.loss import trusted_dice_ce


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
