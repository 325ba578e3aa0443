"""Label maps as DICOM segmentations of the series that they were drawn on.

A DICOM segmentation is a clinical object: by the standard it carries the patient and the
study of its series, so that an archive can file it. It is written only where a person asks
for it. Of the series' files only the tags that are named here are read: those that a
segmentation must share with its series, and those that place the images. Comments and
private tags are not among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pydicom.valuerep import DSfloat

from napari_dante.errors import VolumeError
from napari_dante.files import atomic_path
from napari_dante.volume.dicom import one_series
from napari_dante.volume.dicom_file import UNREADABLE
from napari_dante.volume.dicom_scan import SeriesInfo
from napari_dante.volume.dicom_slice import Slice
from napari_dante.volume.quiet import quietly
from napari_dante.volume.volume import Label, LabelMap

__all__ = ["NAMES_THE_PATIENT", "write_dicom_seg"]

NAMES_THE_PATIENT = (
    "A DICOM segmentation names the patient and the study, as the standard demands: it is for "
    "your own archive."
)

_NO_HIGHDICOM = 'DICOM segmentations need one more package: pip install "napari-dante[dicom]".'
_NEEDED = ("StudyInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
# Tags of type 2: a file may leave them empty, and some leave them out.
_MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber"),
    *("StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)
_READ = [
    *_NEEDED,
    *_MAY_BE_EMPTY,
    *("IssuerOfPatientID", "SOPClassUID", "SeriesInstanceUID", "SeriesNumber", "Modality"),
    *("PositionReferenceIndicator", "Rows", "Columns", "NumberOfFrames", "ImageType"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    "LossyImageCompression",
]
_LONGEST_NAME = 64


def write_dicom_seg(
    path: str | Path, labels: LabelMap, reference: str | Path, series: str | None = None
) -> None:
    """Write a label map as a DICOM segmentation; its slices are those of the series.

    One binary segment for each label that is present, numbered from 1 in the order of the
    label values. The file carries the patient and study of the series.

    Parameters
    ----------
    path
        Ends in ``.dcm``.
    labels
        Any stored order will do, as long as it lies on the grid of the series.
    reference
        The DICOM that the labels were drawn on: a folder, a file, a DICOMDIR, a zip archive.
    series
        The `SeriesInfo.id` of the volume; needed where there are several.

    Raises
    ------
    SeriesChoice
        There are several series in `reference` and none was chosen.
    VolumeError
        The labels are not on the grid of the series, there are none, the series lacks what
        a segmentation must state, highdicom is not installed, or the disk refuses.
    """
    target = Path(path)
    if not target.name.lower().endswith(".dcm"):
        raise VolumeError("Choose a file name that ends in .dcm.")
    with one_series(Path(reference), series) as info:
        if not labels.geometry.same_place(info.geometry):
            raise VolumeError("The labels are not on the grid of this DICOM series.")
        stored = info.geometry.to_stored(labels.array)
        values = [int(value) for value in np.unique(stored) if value != 0]
        if not values:
            raise VolumeError("The mask is empty: there is no label to save.")
        if values[0] < 0:
            raise VolumeError("DICOM knows no negative label values.")
        numbers = np.searchsorted([0, *values], stored)
        pixels = np.ascontiguousarray(numbers.astype(_smallest(len(values))).transpose(2, 1, 0))
        table = [labels.labels.get(value, Label(f"label {value}", (1, 1, 1))) for value in values]
        try:
            with quietly():
                made = _segmentation(info, pixels, table)
                with atomic_path(target) as temporary:
                    made.save_as(temporary)
        except ImportError as error:
            raise VolumeError(_NO_HIGHDICOM, str(error.name)) from None
        except OSError as error:
            why = error.strerror or "the disk refused"
            raise VolumeError(
                f"The file could not be saved: {why}.", type(error).__name__
            ) from None


def _smallest(count: int) -> type[np.unsignedinteger[Any]]:
    return np.uint8 if count < 256 else np.uint16


def _segmentation(info: SeriesInfo, pixels: NDArray[Any], table: Sequence[Label]) -> Dataset:
    """Return the data set of `pixels`, segment numbers (slices, rows, columns)."""
    from highdicom.seg import Segmentation, SegmentationTypeValues

    slices = info.stack.slices
    sources = _sources(slices)
    several = "NumberOfFrames" in sources[0]
    planes = _planes(info)
    if several:
        _state_once(sources, planes)
    made: Dataset = Segmentation(
        source_images=sources[:1] if several else sources,
        further_source_images=sources[1:] if several else None,
        pixel_array=pixels,
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=_descriptions(table),
        series_instance_uid=generate_uid(),
        series_number=1000 + int(sources[0].get("SeriesNumber") or 0),
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="napari-dante",
        manufacturer_model_name="napari-dante",
        software_versions=version("napari-dante"),
        device_serial_number="0",
        content_label="SEGMENTATION",
        series_description="Segmentation",
        specific_character_set="ISO_IR 192",
        **planes,
    )
    # The source may state a distance that is not that of its positions.
    measures = made.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.SpacingBetweenSlices = DSfloat(_gap(info), auto_format=True)
    return made


def _sources(slices: Sequence[Slice]) -> list[Dataset]:
    """Return the files of the slices without their pixels, in the order of the slices."""
    paths = list(dict.fromkeys(one.header.path for one in slices))
    try:
        found: list[Dataset] = [
            dcmread(path, stop_before_pixels=True, force=True, specific_tags=list(_READ))
            for path in paths
        ]
    except UNREADABLE as error:
        raise VolumeError(
            "A file of the DICOM series cannot be read any more.", type(error).__name__
        ) from None
    for tags in found:
        missing = [keyword for keyword in _NEEDED if not tags.get(keyword)]
        if missing:
            raise VolumeError(
                f"The DICOM series does not state its {missing[0]}, so no segmentation can "
                "refer to it; save the labels as NIfTI."
            )
        for keyword in _MAY_BE_EMPTY:
            if keyword not in tags:
                setattr(tags, keyword, None)
    return found


def _planes(info: SeriesInfo) -> Mapping[str, Any]:
    """State where each slice lies; highdicom takes what equals the sources from them."""
    from highdicom import PixelMeasuresSequence, PlaneOrientationSequence, PlanePositionSequence

    slices = info.stack.slices
    first = slices[0]
    gap = _gap(info)
    return {
        "pixel_measures": PixelMeasuresSequence(first.spacing, first.thickness or gap, gap),
        "plane_orientation": PlaneOrientationSequence(
            "PATIENT", [*first.along_row.tolist(), *first.along_column.tolist()]
        ),
        "plane_positions": [
            PlanePositionSequence("PATIENT", one.position.tolist()) for one in slices
        ],
    }


def _state_once(sources: Sequence[Dataset], planes: Mapping[str, Any]) -> None:
    """State orientation and spacing for all frames: highdicom does not look in each frame."""
    for tags in sources:
        shared = Dataset()
        shared.PixelMeasuresSequence = planes["pixel_measures"]
        shared.PlaneOrientationSequence = planes["plane_orientation"]
        tags.SharedFunctionalGroupsSequence = [shared]


def _gap(info: SeriesInfo) -> float:
    """Return the distance in mm between slices across them."""
    slices = info.stack.slices
    if len(slices) == 1:
        return info.geometry.stored_spacing[2]
    far = float((slices[-1].position - slices[0].position) @ slices[0].normal)
    return far / (len(slices) - 1)


def _descriptions(table: Sequence[Label]) -> list[Any]:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription
    from pydicom.sr.codedict import codes

    made_by = AlgorithmIdentificationSequence(
        "napari-dante", codes.DCM.ArtificialIntelligence, version("napari-dante")
    )
    structure = codes.SCT.AnatomicalStructure
    return [
        SegmentDescription(
            segment_number=number,
            segment_label=label.name[:_LONGEST_NAME] or f"segment {number}",
            segmented_property_category=structure,
            segmented_property_type=structure,
            algorithm_type="SEMIAUTOMATIC",
            algorithm_identification=made_by,
            display_color=CIELabColor.from_rgb(*(round(part * 255) for part in label.colour)),
        )
        for number, label in enumerate(table, start=1)
    ]
