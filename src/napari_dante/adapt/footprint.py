"""What a training step of a network takes, before the network is built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psutil
import torch
from torch.autograd.graph import saved_tensors_hooks

from napari_dante.model.network import build_network
from napari_dante.model.spec import ArchitectureSpec

__all__ = ["Footprint", "footprint", "step_memory"]

MIB = 2**20
WORKSPACE = 128 * MIB
"""What convolutions need besides, however small they are."""
CPU_STEP = 512 * MIB
GPU_STEP = 8 * 1024 * MIB


@dataclass(frozen=True)
class Footprint:
    """Bytes that a training step takes: for each of its patches, and besides."""

    patch: int
    fixed: int

    def step(self, batch: int) -> int:
        """Return the bytes of a step on `batch` patches."""
        return self.fixed + batch * self.patch


def footprint(spec: ArchitectureSpec) -> Footprint:
    """Estimate the memory of a training step.

    For each patch twice what the backward pass keeps in float32; besides four numbers for
    each weight (itself, its gradient, the two moments of Adam) and a fixed work space.
    What is kept is not estimated but counted, on PyTorch's ``meta`` device, which computes
    shapes only. The factor of two stands for gradients on their way and the work space of
    convolutions; over five U-Nets, ``DynUNet`` and ``SegResNet`` the peak that the system
    reported was 0.55 to 1.0 of the estimate.
    """
    with torch.device("meta"):
        network = build_network(spec)
        patch = torch.empty(1, spec.in_channels, *spec.patch)
    weights = sum(parameter.numel() for parameter in network.parameters())
    kept = sum(storage.nbytes() for storage in _kept(network, patch))
    return Footprint(patch=2 * kept, fixed=4 * 4 * weights + WORKSPACE)


def _kept(network: torch.nn.Module, patch: torch.Tensor) -> list[torch.UntypedStorage]:
    """Return the memory that a forward pass keeps for the backward pass, each piece once."""
    own = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
    found: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            found[storage._cdata] = storage
        return tensor

    def give(tensor: Any) -> Any:  # noqa: ANN401
        return tensor

    with saved_tensors_hooks(keep, give):
        network(patch)
    return list(found.values())


def step_memory(device: torch.device) -> int:
    """Return the bytes that a training step may take on `device` when nobody says.

    A graphics card: 70 % of what is free, at most 8 GiB, for which nnU-Net plans (Isensee
    et al. 2021). A processor: half of what is free, at most 512 MiB, because its time ends
    long before its memory. The time of a step is proportional to what it keeps: on one
    core with bfloat16 3.0 to 3.5 s for each GB in all of five networks of different depth
    and width, so 512 MiB is about half a second.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return min(int(0.7 * free), GPU_STEP)
    free = int(psutil.virtual_memory().available)
    return min(free // 2, CPU_STEP)
