"""A two-dimensional network that takes volumes.

The text of this module is also what a generated Dafne ``init`` function carries, so it
needs nothing but torch.
"""

import torch
from torch import nn

__all__ = ["SliceNetwork"]


class SliceNetwork(nn.Module):
    """A two-dimensional network that sees the slices of a window one by one.

    The slices become samples of one batch, so a window may hold any number of them. In
    the state dict the network's own keys stand behind ``plane.``.

    Parameters
    ----------
    plane
        From (batch, channel, height, width) to (batch, class, height, width).
    axis
        The axis of (z, y, x) that the slices are stacked along.
    """

    def __init__(self, plane: nn.Module, axis: int) -> None:
        super().__init__()
        self.plane = plane
        self.axis = axis

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, class, z, y, x) of windows (batch, channel, z, y, x)."""
        stacked = windows.movedim(self.axis + 2, 1)
        logits: torch.Tensor = self.plane(stacked.flatten(0, 1))
        return logits.reshape(*stacked.shape[:2], *logits.shape[1:]).movedim(1, self.axis + 2)
