"""Models that Dante has trained, opened from their description without their code.

Dante (dafne-torch-trainer) writes what its network is into ``metadata["net_metadata"]``:
a MONAI ``UNet`` or ``DynUNet`` inside a module of its own, for arrays in the axes
(Z, X, Y) of a Dafne volume. A convolution does not mind its axes being exchanged if its
kernels, strides and patch are, so the weights are turned into our order once, here. What
runs the other way round is not a matter of weights, and is flipped in the image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from napari_dante.errors import ModelError
from napari_dante.model.spec import ArchitectureSpec, further_labels

__all__ = ["DanteLayout", "dante_layout", "dante_spec"]

_RUNS = {"": "IRP", "a": "IRP", "t": "IRP", "s": "RPS", "c": "PRI"}
"""Where the axes (Z, X, Y) run to, by the first letter of a model's orientation. Without
one Dafne takes a volume as it was loaded; that is taken for axial here."""

_DISPLAY = {"S": 0, "I": 0, "P": 1, "A": 1, "L": 2, "R": 2}
_UNET_PATCH = {3: (32, 96, 96), 2: (256, 256)}
_CHANNELS = 32


@dataclass(frozen=True)
class DanteLayout:
    """How the weights of one Dante model differ from ours.

    Attributes
    ----------
    theirs, ours
        What a key begins with.
    order
        For each axis of (z, y, x), or of the plane, which axis of Dante's network it is.
    """

    theirs: str
    ours: str
    order: tuple[int, ...]

    def to_ours(self, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return Dante's weights as ours.

        Raises
        ------
        ModelError
            If a key is not one of Dante's.
        """
        return self._moved(weights, self.theirs, self.ours, self.order)

    def to_theirs(self, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return our weights as Dante's.

        Raises
        ------
        ModelError
            If a key is not one of ours.
        """
        back = tuple(self.order.index(axis) for axis in range(len(self.order)))
        return self._moved(weights, self.ours, self.theirs, back)

    def _moved(
        self, weights: Mapping[str, torch.Tensor], old: str, new: str, order: Sequence[int]
    ) -> dict[str, torch.Tensor]:
        moved = {}
        for key, value in weights.items():
            if not key.startswith(old):
                raise ModelError(
                    "The weights do not belong to the network that this model file describes.",
                    detail=key[:80],
                )
            is_kernel = value.ndim == 2 + len(order)
            axes = (0, 1, *(axis + 2 for axis in order))
            turned = value.permute(axes).contiguous() if is_kernel else value
            moved[new + key.removeprefix(old)] = turned
        return moved


def dante_layout(metadata: Mapping[str, Any]) -> DanteLayout | None:
    """Return how a model's weights are laid out, None where Dante has not made it."""
    net = metadata.get("net_metadata")
    if not isinstance(net, dict):
        return None
    dimensions, axes = _dimensions(net), _axes(metadata)
    theirs = "dyn_unet." if net.get("use_dynamic") else "unet_model."
    seen = axes if dimensions == 3 else axes[1:]
    order = tuple(sorted(range(len(seen)), key=lambda axis: seen[axis]))
    return DanteLayout(theirs, "" if dimensions == 3 else "plane.", order)


def dante_spec(metadata: Mapping[str, Any]) -> ArchitectureSpec:
    """Return the architecture that a Dante model's metadata describes.

    Raises
    ------
    ModelError
        If the description is incomplete or of something that Dante does not make.
    """
    layout = dante_layout(metadata)
    try:
        if layout is None:
            raise KeyError("net_metadata")
        return _spec(metadata, metadata["net_metadata"], layout)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise ModelError(
            "The description inside this Dante model is damaged.", detail=repr(error)
        ) from error


def _spec(
    metadata: Mapping[str, Any], net: Mapping[str, Any], layout: DanteLayout
) -> ArchitectureSpec:
    dimensions, axes = _dimensions(net), _axes(metadata)
    if int(net["in_channels"]) != 1:
        raise ModelError("This model needs several images at once, which is not supported.")
    turned = _turner(layout.order)
    dynamic = bool(net["use_dynamic"])
    patch = tuple(int(size) for size in net.get("patch_size") or _UNET_PATCH[dimensions])
    spacing = tuple(float(size) for size in net["median_spacing"])
    name: Literal["DynUNet", "UNet"] = "DynUNet" if dynamic else "UNet"
    return ArchitectureSpec(
        network=name,
        arguments=_dynamic(net, turned) if dynamic else _static(net, dimensions, turned),
        labels=further_labels((), _names(net)),
        spacing=_display(spacing, axes, 1.0),
        patch=_display(patch[-dimensions:], axes, 1),
        normalisation="nonzero",
        flipped=tuple(
            sorted(_DISPLAY[letter] for letter in _letters(metadata) if letter not in "SPL")
        ),
    )


def _dimensions(net: Mapping[str, Any]) -> Literal[2, 3]:
    return 2 if net.get("spatial_dims") == 2 else 3


def _letters(metadata: Mapping[str, Any]) -> str:
    return _RUNS.get(str(metadata.get("orientation") or "")[:1].lower(), _RUNS[""])


def _axes(metadata: Mapping[str, Any]) -> list[int]:
    """Return the axis of (z, y, x) that each of Dante's axes (Z, X, Y) is."""
    return [_DISPLAY[letter] for letter in _letters(metadata)]


def _turner(order: Sequence[int]) -> Callable[[Any], list[int]]:
    """Return what brings sizes along Dante's axes into our order; one size is for all."""

    def turned(sizes: Any) -> list[int]:  # noqa: ANN401
        if isinstance(sizes, int):
            return [sizes] * len(order)
        return [int(sizes[axis]) for axis in order]

    return turned


def _display(sizes: Sequence[Any], axes: Sequence[int], across: Any) -> tuple[Any, Any, Any]:  # noqa: ANN401
    """Return sizes along (Z, X, Y), or (X, Y) of a plane, in the order (z, y, x)."""
    if len(sizes) == 2:
        sizes = (across, *sizes)
    by_axis = dict(zip(axes, sizes, strict=True))
    return by_axis[0], by_axis[1], by_axis[2]


def _names(net: Mapping[str, Any]) -> list[str]:
    names, channels = [str(name) for name in net["labels_name"]], int(net["out_channels"])
    if not len(names) < channels <= 256:
        raise ValueError(f"{len(names)} structures in {channels} channels")
    unnamed = range(len(names) + 1, channels)
    return [*names, *(f"structure {number}" for number in unnamed)]


def _dynamic(net: Mapping[str, Any], turned: Callable[[Any], list[int]]) -> dict[str, Any]:
    strides = [turned(stride) for stride in net["strides"]]
    return {
        "kernel_size": [turned(kernel) for kernel in net["kernels"]],
        "strides": strides,
        "upsample_kernel_size": strides[1:],
        "norm_name": ["INSTANCE", {"affine": True}],
        "deep_supervision": False,
        "res_block": True,
    }


def _static(
    net: Mapping[str, Any], dimensions: int, turned: Callable[[Any], list[int]]
) -> dict[str, Any]:
    levels = int(net["n_levels"])
    if not 2 <= levels <= 8:
        raise ValueError(f"{levels} levels")
    strides: list[tuple[int, ...]] = [(1,) * dimensions]
    for level in range(1, levels):
        strides.append((2,) * dimensions if level <= 2 or dimensions == 2 else (1, 2, 2))
    return {
        "channels": [_CHANNELS * 2**level for level in range(levels)],
        # Dante hands over one more, which MONAI leaves out.
        "strides": [turned(stride) for stride in strides[: levels - 1]],
        "kernel_size": turned(net["kernel_size"]),
        "num_res_units": 2,
        "norm": "INSTANCE",
    }
