"""A network whose frozen beginning remembers what it makes of a patch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

__all__ = ["LIMIT", "RememberedPrefix"]

LIMIT = 1024**3
"""Bytes that are remembered; what goes beyond is computed each time."""


class RememberedPrefix:
    """A network that runs the blocks of its frozen beginning once for each patch.

    A block is remembered as long as all its weights are frozen. That is the same
    function: gradual unfreezing never closes what has been open, and what comes before a
    frozen block is frozen too.

    Parameters
    ----------
    network
        In its training mode; its layers must treat the patches of a batch apart, as all do
        but batch normalisation that gathers statistics.
    limit
        Bytes.
    """

    def __init__(self, network: nn.Module, limit: int = LIMIT) -> None:
        self._network = network
        self._left = limit
        self._made: dict[nn.Module, dict[bytes, torch.Tensor]] = {}

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits (batch, class, z, y, x) of patches (batch, 1, z, y, x)."""
        keys = [_key(image) for image in images]
        blocks = _frozen(self._network)
        for block in self._made.keys() - set(blocks):
            self._left += sum(made.nbytes for made in self._made.pop(block).values())
        with ExitStack() as stack:
            for block in blocks:
                stack.enter_context(self._remembering(block, keys))
            logits: torch.Tensor = self._network(images)
        return logits

    @contextmanager
    def _remembering(self, block: nn.Module, keys: list[bytes]) -> Iterator[None]:
        """Let `block` answer from memory for the patches `keys` while inside."""
        made = self._made.setdefault(block, {})
        compute = block.forward

        def forward(*inputs: torch.Tensor, **options: Any) -> torch.Tensor:  # noqa: ANN401
            if all(key in made for key in keys):
                return torch.stack([made[key] for key in keys])
            outputs: torch.Tensor = compute(*inputs, **options)
            for key, output in zip(keys, outputs, strict=True):
                if key not in made and output.nbytes <= self._left:
                    self._left -= output.nbytes
                    made[key] = output.detach().clone()
            return outputs

        vars(block)["forward"] = forward
        try:
            yield
        finally:
            del vars(block)["forward"]


def _frozen(network: nn.Module) -> list[nn.Module]:
    """Return the largest blocks of which every weight is frozen, each once."""
    blocks = list(dict.fromkeys(_closed(network)))
    within = {part for block in blocks for part in block.modules() if part is not block}
    return [block for block in blocks if block not in within]


def _closed(module: nn.Module) -> Iterator[nn.Module]:
    parameters = list(module.parameters())
    opened = any(parameter.requires_grad for parameter in parameters)
    if parameters and not opened and not isinstance(module, nn.ModuleList):
        yield module
        return
    for child in module.children():
        yield from _closed(child)


def _key(image: torch.Tensor) -> bytes:
    return hashlib.sha256(image.cpu().contiguous().numpy().tobytes()).digest()
