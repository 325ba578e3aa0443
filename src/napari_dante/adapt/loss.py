"""Dice and cross-entropy over the trusted voxels, and over nothing else."""

from __future__ import annotations

import torch
from monai.losses import DiceLoss
from torch.nn import functional

__all__ = ["trusted_dice_ce"]

_dice = DiceLoss(include_background=False, squared_pred=False, batch=True, smooth_nr=1e-5)


def trusted_dice_ce(
    logits: torch.Tensor, labels: torch.Tensor, trusted: torch.Tensor
) -> torch.Tensor:
    """Return Dice loss plus cross-entropy where a person vouches for the labels.

    The gradient with respect to every untrusted voxel's logits is exactly zero: what
    nobody looked at is neither structure nor background. Classes that do not occur in
    the trusted part of the batch are left out of the Dice term, not driven to zero by it.

    Parameters
    ----------
    logits
        (batch, class, z, y, x).
    labels
        (batch, z, y, x) class numbers.
    trusted
        (batch, z, y, x) bool.

    Returns
    -------
    torch.Tensor
        A scalar; zero, with zero gradient, when nothing is trusted.
    """
    logits = logits.float()
    entropy = functional.cross_entropy(logits, labels, reduction="none")
    entropy = (entropy * trusted).sum() / trusted.sum().clamp(min=1)
    mask = trusted[:, None]
    hot = functional.one_hot(labels, logits.shape[1]).movedim(-1, 1) * mask
    present = hot.sum(dim=(0, 2, 3, 4)) > 0
    present[0] = True
    if not present[1:].any():
        return entropy
    dice: torch.Tensor = _dice((torch.softmax(logits, dim=1) * mask)[:, present], hot[:, present])
    return entropy + dice
