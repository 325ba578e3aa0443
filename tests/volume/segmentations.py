"""What a DICOM segmentation says, told by other programs than ours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from napari_dante.volume import Geometry, Label, LabelMap
from tests.volume.dicom_series import RAS_TO_LPS

SHAPE = (7, 6, 5)
TABLE = {
    2: Label("Großhirn", (0.337, 0.706, 0.914)),
    9: Label("white matter", (0.8, 0.475, 0.655)),
    400: Label("x" * 70, (0.0, 1.0, 0.0)),
}
Places = dict[tuple[float, ...], int]


def drawn(seed: int = 0) -> NDArray[np.int16]:
    """Labels on some voxels of (columns, rows, slices); one slice is empty."""
    dice = np.random.default_rng(seed)
    labels = dice.choice(np.array([0, 0, 0, 2, 9, 400], np.int16), SHAPE)
    labels[:, :, 2] = 0
    return labels


def places(stored: NDArray[Any], affine_ras: NDArray[np.float64]) -> Places:
    """Return the label at each labelled point, LPS mm."""
    where = np.argwhere(stored)
    points = where @ (RAS_TO_LPS @ affine_ras)[:3, :3].T + (RAS_TO_LPS @ affine_ras)[:3, 3]
    return {
        _point(point): int(stored[tuple(index)]) for index, point in zip(where, points, strict=True)
    }


def _point(point: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple((np.round(point, 2) + 0.0).tolist())


def told_by_pydicom(path: Path, values: Mapping[int, int]) -> Places:
    """Return the same of a segmentation, from nothing but its tags and pixels."""
    seg = pydicom.dcmread(path)
    shared = seg.SharedFunctionalGroupsSequence[0]
    turn = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, np.float64)
    row_step, column_step = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    found: Places = {}
    pixels = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    for frame, group in zip(pixels, seg.PerFrameFunctionalGroupsSequence, strict=True):
        start = np.array(group.PlanePositionSequence[0].ImagePositionPatient, np.float64)
        number = (
            (group if "SegmentIdentificationSequence" in group else shared)
            .SegmentIdentificationSequence[0]
            .ReferencedSegmentNumber
        )
        for row, column in np.argwhere(frame):
            point = _point(start + turn[:3] * column_step * column + turn[3:] * row_step * row)
            assert point not in found
            found[point] = values[number]
    return found


def told_by_highdicom(path: Path, values: Mapping[int, int]) -> Places:
    """Return the same from the volume that highdicom makes of it."""
    import highdicom

    volume = highdicom.seg.segread(path).get_volume(combine_segments=True)
    where = np.argwhere(volume.array)
    points = volume.map_indices_to_reference(where) if len(where) else where
    return {
        _point(point): values[int(volume.array[tuple(index)])]
        for index, point in zip(where, points, strict=True)
    }


def label_map(stored: NDArray[Any], affine: NDArray[np.float64]) -> LabelMap:
    geometry = Geometry.from_affine(stored.shape, affine)
    return LabelMap(geometry.to_display(stored), geometry, TABLE)


def numbers(stored: NDArray[Any]) -> dict[int, int]:
    """Label value of each segment number."""
    return dict(enumerate((int(value) for value in np.unique(stored) if value), start=1))


def check(path: Path, stored: NDArray[Any], affine: NDArray[np.float64]) -> None:
    expected = places(stored, affine)
    assert told_by_pydicom(path, numbers(stored)) == expected
    assert told_by_highdicom(path, numbers(stored)) == expected
