"""The process that runs a model's own code: ``python -m napari_dante.jobs.foreign_child DIR``.

It gives up the network first, then reads the file as data, and only then runs its text.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_dante.model.dafne_frame import Frame

if TYPE_CHECKING:
    from napari_dante.model.dafne import DafneModel

__all__ = ["main"]

CPU_SECONDS = 7200
LARGEST_FILE = 2 * 1024**3
MEMORY = 24 * 1024**3
_NEWUSER, _NEWNET = 0x10000000, 0x40000000
_DIE_WITH_PARENT = 1
_FORBIDDEN = ("socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork")
SLICES = 5
"""What Dafne passes on as the size of a batch of slices, and as the least that are learned from.

Where a person gave fewer, both are as many as there are: code that takes whole batches only
would otherwise learn nothing.
"""


def main(folder: Path) -> None:
    """Answer the request in `folder`."""
    cut = _cut_network()
    _limit()
    from napari_dante.files import sha256
    from napari_dante.model.dafne import read_dafne, write_dafne

    asked = json.loads((folder / "request.json").read_text())
    path = Path(asked["model"])
    if sha256(path) != asked["sha256"]:
        raise ValueError("the file has changed since it was allowed")
    model = read_dafne(path)
    image = np.load(folder / "image.npy", allow_pickle=False)
    import monai  # noqa: F401  what it starts while it loads is not foreign

    sys.addaudithook(_refuse)
    if "names" in asked:
        classes = np.load(folder / "classes.npy", allow_pickle=False)
        learned = _learn(model, image, classes, asked["names"], asked["spacing"])
        write_dafne(folder / "learned.model", learned, check=False)
        return
    masks = _segment(model, image, asked["spacing"])
    classes = np.zeros(image.shape, np.uint8)
    for number, mask in enumerate(masks.values(), start=1):
        classes[mask > 0] = number
    np.save(folder / "mask.npy", classes)
    (folder / "answer.json").write_text(json.dumps({"names": list(masks), "network_cut": cut}))


def _cut_network() -> bool:
    """Leave the network for good, where Linux lets us; nothing in Python can undo it."""
    with contextlib.suppress(OSError, AttributeError):
        unshare = ctypes.CDLL(None, use_errno=True).unshare
        return any(unshare(flags) == 0 for flags in (_NEWUSER | _NEWNET, _NEWNET))
    return False


def _limit() -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        for what, most in (
            (resource.RLIMIT_CPU, CPU_SECONDS),
            (resource.RLIMIT_FSIZE, LARGEST_FILE),
            (resource.RLIMIT_AS, MEMORY),
            (resource.RLIMIT_CORE, 0),
        ):
            resource.setrlimit(what, (most, most))


def _refuse(event: str, _: tuple[Any, ...]) -> None:
    """Keep Python code from the network and from other programs, on every system."""
    if event.startswith(_FORBIDDEN):
        raise PermissionError(f"foreign code must not use {event}")


def _segment(
    model: DafneModel, image: NDArray[Any], spacing: list[float]
) -> dict[str, NDArray[Any]]:
    """Call a model as Dafne does; return masks (z, y, x) in display order."""
    frame = Frame.of(model.metadata, spacing)
    shown, resolution = frame.turned(image), frame.resolution
    built = _built(model)
    apply = _function(model.sources.get("apply_model_function"))
    data = {"split_laterality": False, "classification": ""}
    if model.dimensionality == 2:
        slices = [
            apply(built, data | {"image": shown[:, :, index], "resolution": resolution[:2]})
            for index in range(shown.shape[2])
        ]
        names = list(dict.fromkeys(name for found in slices for name in found))
        empty = np.zeros(shown.shape[:2])
        found = {n: np.stack([one.get(n, empty) for one in slices], axis=2) for n in names}
    else:
        volume = {"image": shown, "affine": frame.affine, "resolution": resolution}
        found = apply(built, data | volume)
    return {str(name): frame.back(np.asarray(mask)) for name, mask in found.items()}


def _learn(
    model: DafneModel,
    image: NDArray[Any],
    classes: NDArray[np.uint8],
    names: list[str],
    spacing: list[float],
) -> DafneModel:
    """Let a model learn as Dafne does; return it with the weights that came of it.

    Dafne hands a two-dimensional model a list of slices (X, Y), each with a mask for every
    structure, and a three-dimensional one a list of volumes (Z, X, Y) of nothing but the
    corrected slices, with masks in a dictionary by number.

    Parameters
    ----------
    model
        The model.
    image, classes
        (z, y, x) in display order, of nothing but the slices to learn from.
    names
        Structures 1, 2, … of `classes`.
    spacing
        mm per voxel (z, y, x).
    """
    frame = Frame.of(model.metadata, spacing)
    stack, truth = (np.moveaxis(frame.turned(array), 2, 0) for array in (image, classes))
    masks = {name: (truth == value).astype(np.uint8) for value, name in enumerate(names, start=1)}
    built, data = _built(model), {"resolution": frame.resolution, "classification": ""}
    learn = _function(model.sources.get("incremental_learn_function"))
    if model.dimensionality == 2:
        data |= {"image_list": list(stack), "resolution": frame.resolution[:2]}
        found = [{name: mask[index] for name, mask in masks.items()} for index in range(len(stack))]
        few = min(SLICES, len(stack))
        learn(built, data, found, few, few)
    else:
        data |= {"image_list": [stack], "affine": [frame.affine]}
        learn(built, data, {0: masks}, 1, 1)
    return replace(model, weights=dict(built.model.state_dict()))


def _built(model: DafneModel) -> SimpleNamespace:
    """Return the object that the functions of a model work on."""
    network = _function(model.sources.get("init_model_function"))()
    network.load_state_dict(model.weights)
    network.eval()
    return SimpleNamespace(
        model=network,
        device="cpu",
        metadata=model.metadata,
        model_id=model.model_id,
        timestamp_id=model.timestamp,
        data_dimensionality=model.dimensionality,
    )


def _function(text: str | None) -> Callable[..., Any]:
    """Return the first callable that a text defines, with the globals that dafne-dl gives."""
    if text is None:
        raise ValueError("the model has no code for this")
    defined: dict[str, Any] = {}
    exec(text, {"DynamicTorchModel": SimpleNamespace}, defined)
    function: Callable[..., Any] = next(value for value in defined.values() if callable(value))
    return function


if __name__ == "__main__":
    main(Path(sys.argv[1]))
