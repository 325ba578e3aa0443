"""What napari calls to open NIfTI files, DICOM files and DICOM folders. Qt-free."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

from napari.utils.notifications import show_warning

from napari_dante.ui.activity import Activity
from napari_dante.ui.layers import LayerData, image_layer, label_layer
from napari_dante.volume import holds_labels, open_labels, open_volume
from napari_dante.volume.progress import Tell, untold
from napari_dante.volume.sniff import is_dicom, is_dicom_archive

__all__ = ["get_dicom_reader", "get_nifti_reader", "read_path"]

Paths = str | Sequence[str]
Reader = Callable[[Paths], list[LayerData]]

_SUFFIXES = (".nii", ".nii.gz", ".hdr", ".img", ".img.gz", ".mgh", ".mgz", ".nrrd", ".nhdr")
_LOOKED_AT = 50


def get_nifti_reader(path: Paths) -> Reader | None:
    """Return a reader for NIfTI, Analyze, MGH and NRRD files, told by their names."""
    if all(one.lower().endswith(_SUFFIXES) for one in _as_list(path)):
        return _read
    return None


def get_dicom_reader(path: Paths) -> Reader | None:
    """Return a reader for DICOM files, folders and zip archives, told by their content."""
    return _read if all(_is_dicom(Path(one)) for one in _as_list(path)) else None


def read_path(
    path: Path, series: str | None = None, tell: Tell = untold
) -> tuple[LayerData, tuple[str, ...]]:
    """Open one file or folder as an image, or as labels where the file says so.

    `tell` hears how far it is, in the thread that reads.

    Returns
    -------
    LayerData, tuple of str
        The layer, and what the person should know about the file, one sentence each.

    Raises
    ------
    VolumeError
        It cannot be opened, or holds several series and none was chosen.
    """
    if holds_labels(path):
        labels = open_labels(path)
        return label_layer(labels), labels.problems
    volume = open_volume(path, series, tell)
    return image_layer(volume), volume.problems


def _read(path: Paths) -> list[LayerData]:
    found = []
    for one in _as_list(path):
        activity = Activity("Reading an image")
        try:
            layer, problems = read_path(Path(one), tell=activity.tell)
        finally:
            activity.close()
        for problem in problems:
            show_warning(problem)
        found.append(layer)
    return found


def _as_list(path: Paths) -> list[str]:
    return [os.fspath(path)] if isinstance(path, str | Path) else list(path)


def _is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, or one of the first files below a folder is."""
    if path.is_dir():
        found = (Path(top) / name for top, _, names in os.walk(path) for name in sorted(names))
        return any(_is_dicom(one) for one in islice(found, _LOOKED_AT))
    try:
        return path.is_file() and (is_dicom(path) or is_dicom_archive(path))
    except OSError:
        return False
