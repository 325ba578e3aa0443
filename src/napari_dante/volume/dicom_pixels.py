"""The values of the pictures in one DICOM file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import RLELossless

from napari_dante.errors import VolumeError
from napari_dante.volume.dicom_file import PIXEL_TAGS, UNREADABLE
from napari_dante.volume.dicom_slice import Slice
from napari_dante.volume.quiet import quietly

__all__ = ["read_values"]

_CODEC = (
    "The pixels are compressed in a way that needs one more package: pip install "
    '"napari-dante[dicom]".'
)
_UNKNOWN = "The pixels are packed in an unknown way; export the series uncompressed."


def read_values(slices: Sequence[Slice], targets: Sequence[NDArray[Any]]) -> None:
    """Write the values of slices of one file into `targets`, (rows, columns) each.

    Where pixels are plain numbers and need no rescaling, they go from the file to their
    place without a copy.

    Raises
    ------
    VolumeError
        The pixels are missing, cut short or packed in a way this machine cannot unpack.
    """
    try:
        with quietly():
            if all(one.bits_stored is not None for one in slices):
                _read_plain(slices, targets)
            else:
                _decode(slices, targets)
    except FileNotFoundError:
        raise VolumeError("A file of the series has gone while it was read.") from None
    except (*UNREADABLE, StopIteration) as error:
        raise VolumeError(
            "The pixels of an image cannot be read: it is damaged or cut short; copy or "
            "export the series again.",
            type(error).__name__,
        ) from None


def _put(one: Slice, pixels: NDArray[Any], target: NDArray[Any]) -> None:
    """Write the stored pixels of a slice as values."""
    target[...] = pixels.astype(np.float64) * one.slope + one.intercept if one.is_scaled else pixels


def _read_plain(slices: Sequence[Slice], targets: Sequence[NDArray[Any]]) -> None:
    with slices[0].header.path.open("rb", buffering=0) as stream:
        for one, target in zip(slices, targets, strict=True):
            direct = target.dtype == one.dtype and not one.is_scaled
            pixels = target if direct else np.empty((one.rows, one.columns), one.dtype)
            _read_slice(cast("BinaryIO", stream), one, pixels)
            if not direct:
                _put(one, pixels, target)


def _read_slice(stream: BinaryIO, one: Slice, pixels: NDArray[Any]) -> None:
    size = pixels.dtype.itemsize
    rows, columns = one.picture
    start = (one.header.pixels_at or 0) + one.frame * rows * columns * size
    if one.is_whole:
        stream.seek(start)
        _fill(stream, pixels)
    else:
        top, left = one.corner
        for row in range(one.rows):
            stream.seek(start + ((top + row) * columns + left) * size)
            _fill(stream, pixels[row])
    unused = 8 * size - (one.bits_stored or 0)
    if unused:
        # Shifting right again also brings the sign of numbers with fewer bits.
        np.left_shift(pixels, unused, out=pixels)
        np.right_shift(pixels, unused, out=pixels)


def _fill(stream: BinaryIO, pixels: NDArray[Any]) -> None:
    view, filled = pixels.data.cast("B"), 0
    while filled < len(view):
        read = stream.readinto(view[filled:])  # type: ignore[attr-defined]
        if not read:
            raise EOFError
        filled += read


def _decode(slices: Sequence[Slice], targets: Sequence[NDArray[Any]]) -> None:
    # Frames come in the order in which they are asked for; tiles share theirs.
    frames = list(dict.fromkeys(one.frame for one in slices))
    pictures = _pictures(slices[0], frames)
    for frame in frames:
        pixels = next(pictures)
        for one, target in zip(slices, targets, strict=True):
            if one.frame != frame:
                continue
            if pixels.shape != one.picture or pixels.dtype.newbyteorder("=") != one.dtype:
                raise VolumeError("The pixels of an image are not what its header says.")
            top, left = one.corner
            _put(one, pixels[top : top + one.rows, left : left + one.columns], target)


def _pictures(one: Slice, frames: list[int]) -> Iterator[NDArray[Any]]:
    header = one.header
    try:
        decoder = get_decoder(header.syntax)
    except NotImplementedError:
        raise VolumeError(_UNKNOWN) from None
    if not decoder.is_available:
        raise VolumeError(_CODEC)
    # The other RLE decoder (pylibjpeg-rle) panics past every `except` on damaged data.
    plugin = "pydicom" if header.syntax == RLELossless else ""
    if int(header.tags.get("NumberOfFrames") or 1) > 1:
        # One picture at a time: the file is never in memory as a whole.
        yield from iter_pixels(header.path, indices=frames, decoding_plugin=plugin)
        return
    tags = dcmread(header.path, force=True, specific_tags=[*PIXEL_TAGS, "PixelData"])
    tags.file_meta.TransferSyntaxUID = header.syntax
    yield from iter_pixels(tags, decoding_plugin=plugin)
