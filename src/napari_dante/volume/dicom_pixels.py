"""The pixels of the pictures in one DICOM file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import RLELossless

from napari_dante.errors import VolumeError
from napari_dante.volume.dicom_file import PIXEL_TAGS, UNREADABLE
from napari_dante.volume.dicom_slice import Slice
from napari_dante.volume.quiet import quietly

__all__ = ["read_pixels"]

_CODEC = (
    "The pixels are compressed in a way that needs one more package: pip install "
    '"napari-dante[dicom]".'
)
_UNKNOWN = "The pixels are packed in an unknown way; export the series uncompressed."


def read_pixels(slices: Sequence[Slice]) -> Iterator[NDArray[Any]]:
    """Yield the stored pixels of slices of one file, (rows, columns), before scaling.

    Raises
    ------
    VolumeError
        The pixels are missing, cut short or packed in a way this machine cannot unpack.
    """
    pictures = _decoded(slices)
    for one in slices:
        try:
            with quietly():
                pixels = next(pictures)
        except FileNotFoundError:
            raise VolumeError("A file of the series has gone while it was read.") from None
        except (*UNREADABLE, StopIteration) as error:
            raise VolumeError(
                "The pixels of an image cannot be read: it is damaged or cut short; copy or "
                "export the series again.",
                type(error).__name__,
            ) from None
        if pixels.shape != (one.rows, one.columns) or pixels.dtype.newbyteorder("=") != one.dtype:
            raise VolumeError("The pixels of an image are not what its header says.")
        yield pixels


def _decoded(slices: Sequence[Slice]) -> Iterator[NDArray[Any]]:
    header = slices[0].header
    syntax = header.tags.file_meta.TransferSyntaxUID
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise VolumeError(_UNKNOWN) from None
    if not decoder.is_available:
        raise VolumeError(_CODEC)
    # The other RLE decoder (pylibjpeg-rle) panics past every `except` on damaged data.
    plugin = "pydicom" if syntax == RLELossless else ""
    if int(header.tags.get("NumberOfFrames") or 1) > 1:
        # One picture at a time: the file is never in memory as a whole.
        wanted = [one.frame for one in slices]
        yield from iter_pixels(header.path, indices=wanted, decoding_plugin=plugin)
        return
    tags = dcmread(header.path, force=True, specific_tags=[*PIXEL_TAGS, "PixelData"])
    tags.file_meta.TransferSyntaxUID = syntax
    yield from iter_pixels(tags, decoding_plugin=plugin)
