"""The comparison is fair: both ways to compute LoRA are the same function."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from benchmarks.opponents import TwoPassLoRA, wrap_two_pass
from monai.networks import nets
from torch import nn
from torch.nn.utils import parametrize

from napari_dante.adapt.lora import PerTapUpdate

Layer = nn.Conv3d | nn.ConvTranspose3d
LAYERS: dict[str, Callable[[], Layer]] = {
    "same": lambda: nn.Conv3d(4, 6, 3, padding=1),
    "strided": lambda: nn.Conv3d(4, 6, 3, stride=2, padding=1),
    "dilated": lambda: nn.Conv3d(4, 6, 3, dilation=2, bias=False),
    "one": lambda: nn.Conv3d(4, 6, 1),
    "uneven": lambda: nn.Conv3d(4, 6, (1, 3, 5)),
    "up": lambda: nn.ConvTranspose3d(4, 6, 3, stride=2, padding=1, output_padding=1),
}


def per_tap(layer: TwoPassLoRA) -> tuple[nn.Module, PerTapUpdate]:
    """Return our adapted layer with the factors of a two-pass layer."""
    base = copy.deepcopy(layer.base)
    rank = layer.a.shape[-1]
    update = PerTapUpdate(base.weight, rank, layer.scale)
    a, b = layer.a.detach().flatten(0, 2), layer.b.detach().flatten(0, 2)
    up, down = (b.mT, a.mT) if isinstance(base, nn.ConvTranspose3d) else (a, b)
    with torch.no_grad():
        update.up.copy_(up)
        update.down.copy_(down)
    parametrize.register_parametrization(base, "weight", update)
    return base, update


def factor_gradients(update: PerTapUpdate, base: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the gradients of our factors in the order of a two-pass layer."""
    up, down = update.up.grad, update.down.grad
    assert up is not None
    assert down is not None
    return (down.mT, up.mT) if isinstance(base, nn.ConvTranspose3d) else (up, down)


def assert_close(ours: torch.Tensor | None, theirs: torch.Tensor | None) -> None:
    assert ours is not None
    assert theirs is not None
    ours, theirs = ours.detach(), theirs.detach().reshape(ours.shape)
    assert theirs.any()
    torch.testing.assert_close(
        ours, theirs, rtol=0, atol=1e-5 * max(1.0, float(theirs.abs().max()))
    )


@pytest.mark.parametrize("kind", LAYERS)
def test_two_pass_layer_is_our_per_tap_layer(kind: str) -> None:
    torch.manual_seed(3)
    theirs = TwoPassLoRA(LAYERS[kind](), rank=2, alpha=4.0)
    nn.init.normal_(theirs.b)
    ours, update = per_tap(theirs)
    image = torch.randn(2, 4, 9, 9, 9)
    images = [image.clone().requires_grad_() for _ in range(2)]
    outputs = [layer(one) for layer, one in zip((ours, theirs), images, strict=True)]
    assert_close(*outputs)
    direction = torch.randn_like(outputs[0])
    for output in outputs:
        (output * direction).sum().backward()
    assert_close(images[0].grad, images[1].grad)
    for mine, factor in zip(factor_gradients(update, ours), (theirs.a, theirs.b), strict=True):
        assert_close(mine, factor.grad)


def test_two_pass_network_is_our_per_tap_network() -> None:
    torch.manual_seed(4)
    theirs = nets.UNet(3, 1, 4, channels=(8, 16, 32), strides=(2, 2), num_res_units=2)
    convolutions = sum(isinstance(m, nn.Conv3d | nn.ConvTranspose3d) for m in theirs.modules())
    plain = copy.deepcopy(theirs)
    image = torch.randn(1, 1, 16, 16, 16)
    wrapped = wrap_two_pass(theirs, rank=2, alpha=4.0)
    assert len(wrapped) == convolutions
    trained = {id(p) for p in theirs.parameters() if p.requires_grad}
    assert trained == {id(factor) for layer in wrapped for factor in (layer.a, layer.b)}
    with torch.no_grad():
        assert torch.equal(theirs(image), plain(image)), "an update of zero changes something"
    for layer in wrapped:
        nn.init.normal_(layer.b, std=0.1)
    ours = copy.deepcopy(theirs)
    pairs = []
    for parent in list(ours.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, TwoPassLoRA):
                pairs.append(per_tap(child))
                setattr(parent, name, pairs[-1][0])
    outputs = ours(image), theirs(image)
    assert_close(*outputs)
    for output in outputs:
        output.square().mean().backward()
    for (adapted, update), other in zip(pairs, wrapped, strict=True):
        for mine, factor in zip(factor_gradients(update, adapted), (other.a, other.b), strict=True):
            assert_close(mine, factor.grad)
