"""The Dafne ``.model`` format: reading it safely, writing it, and our models in it.

A ``.model`` file is one pickle of a flat dictionary: identity, weights, metadata, and the
*source text* of the functions that build and run the network. The text stays text here;
see :mod:`napari_dante.model.dafne_pickle` for how the rest is read without running
anything, and :mod:`napari_dante.model.dafne_source` for the text that we write.
"""

from __future__ import annotations

import pickle
import re
import time
import uuid
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_dante.errors import ForeignCode, ModelError, UnsafeFile
from napari_dante.files import atomic_path
from napari_dante.model import dafne_pickle
from napari_dante.model.dafne_slices import ORIENTATIONS
from napari_dante.model.dafne_source import apply_source, init_source, learn_source
from napari_dante.model.dante import dante_layout, dante_spec
from napari_dante.model.file import KEY, Lineage, Model
from napari_dante.model.network import check_layout
from napari_dante.model.spec import ArchitectureSpec

__all__ = [
    "DafneModel",
    "check_same_weights",
    "from_dafne",
    "is_recognised",
    "read_dafne",
    "to_dafne",
    "write_dafne",
]

MAX_BYTES = 4 * 1024**3
_TORCH_KIND = "DynamicTorchModel"
_KNOWN = (
    "model_id",
    "weights",
    "timestamp_id",
    "is_delta",
    "data_dimensionality",
    "type",
    "metadata",
)


@dataclass(frozen=True, eq=False)
class DafneModel:
    """What a ``.model`` file of a torch model holds.

    Attributes
    ----------
    model_id
        Identity by which a server merges. A text and a UUID of the same value are two
        identities to Dafne, so the type is kept.
    kind
        Class of dafne-dl that runs it, ``"DynamicTorchModel"``.
    dimensionality
        2 or 3.
    timestamp
        Unix seconds; the version, as the file states it.
    weights
        CPU tensors by state-dict key, in the order of the file.
    metadata
        Plain values.
    sources
        Source text (or None) of each ``*_function`` entry. Never executed here.
    extra
        Other entries, carried unchanged.
    is_delta
        Whether the weights are differences; servers average them wrongly.
    """

    model_id: str | uuid.UUID
    kind: str
    dimensionality: int
    timestamp: int
    weights: dict[str, torch.Tensor]
    metadata: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, str | None] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    is_delta: bool = False


