"""However the pixels are packed, the volume is the one that was packed."""

from __future__ import annotations

import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    MPEG2MPML,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from napari_dante.errors import VolumeError
from napari_dante.volume import dicom_file, read_dicom
from tests.volume.dicom_series import write_series
from tests.volume.grids import rotation, straight_affine
from tests.volume.lossless_jpeg import lossless_jpeg

OBLIQUE = rotation(12, -7, 20) @ straight_affine("LPS")
SHAPE = (19, 17, 4)


def content(dtype: str) -> NDArray[np.generic]:
    low, high = (-2000, 2000) if dtype[0] == "i" else (0, 250)
    return np.random.default_rng(3).integers(low, high, SHAPE).astype(dtype)


def needs(syntax: UID) -> None:
    if not get_decoder(syntax).is_available:
        pytest.skip(f"no decoder for {syntax.name} is installed")


def repack(path: Path, syntax: UID) -> None:
    dataset = pydicom.dcmread(path)
    if syntax.is_compressed and syntax != DeflatedExplicitVRLittleEndian:
        if syntax == JPEGLosslessSV1:
            dataset.PixelData = encapsulate([lossless_jpeg(dataset.pixel_array)])
            dataset["PixelData"].is_undefined_length = True
            dataset.file_meta.TransferSyntaxUID = syntax
        else:
            dataset.compress(syntax)
        dataset.save_as(path)
        return
    if syntax == ExplicitVRBigEndian and dataset.BitsAllocated > 8:
        pixels = np.frombuffer(dataset.PixelData, f"<u{dataset.BitsAllocated // 8}")
        dataset.PixelData = pixels.byteswap().tobytes()
    again = pydicom.Dataset(dict(dataset.items()))
    again.file_meta = dataset.file_meta
    again.file_meta.TransferSyntaxUID = syntax
    again.save_as(path, enforce_file_format=True)


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "i4"])
@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
    ],
    ids=lambda syntax: syntax.name,
)
def test_every_packing_gives_the_same_volume(tmp_path: Path, syntax: UID, dtype: str) -> None:
    if syntax == RLELossless and dtype == "i4":
        pytest.skip("RLE has no 32-bit pixels")
    scaling = [(1 + k / 2, -3.0 * k) for k in range(SHAPE[2])]
    paths = write_series(tmp_path, content(dtype), OBLIQUE, scaling=scaling, shuffle_seed=1)
    plain = read_dicom(tmp_path)
    for path in paths:
        repack(path, syntax)
    packed = read_dicom(tmp_path)
    assert packed.array.dtype == plain.array.dtype
    np.testing.assert_array_equal(packed.array, plain.array)
    assert packed.geometry == plain.geometry


def test_lossless_jpeg_gives_the_same_volume(tmp_path: Path) -> None:
    needs(JPEGLosslessSV1)
    array = np.random.default_rng(4).integers(0, 65536, SHAPE).astype(np.uint16)
    for path in write_series(tmp_path, array, OBLIQUE):
        repack(path, JPEGLosslessSV1)
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.geometry.to_stored(volume.array), array)


@pytest.mark.parametrize(
    ("name", "syntax"),
    [
        ("MR_small_jpeg_ls_lossless.dcm", JPEGLSLossless),
        ("MR_small_jp2klossless.dcm", JPEG2000Lossless),
    ],
)
def test_a_scanner_file_reads_the_same_in_every_codec(name: str, syntax: UID) -> None:
    needs(syntax)
    expected = pydicom.dcmread(str(get_testdata_file("MR_small.dcm", download=False))).pixel_array
    volume = read_dicom(str(get_testdata_file(name, download=False)))
    np.testing.assert_array_equal(volume.geometry.to_stored(volume.array)[..., 0].T, expected)


@pytest.mark.parametrize("stored", [9, 12, 16])
@pytest.mark.parametrize("dtype", ["u2", "i2"])
def test_bits_above_those_stored_are_no_part_of_the_value(
    tmp_path: Path, stored: int, dtype: str
) -> None:
    limit = 1 << stored
    values = np.random.default_rng(5).integers(0, limit, SHAPE)
    if dtype == "i2":
        values -= limit // 2
    rubbish = np.random.default_rng(6).integers(0, 1 << 16, SHAPE) & ~(limit - 1)
    array = ((values & (limit - 1)) | rubbish).astype("u2").view(dtype)
    tags = {"BitsStored": stored, "HighBit": stored - 1}
    write_series(tmp_path, array, OBLIQUE, tags=tags)
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.geometry.to_stored(volume.array), values)


def video(path: Path) -> None:
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = MPEG2MPML
    dataset.PixelData = encapsulate([bytes(60)])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)


def test_a_deflated_bomb_is_not_inflated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_file, "_MOST_INFLATED", 32 << 20)
    (path, *_) = write_series(tmp_path, content("u2"), OBLIQUE)
    repack(path, DeflatedExplicitVRLittleEndian)
    whole = path.read_bytes()
    start = 144 + int.from_bytes(whole[140:144], "little")
    pack = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = [pack.compress(zlib.decompress(whole[start:], -zlib.MAX_WBITS))]
    body += [pack.compress(bytes(1 << 24)) for _ in range(4)]
    path.write_bytes(whole[:start] + b"".join(body) + pack.flush())
    tracemalloc.start()
    try:
        with pytest.raises(VolumeError, match="beyond all bounds"):
            read_dicom(path)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


def huge(path: Path) -> None:
    """A tiny compressed picture whose header claims 65535 x 65535 pixels."""
    repack(path, RLELossless)
    dataset = pydicom.dcmread(path)
    dataset.Rows = dataset.Columns = 65535
    dataset.save_as(path)


@pytest.mark.parametrize(
    ("change", "sentence"), [(video, "export the series uncompressed"), (huge, "size")]
)
def test_pixels_that_cannot_be_unpacked_are_refused(
    tmp_path: Path, change: Callable[[Path], None], sentence: str
) -> None:
    for path in write_series(tmp_path, content("u2"), OBLIQUE):
        change(path)
    with pytest.raises(VolumeError, match=sentence):
        read_dicom(tmp_path)
