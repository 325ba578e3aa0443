"""Enhanced multi-frame MR files made from arrays, as a scanner would write them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage, generate_uid
from pydicom.valuerep import DSfloat

from tests.volume.dicom_series import RAS_TO_LPS, slice_dataset


def group(**macros: dict[str, Any]) -> Dataset:
    """Return a functional group: macro name to the tags of its one item."""
    found = Dataset()
    for macro, tags in macros.items():
        item = Dataset()
        for keyword, value in tags.items():
            setattr(item, keyword, value)
        setattr(found, macro, [item])
    return found


def write_enhanced(
    path: Path,
    volumes: Sequence[tuple[NDArray[Any], NDArray[np.float64]]],
    *,
    macros: Callable[[int, int], dict[str, dict[str, Any]]] = lambda _v, _k: {},
    shuffle_seed: int = 3,
    shared_plane: bool = False,
    tags: dict[str, Any] | None = None,
) -> Path:
    """Write the slices of `volumes` (array_ijk, affine_ras) as frames of one file.

    Frames are in random order. `macros` gives more functional groups for slice `k` of
    volume `v`; with `shared_plane` orientation and pixel measures stand in the shared
    group. Returns `path`.
    """
    where = [(v, k) for v, (array, _) in enumerate(volumes) for k in range(array.shape[2])]
    random.Random(shuffle_seed).shuffle(where)
    first, affine = volumes[0]
    dataset = slice_dataset(first[:, :, 0], affine, 0, generate_uid())
    for tag in (
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "SliceThickness",
        "SpacingBetweenSlices",
    ):
        delattr(dataset, tag)
    dataset.SOPClassUID = EnhancedMRImageStorage
    dataset.PatientName, dataset.PatientID = "CANARY^NAME", "CANARY-ID"
    dataset.Modality, dataset.SeriesDescription = "MR", "t1"
    dataset.NumberOfFrames = len(where)
    frames = []
    for v, k in where:
        position, planes = _plane(volumes[v][1], k)
        frames.append(group(**position, **({} if shared_plane else planes), **macros(v, k)))
    dataset.SharedFunctionalGroupsSequence = [group(**(planes if shared_plane else {}))]
    dataset.PerFrameFunctionalGroupsSequence = frames
    pixels = [np.ascontiguousarray(volumes[v][0][:, :, k].T) for v, k in where]
    dataset.PixelData = np.stack(pixels).tobytes()
    for keyword, value in (tags or {}).items():
        setattr(dataset, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def _plane(affine: NDArray[np.float64], k: int) -> tuple[dict[str, Any], dict[str, Any]]:
    lps = RAS_TO_LPS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    place = lps[:3, :3] @ (0, 0, k) + lps[:3, 3]
    turn = (lps[:3, :3] / spacing)[:, :2].T.ravel()
    return {"PlanePositionSequence": {"ImagePositionPatient": _ds(place)}}, {
        "PlaneOrientationSequence": {"ImageOrientationPatient": _ds(turn)},
        "PixelMeasuresSequence": {
            "PixelSpacing": _ds(spacing[[1, 0]]),
            "SliceThickness": _ds(spacing[2:])[0],
        },
    }


def _ds(values: NDArray[np.float64]) -> list[DSfloat]:
    return [DSfloat(float(value), auto_format=True) for value in values]
