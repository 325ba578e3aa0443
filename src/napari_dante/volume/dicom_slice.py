"""The pictures of one DICOM file as grey images, each with its place in space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import UID

from napari_dante.errors import VolumeError
from napari_dante.volume.dicom_file import UNREADABLE, Header
from napari_dante.volume.dicom_frames import frames, named_values
from napari_dante.volume.dicom_traits import Traits, traits, words_of
from napari_dante.volume.dicom_vendor import planned_slices, read_mosaic
from napari_dante.volume.quiet import quietly

__all__ = ["Slice", "as_slices"]

# Decoders reserve what the header of a compressed picture claims before they see a pixel.
_LARGEST_PICTURE = 1 << 26
# With pixels of 32 bits, values stay within float32.
_LARGEST_SCALING = 1e28
_CUT_SHORT = "An image is cut short; copy or export the series again."
_BAD_TAG = "A tag of an image cannot be read; export the series again."


@dataclass(frozen=True)
class Slice:
    """One two-dimensional grey image with its place in space.

    Parameters
    ----------
    header
        The file it comes from.
    frame
        Which picture of that file it is, counted from 0.
    rows, columns
        Size in pixels.
    picture, corner
        Rows and columns of the picture it is cut from, and where in it; most slices are all
        of their picture.
    spacing
        Distance in mm between rows, and between columns (the order of PixelSpacing).
    along_row, along_column
        Unit vectors, LPS: where the column index and the row index increase to.
    position
        Centre of the first pixel, LPS mm.
    slope, intercept
        value = stored * slope + intercept.
    dtype
        Kind of the stored pixels.
    bits_stored
        How many bits of a pixel count, where the pixels are plain numbers in the file; None
        where a decoder has to read them.
    thickness, stated_gap
        SliceThickness and SpacingBetweenSlices in mm, 0 where they are not given.
    announced
        How many images the scanner says it acquired, 0 where it does not say.
    planned
        How many slices the scanner says a volume has, 0 where it does not say.
    inverted
        Whether high values are dark (MONOCHROME1).
    traits
        What may tell it from other pictures of its series, such as the echo time.
    """

    header: Header
    frame: int
    rows: int
    columns: int
    picture: tuple[int, int]
    corner: tuple[int, int]
    spacing: tuple[float, float]
    along_row: NDArray[np.float64]
    along_column: NDArray[np.float64]
    position: NDArray[np.float64]
    slope: float
    intercept: float
    dtype: np.dtype[Any]
    bits_stored: int | None
    thickness: float
    stated_gap: float
    announced: int
    planned: int
    inverted: bool
    traits: Traits = field(repr=False)

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector across the image, LPS."""
        return np.cross(self.along_row, self.along_column)

    @property
    def is_whole(self) -> bool:
        """Whether it is all of its picture."""
        return self.picture == (self.rows, self.columns)

    @property
    def is_scaled(self) -> bool:
        """Whether the stored pixels are not yet the values of the image."""
        return (self.slope, self.intercept) != (1.0, 0.0)


def as_slices(header: Header) -> list[Slice]:
    """Check that a file holds grey images placed in space: one, or many.

    Many are the frames of enhanced DICOM, or the tiles of a Siemens mosaic.

    Raises
    ------
    VolumeError
        It is something else, or cut short; the sentence fits a whole series.
    """
    try:
        with quietly():
            values = named_values(header.tags)
            _check_kind(values)
            pictures = frames(values)
            _check_complete(header, values, len(pictures))
            slices = [_slice(header, values, number, one) for number, one in enumerate(pictures)]
            if "MOSAIC" not in words_of(values.get("ImageType")):
                return slices
            if len(slices) > 1:
                raise VolumeError("It holds several Siemens mosaics in one file.")
            return _tiles(slices[0], values)
    except UNREADABLE as error:
        raise VolumeError(_BAD_TAG, type(error).__name__) from None


def _check_kind(values: Mapping[str, Any]) -> None:
    if not values.get("Rows") or not values.get("Columns"):
        raise VolumeError("It holds no pictures.")
    kind = UID(str(values.get("SOPClassUID") or "")).name
    if "Segmentation" in kind:
        raise VolumeError("It is a segmentation, not an image.")
    photometric = str(values.get("PhotometricInterpretation") or "MONOCHROME2")
    if int(values.get("SamplesPerPixel") or 1) > 1 or not photometric.startswith("MONOCHROME"):
        raise VolumeError("Its images are in colour; grey values are needed.")
    if int(values["BitsAllocated"]) not in (8, 16, 32):
        raise VolumeError(f"Its pixels have {int(values['BitsAllocated'])} bits, not 8, 16 or 32.")
    if "Secondary Capture" in kind and not values.get("ImagePositionPatient"):
        raise VolumeError(
            "It is a screen picture (secondary capture) that does not say where it lies in the "
            "patient."
        )


