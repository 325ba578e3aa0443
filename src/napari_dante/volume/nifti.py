"""NIfTI and its kin: read with their scaling, written back to the same voxels and affine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from napari_dante.errors import SeriesChoice, VolumeError
from napari_dante.files import atomic_path
from napari_dante.volume.geometry import Geometry
from napari_dante.volume.label_table import write_label_table
from napari_dante.volume.machine import crowded, room
from napari_dante.volume.nifti_file import Stored, read_stored, stored_image, write_stream
from napari_dante.volume.progress import Tell, untold
from napari_dante.volume.volume import (
    Label,
    LabelMap,
    Volume,
    default_label,
    smallest_label_type,
)

__all__ = ["check_nifti_name", "read_nifti", "read_nifti_labels", "write_nifti"]

_LABEL_INTENT = "label"


def read_nifti(path: str | Path, series: str | None = None, tell: Tell = untold) -> Volume:
    """Read an image: NIfTI (either version, packed, pair), Analyze, MGH or NRRD.

    Whole numbers stay whole numbers where the file states no scaling; scaled values are
    float32 (float64 where the stored ones have more than 16 bits). Values that are not
    numbers become 0, and `Volume.problems` says how many.

    Parameters
    ----------
    path
        The file, or one half of a pair.
    series
        ``"1"``, ``"2"``, ...: which volume; needed where there are several.
    tell
        Hears how far it is, from 0 to 1.

    Raises
    ------
    SeriesChoice
        There are several volumes and none was chosen.
    VolumeError
        The file is missing, not such a file, damaged, in colour, or places its voxels
        nowhere.
    """
    stored = read_stored(Path(path), series, tell)
    values, problems, geometry = _scaled(stored), stored.header.problems, stored.header.geometry
    problems += crowded(values)
    lost = _zero_what_is_no_number(values)
    if lost:
        problems += (f"{lost} voxels held no number (NaN or infinity) and were set to 0.",)
    return Volume(geometry.to_display(values), geometry, source=Path(path), problems=problems)


def read_nifti_labels(path: str | Path) -> LabelMap:
    """Read a label map, with the names and colours that `write_nifti` keeps in the file.

    Values without a name are called "label 1", "label 2", ...

    Raises
    ------
    VolumeError
        As for `read_nifti`, or a value is not a whole number of 32 bits.
    """
    try:
        stored = read_stored(Path(path))
    except SeriesChoice as error:
        raise VolumeError(
            f"The file holds {len(error.ids)} volumes; save the labels you need as a file of "
            "their own."
        ) from None
    header, values = stored.header, _as_labels(_scaled(stored))
    named = dict(header.labels or {})
    present = _distinct(values) - {0}
    labels = {value: default_label(value) for value in sorted(present | set(named))} | named
    display = header.geometry.to_display(values)
    return LabelMap(display, header.geometry, labels, header.problems + header.label_problems)


def write_nifti(
    path: str | Path,
    display_array: NDArray[Any],
    geometry: Geometry,
    labels: Mapping[int, Label] | None = None,
) -> None:
    """Write an image, or a label map when `labels` is given, in one step.

    The axes return to the stored order, and an affine that came from the sform of a
    NIfTI-1 file reads back bit for bit. A sform is float32: what it cannot hold (an affine
    from DICOM, from NIfTI-2, rarely from a qform) is rounded by less than 1e-4 mm.

    Parameters
    ----------
    path
        Ends in ``.nii`` or ``.nii.gz``.
    display_array
        Values in display order (z, y, x), or several volumes (volume, z, y, x), which
        become the fourth axis of the file.
    geometry
        The grid of the image that was read.
    labels
        Names and colours; label values are stored in the smallest of uint8, int16, int32.

    Raises
    ------
    VolumeError
        Another file ending, values a NIfTI file cannot hold, or the disk refuses.
    """
    target = check_nifti_name(path)
    stored = _to_stored(display_array, geometry)
    stored = _as_image(stored) if labels is None else _as_labels(stored)
    try:
        image = stored_image(stored, geometry)
        if labels is not None:
            image.header.set_intent(_LABEL_INTENT)
            image.header.extensions.append(write_label_table(labels))
        with atomic_path(target) as temporary, temporary.open("wb") as stream:
            write_stream(image, stream, compressed=target.name.endswith(".gz"))
    except HeaderDataError:
        raise VolumeError("The volume is too large for a NIfTI file.") from None
    except OSError as error:
        why = error.strerror or "the disk refused"
        raise VolumeError(f"The file could not be saved: {why}.", type(error).__name__) from None


def check_nifti_name(path: str | Path) -> Path:
    """Return `path` if `write_nifti` can write it.

    Raises
    ------
    VolumeError
        Another file ending.
    """
    if not Path(path).name.endswith((".nii", ".nii.gz")):
        raise VolumeError("Choose a file name that ends in .nii or .nii.gz.")
    return Path(path)


def _to_stored(display_array: NDArray[Any], geometry: Geometry) -> NDArray[Any]:
    if display_array.ndim == 4:
        return np.stack([geometry.to_stored(volume) for volume in display_array], axis=-1)
    return geometry.to_stored(display_array)


def _scaled(stored: Stored) -> NDArray[Any]:
    if not stored.is_scaled:
        return stored.raw
    raw, slope, intercept = stored.raw, stored.header.slope, stored.header.intercept
    kind = np.float32 if raw.dtype.itemsize <= 2 or raw.dtype == np.float32 else np.float64
    values = room(raw.shape, kind, order="F")
    for k in range(raw.shape[2]):
        with np.errstate(over="ignore", invalid="ignore"):
            values[:, :, k] = raw[:, :, k].astype(np.float64) * slope + intercept
    return values


def _zero_what_is_no_number(values: NDArray[Any]) -> int:
    if values.dtype.kind != "f":
        return 0
    lost = 0
    for k in range(values.shape[2]):
        bad = ~np.isfinite(values[:, :, k])
        count = int(np.count_nonzero(bad))
        if count:
            values[:, :, k][bad] = 0
            lost += count
    return lost


def _as_labels(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind == "b":
        return values.astype(np.uint8)
    if values.dtype.kind == "f" and not _is_whole(values):
        raise VolumeError("These are not labels: some values are not whole numbers.")
    kind = smallest_label_type(int(values.min()), int(values.max()))
    return values.astype(kind, order="K", copy=False)


def _is_whole(values: NDArray[Any]) -> bool:
    slices = (values[:, :, k] for k in range(values.shape[2]))
    return all(bool((np.isfinite(one) & (one == np.rint(one))).all()) for one in slices)


def _distinct(values: NDArray[Any]) -> set[int]:
    found: set[int] = set()
    for k in range(values.shape[2]):
        found.update(np.unique(values[:, :, k]).tolist())
    return found


def _as_image(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind == "b":
        return values.astype(np.uint8)
    if values.dtype == np.float16:
        return values.astype(np.float32)
    if values.dtype.kind not in "iuf" or values.dtype.itemsize > 8:
        raise VolumeError("A NIfTI file cannot hold values of this kind.")
    return values
