"""The server's own exam: images with labels that its department has put there.

``DATA/validation/<Model>/<Case>/`` holds two files each, ``image.*`` and ``labels.*``, in
any format that napari-dante opens. They never leave the server.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_dante.errors import ModelError, VolumeError
from napari_dante.evaluate.overlap import dice
from napari_dante.federated.server.store import Store
from napari_dante.model.dafne import DafneModel, from_dafne
from napari_dante.model.segmenter import Segmenter, choose_device
from napari_dante.model.spec import ArchitectureSpec
from napari_dante.volume import match_grid, open_labels, open_volume

__all__ = ["Exam"]


@dataclass(frozen=True)
class _Case:
    image: NDArray[Any]
    truth: NDArray[np.uint8]
    spacing: tuple[float, float, float]


class Exam:
    """Validation cases of one model, ready to examine versions of it.

    Attributes
    ----------
    token
        Tells this exam from one with other cases: SHA-256 of names, sizes and dates.
    """

    def __init__(self, model: DafneModel, name: str, folders: list[Path], token: str) -> None:
        self._model = model
        self._name = name
        self._device = choose_device("cpu")
        self._spec = from_dafne(model, name).spec
        self._cases = [_read(folder, self._spec) for folder in folders]
        self.token = token

    def __len__(self) -> int:
        return len(self._cases)

    @classmethod
    def of(cls, store: Store, name: str, model: DafneModel) -> Exam | None:
        """Return the exam of a model, or None when there are no cases for it.

        Raises
        ------
        VolumeError
            If a case cannot be read: what cannot be examined must not pass.
        ModelError
            If there are cases, but the architecture is not one that can be run.
        """
        root = store.data / "validation" / name
        folders = sorted(path for path in root.glob("*") if path.is_dir())
        if not folders:
            return None
        return cls(model, name, folders, _token(folders))

    def dice(self, weights: Mapping[str, torch.Tensor]) -> float:
        """Return the mean Dice over structures and cases.

        A structure that a case does not show, and that is not found there, does not count.
        """
        model = from_dafne(self._model, self._name)
        arrays = {
            key: (value.float() if value.is_floating_point() else value).numpy()
            for key, value in weights.items()
        }
        segmenter = Segmenter(type(model)(model.spec, arrays, model.lineage), self._device)
        scores = [score for case in self._cases for score in _scores(segmenter, case)]
        return float(np.mean(scores)) if scores else 0.0


def _scores(segmenter: Segmenter, case: _Case) -> list[float]:
    mask = segmenter.predict(case.image, case.spacing)
    found = (dice(mask == k, case.truth == k) for k in range(1, segmenter.spec.out_channels))
    return [score for score in found if score is not None]


def _read(folder: Path, spec: ArchitectureSpec) -> _Case:
    volume, labels = open_volume(_file(folder, "image")), open_labels(_file(folder, "labels"))
    match_grid(labels, volume)
    numbers = {label.name: number for number, label in enumerate(spec.labels, start=1)}
    truth = np.zeros(labels.array.shape, np.uint8)
    for value, name in spec.names_for(labels.labels).items():
        if name not in numbers:
            raise ModelError(f"A validation case marks '{name}', which the model does not know.")
        truth[labels.array == value] = numbers[name]
    return _Case(volume.array, truth, volume.geometry.spacing)


def _file(folder: Path, stem: str) -> Path:
    found = sorted(folder.glob(f"{stem}.*"))
    if len(found) != 1:
        raise VolumeError(f"A validation case needs exactly one file '{stem}.*'.")
    return found[0]


def _token(folders: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in (file for folder in folders for file in sorted(folder.iterdir())):
        state = path.stat()
        digest.update(
            f"{path.parent.name}/{path.name} {state.st_size} {state.st_mtime_ns}\n".encode()
        )
    return digest.hexdigest()[:16]
