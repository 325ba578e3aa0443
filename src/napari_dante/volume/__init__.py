"""Images and labels: read from NIfTI and DICOM, shown upright, saved where they were.

>>> volume = open_volume("t1.nii.gz")                            # doctest: +SKIP
>>> volume.array.shape == volume.geometry.shape                  # (z, y, x), doctest: +SKIP
True
>>> write_nifti("copy.nii.gz", volume.array, volume.geometry)    # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from napari_dante.volume.geometry import GRID_TOLERANCE_MM, Geometry
from napari_dante.volume.open import (
    Description,
    VolumeInfo,
    describe,
    holds_labels,
    open_labels,
    open_volume,
)
from napari_dante.volume.volume import (
    Label,
    LabelMap,
    Volume,
    default_label,
    labels_from_json,
    labels_to_json,
    match_grid,
)

if TYPE_CHECKING:
    from napari_dante.volume.dicom import DicomScan, Refusal, SeriesInfo, read_dicom, scan_dicom
    from napari_dante.volume.dicom_seg import NAMES_THE_PATIENT, write_dicom_seg
    from napari_dante.volume.label_files import LABEL_FILES, read_label_file, write_label_file
    from napari_dante.volume.nifti import (
        check_nifti_name,
        read_nifti,
        read_nifti_labels,
        write_nifti,
    )

__all__ = [
    "GRID_TOLERANCE_MM",
    "LABEL_FILES",
    "NAMES_THE_PATIENT",
    "Description",
    "DicomScan",
    "Geometry",
    "Label",
    "LabelMap",
    "Refusal",
    "SeriesInfo",
    "Volume",
    "VolumeInfo",
    "check_nifti_name",
    "default_label",
    "describe",
    "holds_labels",
    "labels_from_json",
    "labels_to_json",
    "match_grid",
    "open_labels",
    "open_volume",
    "read_dicom",
    "read_label_file",
    "read_nifti",
    "read_nifti_labels",
    "scan_dicom",
    "write_dicom_seg",
    "write_label_file",
    "write_nifti",
]

_LATE = {
    **dict.fromkeys(("DicomScan", "Refusal", "SeriesInfo", "read_dicom", "scan_dicom"), "dicom"),
    **dict.fromkeys(("NAMES_THE_PATIENT", "write_dicom_seg"), "dicom_seg"),
    **dict.fromkeys(("LABEL_FILES", "read_label_file", "write_label_file"), "label_files"),
    **dict.fromkeys(
        ("check_nifti_name", "read_nifti", "read_nifti_labels", "write_nifti"), "nifti"
    ),
}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import what needs nibabel or pydicom once it is asked for (PEP 562): half a second."""
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