def read_dafne(path: Path) -> DafneModel:
    """Read a ``.model`` file; nothing in it is executed.

    Raises
    ------
    UnsafeFile
        If the file asks for code to be run; nothing of it was.
    ModelError
        If it is not there, too large, damaged, or not a torch model.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError("There is no such model file.")
    if path.stat().st_size > MAX_BYTES:
        raise ModelError("This model file is too large to be opened safely.")
    with path.open("rb") as stream:
        return _checked(dafne_pickle.load(stream))


def _checked(data: Any) -> DafneModel:  # noqa: ANN401
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise dafne_pickle.damaged("not a dictionary")
    kind = _entry(data, "type", str, "DynamicDLModel")
    identity = _entry(data, "model_id", str | uuid.UUID)
    if isinstance(identity, str) and not re.fullmatch(r"[ -~]{1,128}", identity):
        raise dafne_pickle.damaged("model_id is not a short text")
    if not re.fullmatch(r"\w{1,64}", kind):
        raise dafne_pickle.damaged("type is not a name")
    sources = {key: data[key] for key in data if key.endswith("_function")}
    if not all(source is None or isinstance(source, str) for source in sources.values()):
        raise UnsafeFile("This file holds functions that are not text, so it was not opened.")
    return DafneModel(
        model_id=identity,
        kind=kind,
        dimensionality=_entry(data, "data_dimensionality", int, 2),
        timestamp=_entry(data, "timestamp_id", int, 0),
        weights=_weights(data.get("weights"), kind),
        metadata=_entry(data, "metadata", dict, {}),
        sources=sources,
        extra={key: data[key] for key in data if key not in _KNOWN and key not in sources},
        is_delta=_entry(data, "is_delta", bool, False),
    )


def _entry(data: Mapping[str, Any], key: str, kind: Any, default: Any = None) -> Any:  # noqa: ANN401
    value = data.get(key)
    value = default if value is None else value
    if not isinstance(value, kind):
        raise dafne_pickle.damaged(f"{key} is {type(value).__name__}")
    return value


def _weights(weights: object, kind: str) -> dict[str, torch.Tensor]:
    if isinstance(weights, dict) and weights:
        tensors = (isinstance(value, torch.Tensor) for value in weights.values())
        if all(isinstance(key, str) for key in weights) and all(tensors):
            return weights
    raise ModelError(
        f"This Dafne model is of the kind '{kind}' without torch weights, which napari-dante "
        "cannot use."
    )


def write_dafne(path: Path, model: DafneModel, *, check: bool = True) -> None:
    """Write a ``.model`` file in one step that cannot be seen half done.

    Floating-point weights are written as float32. The file is a plain pickle (protocol 4)
    that dafne-dl loads; it holds no function objects, only their text.

    Parameters
    ----------
    path, model
        Where to, and what.
    check
        Whether numbers that are not finite are refused here and not by who reads the file.

    Raises
    ------
    ModelError
        If a weight is not finite.
    """
    if check and not all(bool(torch.isfinite(value).all()) for value in model.weights.values()):
        raise ModelError("The model holds numbers that are not finite, so it was not saved.")
    weights = OrderedDict((key, _portable(value)) for key, value in model.weights.items())
    entries = {
        "model_id": model.model_id,
        "weights": weights,
        "timestamp_id": model.timestamp,
        "is_delta": model.is_delta,
        "data_dimensionality": model.dimensionality,
        "type": model.kind,
        "metadata": model.metadata,
        **model.sources,
        **model.extra,
    }
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        pickle.dump(entries, stream, protocol=4)


def _portable(tensor: torch.Tensor) -> torch.Tensor:
    # A view pickles its whole storage, so every tensor gets memory of its own.
    kind = torch.float32 if tensor.is_floating_point() else tensor.dtype
    return tensor.detach().to("cpu", kind).clone(memory_format=torch.contiguous_format)


def to_dafne(model: Model, base: DafneModel | None = None, *, by_slice: bool = False) -> DafneModel:
    """Return `model` as Dafne has it.

    A two-dimensional network takes volumes like any other, because it is trained on
    intensities that are scaled by the whole volume.

    Parameters
    ----------
    model
        Full weights, adapters merged.
    base
        The server's version that `model` updates. Then everything but the weights and
        the timestamp is that of `base`, because a server keeps nothing else.
    by_slice
        Write a two-dimensional network as a model that Dafne calls slice by slice. It then
        says of each slice what `model` says of a volume of that slice alone.

    Raises
    ------
    ModelError
        If `model` is not a version of `base`, or not two-dimensional where it should be.
    """
    weights = {key: torch.from_numpy(np.array(value)) for key, value in model.weights.items()}
    now = int(time.time())
    if base is not None:
        if str(base.model_id) != model.lineage.model_id:
            raise ModelError("The model on the server is another model, not a version of this one.")
        layout = None if KEY in base.metadata else dante_layout(base.metadata)
        weights = weights if layout is None else layout.to_theirs(weights)
        check_same_weights(base.weights, weights)
        ordered = {key: weights[key] for key in base.weights}
        return replace(base, weights=ordered, timestamp=max(now, base.timestamp + 1))
    if by_slice and model.spec.slice_axis is None:
        raise ModelError("Only a two-dimensional model can be called slice by slice.")
    dimensionality = 2 if by_slice else 3
    return DafneModel(
        model_id=model.lineage.model_id,
        kind=_TORCH_KIND,
        dimensionality=dimensionality,
        timestamp=now,
        weights=weights,
        metadata=_metadata(model, now, dimensionality),
        sources={
            "init_model_function": init_source(model.spec),
            "apply_model_function": apply_source(model.spec, by_slice=by_slice),
            "incremental_learn_function": learn_source(model.spec, by_slice=by_slice),
        },
    )


def _metadata(model: Model, timestamp: int, dimensionality: int) -> dict[str, Any]:
    axis = model.spec.slice_axis if dimensionality == 2 else None
    return {
        **({} if axis is None else {"orientation": ORIENTATIONS[axis]}),
        "dimensionality": str(dimensionality),
        "type": _TORCH_KIND,
        "model_type": _TORCH_KIND,
        "model_name": model.lineage.name,
        "categories": [[label.name for label in model.spec.labels]],
        "variants": [""],
        "dependencies": {"monai": "monai>=1.6"},
        "can_incremental_learn": True,
        KEY: {
            "spec": model.spec.to_json(),
            "lineage": asdict(model.lineage),
            "timestamp": timestamp,
        },
    }


def check_same_weights(
    expected: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor]
) -> None:
    """Refuse weights whose keys or shapes are not the expected ones.

    Raises
    ------
    ModelError
        With the differing keys in its detail.
    """
    differing = sorted(
        key
        for key in expected.keys() | weights.keys()
        if key not in expected or key not in weights or expected[key].shape != weights[key].shape
    )
    if differing:
        raise ModelError(
            "The weights do not have the layout of the model that they shall update.",
            detail=f"{len(differing)} keys, first {differing[:5]}",
        )


def from_dafne(dafne: DafneModel, name: str) -> Model:
    """Return a Dafne model as ours, under `name`.

    Its history is kept only while the weights are the very ones that it tells of: after
    a merge on a server the recipe and the exam are no longer true of them.

    Raises
    ------
    ForeignCode
        If its architecture is neither one that we wrote nor one of Dante's.
    ModelError
        If its weights do not fit it or are not finite, or `name` is not allowed.
    """
    spec, weights, history = _described(dafne)
    numbers = {
        key: (value.float() if value.is_floating_point() else value).numpy()
        for key, value in weights.items()
    }
    if not all(np.isfinite(value).all() for value in numbers.values()):
        raise ModelError("This Dafne model holds numbers that are not finite.")
    check_layout(spec, numbers)
    identity = {"name": name, "model_id": str(dafne.model_id)}
    try:
        return Model(spec, numbers, Lineage(**{**history, **identity}))
    except TypeError as error:
        raise ModelError(
            "The history inside this Dafne model is damaged.", detail=repr(error)
        ) from error


def is_recognised(dafne: DafneModel) -> bool:
    """Tell whether a Dafne model describes its architecture in a way that we know."""
    return KEY in dafne.metadata or dante_layout(dafne.metadata) is not None


def _described(
    dafne: DafneModel,
) -> tuple[ArchitectureSpec, Mapping[str, torch.Tensor], Mapping[str, Any]]:
    """Return the architecture that a file describes, the weights for it, and their history."""
    ours = dafne.metadata.get(KEY)
    if isinstance(ours, dict) and isinstance(ours.get("spec"), dict):
        history = ours.get("lineage")
        if ours.get("timestamp") != dafne.timestamp or not isinstance(history, dict):
            history = {}
        return ArchitectureSpec.from_json(ours["spec"]), dafne.weights, history
    layout = dante_layout(dafne.metadata)
    if layout is None:
        raise ForeignCode(
            "The architecture of this Dafne model is not recognised, so it cannot be used here."
        )
    return dante_spec(dafne.metadata), layout.to_ours(dafne.weights), {}
