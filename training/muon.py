"""Muon: steps of equal size in every direction of a convolution's kernel.

Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024): the
momentum of a weight matrix is replaced by the nearest semi-orthogonal one, by five
Newton–Schulz iterations. torch has it for matrices alone; here a kernel is the matrix
(first axis, all others). The step is scaled as in Liu et al. (arXiv:2502.16982), so that a
rate means what it means to AdamW.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

__all__ = ["Muon", "orthogonal"]

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """Return about ``u @ vᵀ`` of a (rows, columns) matrix with singular vectors `u`, `v`.

    The singular values of the answer lie between about 0.7 and 1.2.
    """
    tall = len(matrix) > matrix.shape[1]
    found: torch.Tensor = (matrix.T if tall else matrix) / (matrix.norm() + 1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = found @ found.T
        found = a * found + (b * gram + c * (gram @ gram)) @ found
    return found.T if tall else found


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal kernel by kernel.

    Parameters
    ----------
    parameters
        Kernels, two or more axes each.
    lr
        The rate; weights shrink by ``lr * decay`` in each step.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        decay: float = 1e-4,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step along the gradients that are there."""
        for group in self.param_groups:
            for weight in group["params"]:
                self._one(weight, group["lr"], group["momentum"], group["decay"])

    def _one(self, weight: nn.Parameter, rate: float, momentum: float, decay: float) -> None:
        assert weight.grad is not None
        state = self.state[weight]
        mean = state.setdefault("momentum", torch.zeros_like(weight))
        mean.lerp_(weight.grad, 1 - momentum)
        matrix = weight.grad.lerp(mean, momentum).flatten(1)
        scale = 0.2 * max(matrix.shape) ** 0.5
        weight.mul_(1 - rate * decay)
        weight.add_(orthogonal(matrix).view_as(weight), alpha=-rate * scale)
