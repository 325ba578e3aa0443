"""Siemens mosaics are unfolded to their slices in place, or refused in a sentence."""

from __future__ import annotations

import gzip
import importlib.resources
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.uid import RLELossless

from napari_dante.errors import SeriesChoice, VolumeError
from napari_dante.volume import read_dicom, scan_dicom, write_dicom_seg, write_nifti
from tests.volume.dicom_series import RAS_TO_LPS
from tests.volume.grids import oblique_affines, rotation, straight_affine
from tests.volume.mosaic import csa, mosaic_dataset, write_mosaic
from tests.volume.segmentations import check, drawn, label_map

AXIAL = straight_affine("LPS")
OBLIQUE = rotation(12, -7, 20) @ straight_affine("LIP")
SHAPE = (6, 5, 7)


def content(shape: tuple[int, ...] = SHAPE, dtype: str = "u2") -> NDArray[Any]:
    return np.random.default_rng(4).integers(0, 200, shape).astype(dtype)


def along_the_normal(
    array: NDArray[Any], affine: NDArray[np.float64]
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return the volume with its slices numbered along the normal."""
    if np.linalg.det(affine[:3, :3]) > 0:
        return array, affine
    turned = affine.copy()
    turned[:3, 3] += affine[:3, 2] * (array.shape[2] - 1)
    turned[:3, 2] *= -1
    return array[:, :, ::-1], turned


def assert_is(path: Path, array: NDArray[Any], affine: NDArray[np.float64]) -> None:
    volume = read_dicom(path)
    expected, place = along_the_normal(array, affine)
    np.testing.assert_array_equal(volume.geometry.to_stored(volume.array), expected)
    np.testing.assert_allclose(volume.geometry.affine, place, atol=1e-4)
    assert volume.array.dtype == array.dtype
    assert volume.problems == ()


@settings(max_examples=25, deadline=None)
@given(oblique_affines, st.integers(2, 10), st.sampled_from(["u1", "u2", "i2"]), st.booleans())
def test_tiles_are_slices_in_place(
    tmp_path_factory: pytest.TempPathFactory,
    affine: NDArray[np.float64],
    count: int,
    dtype: str,
    protocol: bool,
) -> None:
    array = content((6, 5, count), dtype)
    path = tmp_path_factory.mktemp("m") / "m"
    assert_is(write_mosaic(path, array, affine, with_protocol=protocol), array, affine)


def test_a_compressed_mosaic_gives_the_same_slices(tmp_path: Path) -> None:
    dataset = mosaic_dataset(content(), OBLIQUE)
    dataset.compress(RLELossless)
    dataset.save_as(tmp_path / "m", enforce_file_format=True)
    assert_is(tmp_path / "m", content(), OBLIQUE)


def test_bits_and_scaling_belong_to_every_tile(tmp_path: Path) -> None:
    array = content(dtype="i2") - 100
    dataset = mosaic_dataset(array & 0x0FFF, OBLIQUE)
    dataset.BitsStored, dataset.HighBit = 12, 11
    dataset.RescaleSlope, dataset.RescaleIntercept = "0.5", "-3"
    dataset.save_as(tmp_path / "m", enforce_file_format=True)
    volume = read_dicom(tmp_path / "m")
    expected, _ = along_the_normal(array * 0.5 - 3, OBLIQUE)
    np.testing.assert_array_equal(volume.geometry.to_stored(volume.array), expected)


def test_the_protocol_knows_the_distance_better_than_the_header(tmp_path: Path) -> None:
    dataset = mosaic_dataset(content(), AXIAL)
    dataset.SpacingBetweenSlices = "9"
    dataset.save_as(tmp_path / "m", enforce_file_format=True)
    volume = read_dicom(tmp_path / "m")
    np.testing.assert_allclose(volume.geometry.affine, AXIAL, atol=1e-4)
    assert "states a spacing between slices of 9 mm" in volume.problems[0]


def test_time_points_in_one_series_are_volumes_of_their_own(tmp_path: Path) -> None:
    for number in range(3):
        dataset = mosaic_dataset(content() + number, OBLIQUE, uid="1.2.3")
        dataset.AcquisitionNumber = number + 1
        dataset.save_as(tmp_path / f"{number}", enforce_file_format=True)
    scan = scan_dicom(tmp_path)
    assert [one.description for one in scan.series] == [
        f"acquisition {number}" for number in (1, 2, 3)
    ]
    volume = read_dicom(tmp_path, scan.series[2].id)
    expected, _ = along_the_normal(content() + 2, OBLIQUE)
    np.testing.assert_array_equal(volume.geometry.to_stored(volume.array), expected)


def real(name: str, folder: Path) -> Path:
    """A file of a scanner, from the tests of nibabel."""
    try:
        packed = importlib.resources.files("nibabel.nicom.tests.data") / name
        whole = packed.read_bytes()
    except (ModuleNotFoundError, FileNotFoundError):
        pytest.skip("this build of nibabel came without its test data")
    path = folder / name.removesuffix(".gz")
    path.write_bytes(gzip.decompress(whole) if name.endswith(".gz") else whole)
    return path


@pytest.mark.parametrize(
    "name", ["siemens_dwi_0.dcm.gz", "siemens_dwi_1000.dcm.gz", "csa_slice_norm.dcm"]
)
def test_a_scanner_file_lies_where_nibabel_puts_it(tmp_path: Path, name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nibabel says that its reader is experimental
        from nibabel.nicom.dicomwrappers import wrapper_from_data
    path = real(name, tmp_path)
    dataset = pydicom.dcmread(path, force=True)
    if "PixelData" not in dataset:  # one of the files came without
        pixels = np.random.default_rng(0).integers(0, 4000, (dataset.Rows, dataset.Columns))
        dataset.add_new("PixelData", "OW", pixels.astype("u2").tobytes())
        dataset.save_as(path)
    wrapper = wrapper_from_data(dataset)
    assert type(wrapper).__name__ == "MosaicWrapper"
    volume = read_dicom(path)
    # nibabel has rows first, and LPS.
    expected = np.asarray(wrapper.get_data()).transpose(1, 0, 2)
    np.testing.assert_array_equal(volume.geometry.to_stored(volume.array), expected)
    # It takes directions as they are written, with six decimals; ours have length 1.
    affine = RAS_TO_LPS @ wrapper.affine[:, [1, 0, 2, 3]]
    np.testing.assert_allclose(volume.geometry.affine, affine, atol=5e-4)
    assert volume.problems == ()


def test_the_slices_of_a_scanner_file_lie_where_its_protocol_says(tmp_path: Path) -> None:
    """ "sSliceArray.asSlice[8].sPosition", which stands in the private header."""
    volume = read_dicom(real("siemens_dwi_0.dcm.gz", tmp_path))
    columns, rows, _ = volume.geometry.stored_shape
    centre = RAS_TO_LPS @ volume.geometry.affine @ (columns / 2, rows / 2, 8, 1)
    np.testing.assert_allclose(centre[:3], (0, -19.90448956, -55.3129226), atol=5e-5)


def test_a_real_diffusion_series_is_told_by_its_b_values(tmp_path: Path) -> None:
    for name in ("siemens_dwi_0.dcm.gz", "siemens_dwi_1000.dcm.gz"):
        real(name, tmp_path)
    with pytest.raises(SeriesChoice) as caught:
        read_dicom(tmp_path)
    assert [one[8:] for one in caught.value.ids] == ["-b-0", "-b-1000"]


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        ({"NumberOfImagesInMosaic": ("US", [])}, "how many"),
        ({"SliceNormalVector": ("FD", [])}, "which way round"),
        ({"SliceNormalVector": ("FD", [1, 0])}, "private header is damaged"),
        ({"SliceNormalVector": ("FD", [1, 0, 0])}, "two orientations"),
        ({"SliceNormalVector": ("FD", ["nan", 0, 0])}, "two orientations"),
        ({"SliceNormalVector": ("FD", [0, 0, -1])}, "disagree"),
        ({"NumberOfImagesInMosaic": ("US", [17])}, "17 slices do not fit"),
    ],
)
def test_a_header_that_does_not_say_enough_is_refused(
    tmp_path: Path, image: dict[str, Any], sentence: str
) -> None:
    write_mosaic(tmp_path / "m", content(), AXIAL, image=image)
    with pytest.raises(VolumeError, match=sentence) as caught:
        read_dicom(tmp_path / "m")
    assert "Siemens mosaic" in caught.value.sentence


def test_without_its_private_header_a_mosaic_is_refused(tmp_path: Path) -> None:
    dataset = mosaic_dataset(content(), AXIAL)
    dataset.remove_private_tags()
    dataset.save_as(tmp_path / "m", enforce_file_format=True)
    with pytest.raises(VolumeError, match="Siemens mosaic"):
        read_dicom(tmp_path / "m")


def test_without_any_distance_a_mosaic_is_refused(tmp_path: Path) -> None:
    dataset = mosaic_dataset(content(), AXIAL, with_protocol=False)
    del dataset.SpacingBetweenSlices
    dataset.save_as(tmp_path / "m", enforce_file_format=True)
    with pytest.raises(VolumeError, match="how far they are apart"):
        read_dicom(tmp_path / "m")


@pytest.mark.parametrize("cut", [0, 3, 40, 120, 300])
def test_a_damaged_private_header_is_refused(tmp_path: Path, cut: int) -> None:
    dataset = mosaic_dataset(content(), AXIAL)
    dataset[0x00291010].value = dataset[0x00291010].value[:cut]
    dataset.save_as(tmp_path / "m", enforce_file_format=True)
    with pytest.raises(VolumeError, match="Siemens mosaic"):
        read_dicom(tmp_path / "m")


def test_absurd_counts_in_the_private_header_take_no_memory(tmp_path: Path) -> None:
    dataset = mosaic_dataset(content(), AXIAL)
    whole = bytearray(csa({"NumberOfImagesInMosaic": ("US", [7])}))
    for at in (8, 84, 96, 100):
        whole[at : at + 4] = b"\xff\xff\xff\x7f"
        dataset[0x00291010].value = bytes(whole)
        dataset.save_as(tmp_path / "m", enforce_file_format=True)
        with pytest.raises(VolumeError, match="Siemens mosaic"):
            read_dicom(tmp_path / "m")


def test_nothing_private_is_told_or_saved(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    volume = read_dicom(write_mosaic(tmp_path / "m", content(), OBLIQUE))
    write_nifti(tmp_path / "a.nii", volume.array, volume.geometry)
    told = repr(volume) + str(volume.problems) + repr(scan_dicom(tmp_path / "m").series[0].stack)
    assert "CANARY" not in told + caplog.text
    assert b"CANARY" not in (tmp_path / "a.nii").read_bytes()


def test_labels_on_a_mosaic_become_a_segmentation_in_place(tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    write_mosaic(tmp_path / "m", np.zeros((7, 6, 5), np.int16), OBLIQUE)
    write_dicom_seg(tmp_path / "seg.dcm", label_map(drawn(), OBLIQUE), tmp_path / "m")
    check(tmp_path / "seg.dcm", drawn(), OBLIQUE)
