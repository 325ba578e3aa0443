"""What a model is, without its weights: a few lines of JSON and nothing executable.

Torch-free: the viewer's process reads this.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import cycle
from typing import Any, Literal, Protocol, get_args

from napari_dante.errors import ModelError
from napari_dante.volume import Label, default_label

__all__ = ["ArchitectureSpec", "Named", "NetworkName", "Structures", "further_labels"]

NetworkName = Literal["UNet", "DynUNet", "SegResNet"]


class Named(Protocol):
    """What names the structures 1, 2, … of a mask."""

    @property
    def labels(self) -> tuple[Label, ...]:
        """Name and colour of each."""


@dataclass(frozen=True)
class Structures:
    """The structures of a model of which nothing else is known."""

    labels: tuple[Label, ...]


@dataclass(frozen=True)
class ArchitectureSpec:
    """A MONAI network, its labels and the grid it expects.

    Parameters
    ----------
    network
        Name of the class in ``monai.networks.nets``.
    arguments
        Its keyword arguments without ``spatial_dims``, ``in_channels`` and
        ``out_channels``, which follow from the other fields.
    labels
        The structures in the order of the output channels 1, 2, …; channel 0 is the
        background, and a mask holds the channel number.
    spacing
        Voxel size in mm that the network was trained at, axes (z, y, x).
    patch
        Training patch in voxels, axes (z, y, x). Whole volumes are predicted in windows
        of this size: with instance normalisation a larger window has other statistics.
        A patch of one voxel along an axis means a two-dimensional network that sees the
        slices across that axis; a volume is never resampled along it.
    normalisation
        How intensities are scaled; see :mod:`napari_dante.model.inference`.
    adapter
        Width of the spatial adapter before the head, or None for the plain network; see
        :class:`napari_dante.model.head.AdaptedNetwork`.
    flipped
        Axes of (z, y, x) along which the network was trained the other way round.
    """

    network: NetworkName
    arguments: Mapping[str, Any]
    labels: tuple[Label, ...]
    spacing: tuple[float, float, float]
    patch: tuple[int, int, int]
    normalisation: Literal["head", "nonzero"] = "head"
    adapter: int | None = None
    flipped: tuple[int, ...] = ()
    in_channels: int = field(default=1, init=False)

    def __post_init__(self) -> None:
        if self.network not in get_args(NetworkName):
            raise ModelError(
                f"This model uses the network '{self.network}', which is not supported.",
            )
        if self.normalisation not in ("head", "nonzero"):
            raise ModelError("This model scales intensities in a way that is not known here.")
        if not self.labels:
            raise ModelError("This model names no structures, so it cannot be used.")
        if self.out_channels > 256:
            raise ModelError("A model can have at most 255 structures.")
        names = [label.name for label in self.labels]
        if len(set(names)) != len(names):
            raise ModelError("This model names the same structure twice.", detail=str(names))
        if not all(size > 0 for size in (*self.spacing, *self.patch)):
            raise ModelError("This model has an impossible voxel or patch size.")
        if self.patch.count(1) > 1:
            raise ModelError("This model has an impossible voxel or patch size.")
        if not set(self.flipped) <= {0, 1, 2} or len(set(self.flipped)) < len(self.flipped):
            raise ModelError("This model turns axes that there are not.")
        if self.adapter is not None and self.adapter < 1:
            raise ModelError("This model has an adapter of an impossible width.")

    @property
    def slice_axis(self) -> int | None:
        """The axis of (z, y, x) that a two-dimensional network is blind along, or None."""
        return self.patch.index(1) if 1 in self.patch else None

    @property
    def out_channels(self) -> int:
        """Output channels: the background and one for each label."""
        return len(self.labels) + 1

    def names_for(self, labels: Mapping[int, Label]) -> dict[int, str]:
        """Return the structure of each value of a label map.

        Values that nobody has named count as this model's own numbers.
        """
        own = {index: label.name for index, label in enumerate(self.labels, start=1)}
        return {
            value: own.get(value, label.name) if label == default_label(value) else label.name
            for value, label in labels.items()
        }

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data; :meth:`from_json` gives an equal spec back."""
        data = asdict(self)
        del data["in_channels"]
        if self.adapter is None:
            del data["adapter"]
        if not self.flipped:
            del data["flipped"]
        data["arguments"] = json.loads(json.dumps(dict(self.arguments)))
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ArchitectureSpec:
        """Read what :meth:`to_json` wrote.

        Raises
        ------
        ModelError
            If an entry is missing or has the wrong form.
        """
        try:
            return cls(
                network=data["network"],
                arguments=dict(data["arguments"]),
                labels=tuple(
                    Label(str(item["name"]), _triple(item["colour"], float))
                    for item in data["labels"]
                ),
                spacing=_triple(data["spacing"], float),
                patch=_triple(data["patch"], int),
                normalisation=data["normalisation"],
                adapter=None if data.get("adapter") is None else int(data["adapter"]),
                flipped=tuple(int(axis) for axis in data.get("flipped", ())),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(
                "The description inside this model file is damaged.", detail=repr(error)
            ) from error


def further_labels(known: Sequence[Label], names: Sequence[str]) -> tuple[Label, ...]:
    """Return labels of these names, in colours that those of `known` leave while there are some."""
    palette = [default_label(value).colour for value in range(1, 22)]
    used = {label.colour for label in known}
    free = [colour for colour in palette if colour not in used] or palette
    return tuple(Label(name, colour) for name, colour in zip(names, cycle(free), strict=False))


def _triple(values: Any, kind: type) -> tuple[Any, Any, Any]:  # noqa: ANN401
    first, second, third = (kind(value) for value in values)
    return first, second, third
