"""One DICOM file as one grey image with its place in space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import UID

from napari_dante.errors import VolumeError
from napari_dante.volume.dicom_file import UNREADABLE, Header, quietly

__all__ = ["Slice", "as_slice"]

_CUT_SHORT = "An image is cut short; copy or export the series again."
_BAD_TAG = "A tag of an image cannot be read; export the series again."


@dataclass(frozen=True)
class Slice:
    """One two-dimensional grey image with its place in space.

    Parameters
    ----------
    header
        The file it comes from.
    rows, columns
        Size in pixels.
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
    thickness
        SliceThickness in mm, 0 where it is not given.
    announced
        How many images the scanner says it acquired, 0 where it does not say.
    inverted
        Whether high values are dark (MONOCHROME1).
    """

    header: Header
    rows: int
    columns: int
    spacing: tuple[float, float]
    along_row: NDArray[np.float64]
    along_column: NDArray[np.float64]
    position: NDArray[np.float64]
    slope: float
    intercept: float
    dtype: np.dtype[Any]
    thickness: float
    announced: int
    inverted: bool

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector across the image, LPS."""
        return np.cross(self.along_row, self.along_column)

    @property
    def is_scaled(self) -> bool:
        """Whether the stored pixels are not yet the values of the image."""
        return (self.slope, self.intercept) != (1.0, 0.0)


def as_slice(header: Header) -> Slice:
    """Check that a file is one grey image placed in space.

    Raises
    ------
    VolumeError
        It is something else, or cut short; the sentence fits a whole series.
    """
    try:
        with quietly():
            _check_kind(header)
            return _slice(header)
    except UNREADABLE as error:
        raise VolumeError(_BAD_TAG, type(error).__name__) from None


def _check_kind(header: Header) -> None:
    tags = header.tags
    if not tags.get("Rows") or not tags.get("Columns"):
        raise VolumeError("It holds no pictures.")
    if (
        int(tags.get("NumberOfFrames") or 1) > 1
        or "Enhanced" in UID(str(tags.get("SOPClassUID") or "")).name
    ):
        raise VolumeError(
            "This is enhanced (multi-frame) DICOM, which is not supported yet; export it as "
            "classic single-slice DICOM or convert it to NIfTI."
        )
    photometric = str(tags.get("PhotometricInterpretation") or "MONOCHROME2")
    if int(tags.get("SamplesPerPixel") or 1) > 1 or not photometric.startswith("MONOCHROME"):
        raise VolumeError("Its images are in colour; grey values are needed.")
    if int(tags.BitsAllocated) not in (8, 16, 32):
        raise VolumeError(f"Its pixels have {int(tags.BitsAllocated)} bits, not 8, 16 or 32.")
    needed = int(tags.Rows) * int(tags.Columns) * int(tags.BitsAllocated) // 8
    if header.pixel_bytes is not None and header.pixel_bytes < needed:
        raise VolumeError(_CUT_SHORT)
    for tag in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        if not tags.get(tag):
            raise VolumeError("Its images do not say where they lie in the patient.")


def _slice(header: Header) -> Slice:
    tags = header.tags
    position = _numbers(tags.ImagePositionPatient, 3)
    directions = _numbers(tags.ImageOrientationPatient, 6).reshape(2, 3)
    row_spacing, column_spacing = _numbers(tags.PixelSpacing, 2).tolist()
    lengths = np.linalg.norm(directions, axis=1)
    if np.abs(lengths - 1.0).max() > 0.01 or abs(float(directions[0] @ directions[1])) > 0.01:
        raise VolumeError("Its images state an impossible orientation.")
    if min(row_spacing, column_spacing) <= 0:
        raise VolumeError("Its images state a pixel spacing of zero.")
    along_row, along_column = directions / lengths[:, None]
    slope = tags.get("RescaleSlope")
    intercept = tags.get("RescaleIntercept")
    scaling = _numbers([1.0 if slope is None else slope, intercept or 0.0], 2).tolist()
    if scaling[0] == 0:
        raise VolumeError("Its images state a rescale slope of zero.")
    sign = "i" if tags.get("PixelRepresentation") else "u"
    return Slice(
        header,
        rows=int(tags.Rows),
        columns=int(tags.Columns),
        spacing=(row_spacing, column_spacing),
        along_row=along_row,
        along_column=along_column,
        position=position,
        slope=scaling[0],
        intercept=scaling[1],
        dtype=np.dtype(f"{sign}{int(tags.BitsAllocated) // 8}"),
        thickness=float(tags.get("SliceThickness") or 0.0),
        announced=int(tags.get("ImagesInAcquisition") or 0),
        inverted=str(tags.get("PhotometricInterpretation")) == "MONOCHROME1",
    )


def _numbers(values: Sequence[Any], count: int) -> NDArray[np.float64]:
    numbers = np.array([float(value) for value in values], dtype=np.float64)
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        raise VolumeError(_BAD_TAG)
    return numbers
