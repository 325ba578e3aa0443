"""Dice and cross-entropy over the trusted voxels, and over nothing else."""

from __future__ import annotations

import torch
from monai.losses import DiceLoss
from torch.nn import functional

__all__ = ["distance_to", "trusted_dice_ce"]

_dice = DiceLoss(include_background=False, squared_pred=False, batch=True, smooth_nr=1e-5)


def trusted_dice_ce(
    logits: torch.Tensor,
    labels: torch.Tensor,
    trusted: torch.Tensor,
    annotated: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return Dice loss plus cross-entropy where a person vouches for the labels.

    The gradient with respect to every untrusted voxel's logits is exactly zero: what
    nobody looked at is neither structure nor background. Classes that do not occur in
    the trusted part of the batch are left out of the Dice term, not driven to zero by it.

    A structure that a case does not annotate may hide in what that case calls background.
    Its probability counts as background there, so that it is neither learned nor
    unlearned (the marginal loss of Shi et al., Med. Image Anal. 2021).

    Parameters
    ----------
    logits
        (batch, class, z, y, x).
    labels
        (batch, z, y, x) class numbers.
    trusted
        (batch, z, y, x) bool.
    annotated
        (batch, class) bool: the classes that a sample's labels tell apart; all when None.
        The background, class 0, always counts as annotated.

    Returns
    -------
    torch.Tensor
        A scalar; zero, with zero gradient, when nothing is trusted.
    """
    if annotated is None:
        annotated = torch.ones(logits.shape[:2], dtype=torch.bool, device=logits.device)
    parts = [
        _hide(_chosen(sample, where), known)
        for sample, where, known in zip(logits, trusted, annotated, strict=True)
    ]
    values = torch.cat(parts, dim=1)[None]
    target = labels[trusted][None]
    if target.numel() == 0:
        return logits.sum() * 0
    entropy = functional.cross_entropy(values, target)
    hot = torch.zeros_like(values).scatter_(1, target[:, None], 1.0)
    present = hot.sum(dim=(0, 2)) > 0
    present[0] = True
    if not present[1:].any():
        return entropy
    dice: torch.Tensor = _dice(torch.softmax(values, dim=1)[:, present], hot[:, present])
    return entropy + dice


def distance_to(logits: torch.Tensor, teacher: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Return the mean Kullback-Leibler divergence from a teacher's answer.

    Learning without forgetting (Li & Hoiem, TPAMI 2018): where nobody corrected, the new
    network is held to what the old one said. Classes beyond the teacher's are new; what
    the teacher calls background may hide them, so they count as background.

    Parameters
    ----------
    logits
        (batch, class, z, y, x) of the network that learns.
    teacher
        (batch, class', z, y, x) logits of the old network, class' at most class.
    where
        (batch, z, y, x) bool.

    Returns
    -------
    torch.Tensor
        A scalar; zero, with zero gradient, where nothing is to be compared.
    """
    if not where.any():
        return logits.sum() * 0
    classes = teacher.shape[1]
    known = torch.arange(logits.shape[1], device=logits.device) < classes
    ours = torch.cat(
        [_hide(_chosen(sample, here), known) for sample, here in zip(logits, where, strict=True)],
        dim=1,
    )[:classes]
    theirs = torch.cat(
        [_chosen(sample, here) for sample, here in zip(teacher, where, strict=True)], dim=1
    )
    return functional.kl_div(
        torch.log_softmax(ours, dim=0).T,
        torch.log_softmax(theirs, dim=0).T,
        reduction="batchmean",
        log_target=True,
    )


def _chosen(sample: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Return (class, n) float32 logits of the voxels `where` of one sample.

    Picking by index keeps the rest of the step from touching untrusted voxels at all: a
    handful of slices is a twentieth of a patch.
    """
    index = where.flatten().nonzero()[:, 0]
    return sample.flatten(1).index_select(1, index).float()


def _hide(values: torch.Tensor, annotated: torch.Tensor) -> torch.Tensor:
    """Count the classes that are not annotated as background, in (class, n) logits."""
    if annotated[1:].all():
        return values
    absent = ~annotated
    absent[0] = False
    background = torch.logsumexp(torch.cat([values[:1], values[absent]]), dim=0)
    kept = values.masked_fill(absent[:, None], -torch.inf)
    return torch.cat([background[None], kept[1:]])
