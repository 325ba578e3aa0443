"""What a LoRA lesson changed, without the model: a small ``.safetensors``. Torch-free.

Its tensors are called after the weights that they are added to: ``KEY.up`` and
``KEY.down`` are two factors, ``KEY.delta`` is an unrestricted update.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from napari_dante.errors import DanteError, ModelError
from napari_dante.files import atomic_path
from napari_dante.model.low_rank import LowRank, Role

__all__ = ["LoRAAdapter", "read_adapter", "write_adapter"]

KEY = "napari_dante_lora"
Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class LoRAAdapter:
    """The change that turns one model into another.

    Attributes
    ----------
    base
        SHA-256 of the model file that it belongs to.
    size
        Rank, scale and layout of the factors.
    targets
        Parts of the network that have factors; the others may have changed whole.
    recipe
        The recipe that made it, as JSON data.
    tensors
        float32, kept exactly: up (out, r), down (r, in·kernel), with the layout per tap
        (tap, out, r) and (tap, r, in); delta like the weight.
    """

    base: str
    size: LowRank
    targets: tuple[Role, ...]
    recipe: Mapping[str, Any]
    tensors: Mapping[str, Array]

    def __post_init__(self) -> None:
        for key, names in self._names().items():
            if names not in ({"up", "down"}, {"delta"}):
                raise _not_an_adapter(f"{key}: {sorted(names)}")
        if not set(self.targets) <= set(get_args(Role)):
            raise _not_an_adapter(f"targets {self.targets}")

    @property
    def factors(self) -> dict[str, tuple[Array, Array]]:
        """Up and down of each weight with a low-rank update, by state-dict key."""
        return {
            key: (self.tensors[f"{key}.up"], self.tensors[f"{key}.down"])
            for key, names in self._names().items()
            if "up" in names
        }

    @property
    def deltas(self) -> dict[str, Array]:
        """The unrestricted updates by state-dict key."""
        return {
            key: self.tensors[f"{key}.delta"]
            for key, names in self._names().items()
            if "delta" in names
        }

    def _names(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for key, _, name in (key.rpartition(".") for key in self.tensors):
            found.setdefault(key, set()).add(name)
        return found


def write_adapter(path: Path, adapter: LoRAAdapter) -> None:
    """Write an adapter in one step that cannot be seen half done.

    Raises
    ------
    ModelError
        If a number is not finite.
    """
    bad = [key for key, value in adapter.tensors.items() if not np.isfinite(value).all()]
    if bad:
        raise ModelError(
            "The adapter holds numbers that are not finite, so it was not saved.", detail=str(bad)
        )
    header = {
        "base": adapter.base,
        **asdict(adapter.size),
        "targets": adapter.targets,
        "recipe": adapter.recipe,
    }
    tensors = {key: value.astype(np.float32, "C") for key, value in adapter.tensors.items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={KEY: json.dumps(header)})


def read_adapter(path: Path) -> LoRAAdapter:
    """Read an adapter.

    Raises
    ------
    ModelError
        If the file is not there, is damaged or is not an adapter of ours.
    """
    if not Path(path).is_file():
        raise ModelError("There is no such adapter file.")
    try:
        with safe_open(path, framework="numpy") as stream:
            header = json.loads((stream.metadata() or {})[KEY])
            tensors = {key: stream.get_tensor(key) for key in stream.keys()}  # noqa: SIM118
        base, targets, recipe = (header.pop(name) for name in ("base", "targets", "recipe"))
        size = LowRank(**header)
        return LoRAAdapter(str(base), size, tuple(targets), dict(recipe), tensors)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, DanteError) as error:
        raise _not_an_adapter(repr(error)) from error


def _not_an_adapter(detail: str) -> ModelError:
    return ModelError(
        "This file is not an adapter of napari-dante, or it is damaged.", detail=detail
    )