def _check_complete(header: Header, values: Mapping[str, Any], pictures: int) -> None:
    pixels = int(values["Rows"]) * int(values["Columns"])
    needed = pixels * int(values["BitsAllocated"]) // 8 * pictures
    if header.pixel_bytes is not None and header.pixel_bytes < needed:
        raise VolumeError(_CUT_SHORT)
    if header.pixel_bytes is None and pixels > _LARGEST_PICTURE:
        raise VolumeError("Its compressed images state an impossible size.")


def _slice(
    header: Header, values: Mapping[str, Any], number: int, placed: Mapping[str, Any]
) -> Slice:
    for tag in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        if not placed.get(tag):
            raise VolumeError("Its images do not say where they lie in the patient.")
    position = _numbers(placed["ImagePositionPatient"], 3)
    directions = _numbers(placed["ImageOrientationPatient"], 6).reshape(2, 3)
    row_spacing, column_spacing = _numbers(placed["PixelSpacing"], 2).tolist()
    lengths = np.linalg.norm(directions, axis=1)
    if np.abs(lengths - 1.0).max() > 0.01 or abs(float(directions[0] @ directions[1])) > 0.01:
        raise VolumeError("Its images state an impossible orientation.")
    if min(row_spacing, column_spacing) <= 0:
        raise VolumeError("Its images state a pixel spacing of zero.")
    along_row, along_column = directions / lengths[:, None]
    rows, columns = int(values["Rows"]), int(values["Columns"])
    slope, intercept = _scaling(placed)
    sign = "i" if values.get("PixelRepresentation") else "u"
    bits = int(values["BitsAllocated"])
    stored = int(values.get("BitsStored") or bits)
    plain = header.pixels_at is not None and values.get("HighBit", stored - 1) == stored - 1
    return Slice(
        header,
        number,
        rows=rows,
        columns=columns,
        picture=(rows, columns),
        corner=(0, 0),
        spacing=(row_spacing, column_spacing),
        along_row=along_row,
        along_column=along_column,
        position=position,
        slope=slope,
        intercept=intercept,
        dtype=np.dtype(f"{sign}{bits // 8}"),
        bits_stored=stored if plain and 0 < stored <= bits else None,
        thickness=float(placed.get("SliceThickness") or 0.0),
        stated_gap=float(placed.get("SpacingBetweenSlices") or 0.0),
        announced=int(values.get("ImagesInAcquisition") or 0),
        planned=planned_slices(header.tags),
        inverted=str(values.get("PhotometricInterpretation")) == "MONOCHROME1",
        traits=traits(placed),
    )


def _tiles(picture: Slice, values: Mapping[str, Any]) -> list[Slice]:
    """Take a Siemens mosaic apart.

    Its position is that of the picture's corner around the centre that all slices share; see
    "Siemens mosaic format" in the documentation of nibabel.
    """
    mosaic = read_mosaic(picture.header.path, values, picture.normal)
    rows, columns = picture.rows // mosaic.across, picture.columns // mosaic.across
    inwards = np.array([picture.rows - rows, picture.columns - columns]) / 2 * picture.spacing
    first = picture.position + inwards @ (picture.along_column, picture.along_row)
    found = picture.traits
    if found["b-value"] is None and mosaic.b_value is not None:
        found = {**found, "b-value": round(mosaic.b_value, 1)}
    return [
        replace(
            picture,
            rows=rows,
            columns=columns,
            corner=(number // mosaic.across * rows, number % mosaic.across * columns),
            position=first + step,
            announced=0,
            traits=found,
        )
        for number, step in enumerate(mosaic.steps)
    ]


def _scaling(placed: Mapping[str, Any]) -> tuple[float, float]:
    slope = placed.get("RescaleSlope")
    stated = [1.0 if slope is None else slope, placed.get("RescaleIntercept") or 0.0]
    slope, intercept = _numbers(stated, 2).tolist()
    if slope == 0:
        raise VolumeError("Its images state a rescale slope of zero.")
    if max(abs(slope), abs(intercept)) > _LARGEST_SCALING:
        raise VolumeError("Its images state an impossible rescaling.")
    return slope, intercept


def _numbers(values: Sequence[Any], count: int) -> NDArray[np.float64]:
    numbers = np.array([float(value) for value in values], dtype=np.float64)
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        raise VolumeError(_BAD_TAG)
    return numbers
