"""The source text that a ``.model`` file of ours carries.

dafne-dl executes each text with almost no globals and takes the first callable that it
defines. So each is one top-level function with everything inside. The prediction is not
written twice: the text *is* that of the modules in :data:`PARTS`, one after the other and
without what they import from each other. So they need nothing but torch, MONAI, numpy and
scipy, and no name may mean two things among them.
"""

from __future__ import annotations

import ast
import inspect
import json
from textwrap import indent
from types import ModuleType

from napari_dante.errors import ModelError
from napari_dante.model import (
    dafne_apply,
    dafne_learn,
    dafne_slices,
    grids,
    inference,
    precision,
    slices,
)
from napari_dante.model.spec import ArchitectureSpec

__all__ = ["apply_source", "init_source", "learn_source"]

PARTS = (precision, grids, inference, dafne_apply)
"""The modules that predict; each uses only what those before it define."""

_REWRITTEN = ("from dl", "import dl")


def init_source(spec: ArchitectureSpec) -> str:
    """Return the text of a function without arguments that builds the network of `spec`.

    Raises
    ------
    ModelError
        If the network has an adapter, or dafne-dl would change the text on loading.
    """
    if spec.adapter is not None:
        raise ModelError(
            "A model with a black-box adapter cannot be written as a Dafne model; "
            "teach it with LoRA to share it."
        )
    arguments = json.loads(json.dumps(dict(spec.arguments), allow_nan=False))
    parts = [
        f"from monai.networks.nets import {spec.network}\n"
        f"network = {spec.network}(\n"
        f"    spatial_dims={3 if spec.slice_axis is None else 2},\n"
        f"    in_channels={spec.in_channels},\n"
        f"    out_channels={spec.out_channels},\n"
        f"    **{arguments!r},\n"
        f")\n"
    ]
    if spec.slice_axis is None:
        parts.append("return network\n")
    else:
        parts.append(inspect.getsource(slices))
        parts.append(f"return SliceNetwork(network, {spec.slice_axis})\n")
    return _safe("def napari_dante_init():\n" + indent("\n".join(parts), "    "))


def apply_source(spec: ArchitectureSpec, *, by_slice: bool = False) -> str:
    """Return the text of a function (model object, data) that segments a volume.

    ``data`` and the result are those of :func:`napari_dante.model.dafne_apply.segment`;
    with `by_slice` they are one slice, see :mod:`napari_dante.model.dafne_slices`.

    Raises
    ------
    ModelError
        If dafne-dl would change the text on loading.
    """
    parts = [_alone(module) for module in PARTS]
    if by_slice:
        parts.append(_alone(dafne_slices))
        parts.append(f"data = one_slice(data, {spec.slice_axis})")
    parts.append(f"masks = segment(\n    model_object.model,\n    data,\n{_grid(spec)})")
    found = "{name: mask[:, :, 0] for name, mask in masks.items()}" if by_slice else "masks"
    parts.append(f"return {found}\n")
    return _safe("def napari_dante_apply(model_object, data):\n" + indent("\n".join(parts), "    "))


def learn_source(spec: ArchitectureSpec, *, by_slice: bool = False) -> str:
    """Return the text of a function that lets the model learn from corrected volumes.

    It takes (model object, data, outputs, batch size, minimum of volumes); see
    :func:`napari_dante.model.dafne_learn.learn`. With `by_slice` they are slices.

    Raises
    ------
    ModelError
        If dafne-dl would change the text on loading.
    """
    parts = [_alone(module) for module in (*PARTS, dafne_learn)]
    if by_slice:
        parts.append(_alone(dafne_slices))
        parts.append(f"data, outputs = several_slices(data, outputs, {spec.slice_axis})")
    parts.append(
        "return learn(\n    model_object.model,\n    data,\n    outputs,\n"
        f"{_grid(spec)}    minimum=minimum,\n)\n"
    )
    head = "def napari_dante_learn(model_object, data, outputs, batch_size=1, minimum=1):\n"
    return _safe(head + indent("\n".join(parts), "    "))


def _grid(spec: ArchitectureSpec) -> str:
    """Return the arguments that say what the network expects."""
    return (
        f"    {[label.name for label in spec.labels]!r},\n"
        f"    {list(spec.spacing)!r},\n"
        f"    {list(spec.patch)!r},\n"
        f"    {spec.normalisation!r},\n"
        f"    {list(spec.flipped)!r},\n"
    )


def _alone(module: ModuleType) -> str:
    """Return the text of `module` without what it imports from ours."""
    text = inspect.getsource(module)
    ours = [
        range(node.lineno, (node.end_lineno or node.lineno) + 1)
        for node in ast.parse(text).body
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("napari_dante.")
    ]
    lines = enumerate(text.splitlines(), start=1)
    return "\n".join(line for number, line in lines if not any(number in part for part in ours))


def _safe(text: str) -> str:
    if any(words in text for words in _REWRITTEN):
        raise ModelError("A name in this model cannot be written to a Dafne model file.")
    return text
