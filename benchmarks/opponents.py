"""LoRA as Dante describes it, to be measured against: two convolutions for each layer.

Written from the description: a pair of factors of rank r for every kernel tap, the update
built from them at every pass, and a second convolution with it beside the frozen one.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

__all__ = ["TwoPassLoRA", "wrap_two_pass"]


class TwoPassLoRA(nn.Module):
    r"""conv(x, W) + conv(x, ΔW), with ΔW[:, :, t] = (α/r)·A[t] B[t] for each tap t.

    Parameters
    ----------
    base
        The frozen layer, with zero padding.
    rank, alpha
        r and α.

    Attributes
    ----------
    a, b
        Factors (z, y, x, out, r), uniform at the start, and (z, y, x, r, in), zero.
    """

    def __init__(self, base: nn.Conv3d | nn.ConvTranspose3d, rank: int, alpha: float) -> None:
        super().__init__()
        self.base = base.requires_grad_(requires_grad=False)
        kernel = base.kernel_size
        self.a = nn.Parameter(torch.empty(*kernel, base.out_channels, rank))
        self.b = nn.Parameter(torch.zeros(*kernel, rank, base.in_channels // base.groups))
        nn.init.kaiming_uniform_(self.a, a=5**0.5)
        self.scale = alpha / rank

    def update(self) -> torch.Tensor:
        """Return ΔW, shaped like the weight of the base layer."""
        product = self.scale * (self.a @ self.b)
        if isinstance(self.base, nn.ConvTranspose3d):
            return product.permute(4, 3, 0, 1, 2)
        return product.permute(3, 4, 0, 1, 2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the sum of both passes; `image` is (batch, channel, z, y, x)."""
        base = self.base
        plain: torch.Tensor = base(image)
        if isinstance(base, nn.ConvTranspose3d):
            return plain + functional.conv_transpose3d(
                image,
                self.update(),
                stride=base.stride,
                padding=base.padding,  # type: ignore[arg-type]
                output_padding=base.output_padding,
                dilation=base.dilation,
            )
        return plain + functional.conv3d(
            image,
            self.update(),
            stride=base.stride,
            padding=base.padding,
            dilation=base.dilation,
            groups=base.groups,
        )


def wrap_two_pass(network: nn.Module, rank: int, alpha: float) -> list[TwoPassLoRA]:
    """Wrap every 3D convolution of `network` in place and freeze everything else."""
    network.requires_grad_(requires_grad=False)
    wrapped = []
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv3d | nn.ConvTranspose3d):
                layer = TwoPassLoRA(child, rank, alpha)
                setattr(parent, name, layer)
                wrapped.append(layer)
    return wrapped
