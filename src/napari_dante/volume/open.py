"""One door for every image: NIfTI and its kin or DICOM, told by content.

The libraries that read are imported with the first file: they take half a second.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from napari_dante.errors import VolumeError
from napari_dante.volume.geometry import Geometry
from napari_dante.volume.progress import Tell, untold
from napari_dante.volume.sniff import is_archive, is_dicom
from napari_dante.volume.volume import LabelMap, Volume

if TYPE_CHECKING:
    from napari_dante.volume.dicom import Refusal

__all__ = [
    "Description",
    "VolumeInfo",
    "describe",
    "holds_labels",
    "open_labels",
    "open_volume",
]


@dataclass(frozen=True)
class VolumeInfo:
    """What can be told about a volume before it is opened.

    Parameters
    ----------
    id
        What `open_volume` takes as `series`.
    description
        What the operator called it, or the kind of file; for the screen only.
    modality
        Such as ``"MR"``, or ``"unknown"``.
    shape, spacing, orientation
        In stored axis order: voxels, mm (six decimals), and the letters the axes run to.
    problems
        What the person should know, one sentence each.
    """

    id: str
    description: str = field(repr=False)
    modality: str
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    orientation: str
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Description:
    """What a path holds: volumes that can be opened, and what cannot."""

    volumes: list[VolumeInfo]
    refused: list[Refusal]


def describe(path: str | Path) -> Description:
    """Tell what a file or DICOM folder holds.

    Raises
    ------
    VolumeError
        There is nothing at `path`, or it is one file that cannot be opened.
    """
    place = Path(path)
    if not _is_dicom(place):
        return Description(_nifti_volumes(place), [])
    from napari_dante.volume.dicom import scan_dicom

    scan = scan_dicom(place)
    if not scan.series and len(scan.refused) == 1 and place.is_file():
        raise VolumeError(scan.refused[0].why)
    found = [
        _info(one.id, one.description, one.modality, one.geometry, one.problems)
        for one in scan.series
    ]
    return Description(found, scan.refused)


def open_volume(path: str | Path, series: str | None = None, tell: Tell = untold) -> Volume:
    """Open an image.

    Parameters
    ----------
    path
        A NIfTI, Analyze, MGH or NRRD file, or DICOM: a file, a folder, a DICOMDIR, a zip archive.
    series
        An id that `describe` gave; needed where there are several.
    tell
        Hears how far it is, from 0 to 1.

    Raises
    ------
    SeriesChoice
        There are several volumes and none was chosen.
    VolumeError
        It cannot be opened, and the sentence says why.
    """
    place = Path(path)
    if _is_dicom(place):
        from napari_dante.volume.dicom import read_dicom

        return read_dicom(place, series, tell)
    from napari_dante.volume.nifti import read_nifti

    return read_nifti(place, series, tell)


def open_labels(path: str | Path) -> LabelMap:
    """Open a label map: a NIfTI file or its kin, such as a segmentation of 3D Slicer.

    Raises
    ------
    VolumeError
        It cannot be opened, and the sentence says why.
    """
    place = Path(path)
    if _is_dicom(place):
        raise VolumeError("Labels are read from NIfTI or NRRD files, not from DICOM.")
    from napari_dante.volume.nifti import read_nifti_labels

    return read_nifti_labels(place)


def holds_labels(path: str | Path) -> bool:
    """Whether a file says that it holds labels: ours, and segmentations of 3D Slicer.

    Raises
    ------
    VolumeError
        It cannot be opened, and the sentence says why.
    """
    from napari_dante.volume.nifti_file import read_file_header

    place = Path(path)
    return not _is_dicom(place) and read_file_header(place).labels is not None


def _nifti_volumes(path: Path) -> list[VolumeInfo]:
    from napari_dante.volume.nifti import read_nifti
    from napari_dante.volume.nifti_file import stored_header

    header = stored_header(path)
    if header.count == 1:
        # Only its values tell how many of them are no numbers.
        volume = read_nifti(path)
        kind = f"{header.kind}, {volume.array.dtype}"
        return [_info("1", kind, volume.modality, volume.geometry, volume.problems)]
    return [
        _info(
            str(number),
            f"{header.kind}, volume {number} of {header.count}",
            "unknown",
            header.geometry,
            header.problems,
        )
        for number in range(1, header.count + 1)
    ]


def _is_dicom(path: Path) -> bool:
    """Whether a path is for the DICOM reader: a folder and a zip archive always are."""
    try:
        return path.is_dir() or is_dicom(path) or is_archive(path)
    except FileNotFoundError:
        raise VolumeError("The file or folder does not exist.") from None
    except PermissionError:
        raise VolumeError("You may not read this file.") from None
    except OSError as error:
        raise VolumeError("The file cannot be read.", type(error).__name__) from None


def _info(
    key: str, description: str, modality: str, geometry: Geometry, problems: tuple[str, ...]
) -> VolumeInfo:
    i, j, k = (round(step, 6) for step in geometry.stored_spacing)
    return VolumeInfo(
        id=key,
        description=description,
        modality=modality,
        shape=geometry.stored_shape,
        spacing=(i, j, k),
        orientation=geometry.orientation,
        problems=problems,
    )
