"""The pixels of one DICOM file."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.pixels.decoders.base import get_decoder

from napari_dante.errors import VolumeError
from napari_dante.volume.dicom_file import PIXEL_TAGS, UNREADABLE, quietly
from napari_dante.volume.dicom_slice import Slice

__all__ = ["read_pixels"]

_CODEC = (
    "The pixels are compressed in a way that needs one more package: pip install "
    '"napari-dante[dicom]".'
)


def read_pixels(one: Slice) -> NDArray[Any]:
    """Return the stored pixels of a slice, (rows, columns), before scaling.

    Raises
    ------
    VolumeError
        The pixels are missing, cut short or packed in a way this machine cannot unpack.
    """
    syntax = one.header.tags.file_meta.TransferSyntaxUID
    try:
        if not get_decoder(syntax).is_available:
            raise VolumeError(_CODEC)
        with quietly():
            tags = dcmread(one.header.path, force=True, specific_tags=[*PIXEL_TAGS, "PixelData"])
            tags.file_meta.TransferSyntaxUID = syntax
            pixels: NDArray[Any] = tags.pixel_array
    except FileNotFoundError:
        raise VolumeError("A file of the series has gone while it was read.") from None
    except UNREADABLE as error:
        raise VolumeError(
            "The pixels of an image cannot be read: it is damaged or cut short; copy or "
            "export the series again.",
            type(error).__name__,
        ) from None
    if pixels.shape != (one.rows, one.columns) or pixels.dtype.newbyteorder("=") != one.dtype:
        raise VolumeError("The pixels of an image are not what its header says.")
    return pixels
