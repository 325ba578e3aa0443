"""The tags of every single picture in a DICOM file, classic or enhanced (multi-frame).

Enhanced files keep them in functional groups, shared by all frames or per frame (DICOM
PS3.3 C.7.6.16); here they come back under the names that classic files use.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydicom.dataset import Dataset

from napari_dante.errors import VolumeError

__all__ = ["FRAME_TAGS", "frames", "named_values"]

_SHARED, _PER_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
_PLAIN = (
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
    "RescaleSlope",
    "RescaleIntercept",
    "ImageType",
    "ComplexImageComponent",
    "EchoTime",
    "EchoNumbers",
    "DiffusionBValue",
    "DiffusionGradientOrientation",
    "TemporalPositionIdentifier",
    "TriggerTime",
    "AcquisitionNumber",
    "InversionTime",
    "FlipAngle",
    "SequenceName",
    "StackID",
)
FRAME_TAGS = [*_PLAIN, _SHARED, _PER_FRAME]
# What a macro calls a tag, where a classic file calls it otherwise.
_CLASSIC_NAME = {
    "EffectiveEchoTime": "EchoTime",
    "FrameType": "ImageType",
    "TemporalPositionIndex": "TemporalPositionIdentifier",
    "NominalCardiacTriggerDelayTime": "TriggerTime",
    "FrameAcquisitionNumber": "AcquisitionNumber",
    "InversionTimes": "InversionTime",
}
_MACROS = (
    "UnassignedSharedConvertedAttributesSequence",
    "UnassignedPerFrameConvertedAttributesSequence",
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelMeasuresSequence",
    "PixelValueTransformationSequence",
    "FrameContentSequence",
    "MRImageFrameTypeSequence",
    "CTImageFrameTypeSequence",
    "PETFrameTypeSequence",
    "MREchoSequence",
    "MRModifierSequence",
    "MRTimingAndRelatedParametersSequence",
    "MRDiffusionSequence",
    "CardiacSynchronizationSequence",
)
_GRADIENT = "DiffusionGradientDirectionSequence"


def frames(tags: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the tags of each picture of a file, under their classic names.

    Raises
    ------
    VolumeError
        Several pictures, and the file does not say where each of them lies.
    """
    count = int(tags.get("NumberOfFrames") or 1)
    top = _named(tags)
    groups = tags.get(_PER_FRAME)
    if not groups:
        if count > 1:
            raise VolumeError(
                "One file holds several pictures (multi-frame) and does not say where each of "
                "them lies in the patient."
            )
        return [top]
    if len(groups) != count:
        raise VolumeError(
            f"A multi-frame file announces {count} pictures and places {len(groups)}; export it "
            "again."
        )
    for shared in (tags.get(_SHARED) or [])[:1]:
        top |= _group(shared)
    return [top | _group(group) for group in groups]


def _group(group: Dataset) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for macro in _MACROS:
        for item in (group.get(macro) or [])[:1]:
            found |= _named(named_values(item))
            for gradient in (item.get(_GRADIENT) or [])[:1]:
                found |= _named(named_values(gradient))
    return found


def _named(tags: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: tags.get(name) for name in _PLAIN}
    for name, classic in _CLASSIC_NAME.items():
        if found.get(classic) is None:
            found[classic] = tags.get(name)
    return {name: value for name, value in found.items() if value is not None}


def named_values(item: Dataset) -> dict[str, Any]:
    """Return the public tags of a data set, by keyword."""
    return {element.keyword: element.value for element in item if element.keyword}
