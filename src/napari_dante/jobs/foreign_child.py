"""The process that runs a model's own code: ``python -m napari_dante.jobs.foreign_child DIR``.

It gives up the network first, then reads the file as data, and only then runs its text.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from napari_dante.model.dafne import DafneModel

__all__ = ["main"]

CPU_SECONDS = 7200
LARGEST_FILE = 2 * 1024**3
MEMORY = 24 * 1024**3
_NEWUSER, _NEWNET = 0x10000000, 0x40000000
_FORBIDDEN = ("socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork")
_RUNS = {"": "RPI", "a": "RPI", "t": "RPI", "s": "PSR", "c": "RIP"}
"""Where the axes (X, Y, Z) of a Dafne volume run to, by the model's orientation."""


def main(folder: Path) -> None:
    """Answer the request in `folder`."""
    cut = _cut_network()
    _limit()
    from napari_dante.files import sha256
    from napari_dante.model.dafne import read_dafne

    asked = json.loads((folder / "request.json").read_text())
    path = Path(asked["model"])
    if sha256(path) != asked["sha256"]:
        raise ValueError("the file has changed since it was allowed")
    model = read_dafne(path)
    image = np.load(folder / "image.npy", allow_pickle=False)
    import monai  # noqa: F401  what it starts while it loads is not foreign

    sys.addaudithook(_refuse)
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
    runs = _RUNS.get(str(model.metadata.get("orientation") or "")[:1].lower(), _RUNS[""])
    axes = ["SIPALR".index(letter) // 2 for letter in runs]
    flips = tuple(slice(None, None, 1 if letter in "SPL" else -1) for letter in runs)
    shown = np.ascontiguousarray(image.transpose(axes)[flips])
    resolution = [spacing[axis] for axis in axes]
    apply, built = _functions(model)
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
        affine = np.zeros((4, 4))
        for index, letter in enumerate(runs):
            world = "LRPAIS".index(letter) // 2
            affine[world, index] = resolution[index] * (1 if letter in "RAS" else -1)
        affine[3, 3] = 1
        volume = {"image": shown, "affine": affine, "resolution": resolution}
        found = apply(built, data | volume)
    back = np.argsort(axes)
    return {str(n): np.asarray(mask)[flips].transpose(back) for n, mask in found.items()}


def _functions(model: DafneModel) -> tuple[Callable[..., Any], SimpleNamespace]:
    """Return the model's apply function, and the object that it works on."""
    network = _function(model.sources.get("init_model_function"))()
    network.load_state_dict(model.weights)
    network.eval()
    built = SimpleNamespace(
        model=network,
        device="cpu",
        metadata=model.metadata,
        model_id=model.model_id,
        timestamp_id=model.timestamp,
        data_dimensionality=model.dimensionality,
    )
    return _function(model.sources.get("apply_model_function")), built


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
