from __future__ import annotations

import random
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import DTypeLike, NDArray
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    JPEGLSLossless,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    generate_uid,
)

from napari_dante.errors import SeriesChoice, VolumeError
from napari_dante.volume import (
    Geometry,
    Volume,
    read_dicom,
    read_nifti,
    scan_dicom,
    write_nifti,
)
from tests.volume.dicom_series import write_series
from tests.volume.grids import oblique_affines, rotation, straight_affine

CANARY = "CANARY"
SHAPE = (7, 6, 5)

AXIAL = straight_affine("LPS")
PLACES = {
    "axial": AXIAL,
    "axial, last slice first": straight_affine("LPI"),
    "sagittal": straight_affine("PIL"),
    "coronal": straight_affine("LIP"),
    "head first, turned": rotation(12, -7, 20) @ AXIAL,
    "oblique coronal": rotation(-25, 5, 0) @ straight_affine("LIP"),
}


def noise(shape: tuple[int, int, int] = SHAPE, dtype: DTypeLike = np.uint16) -> NDArray[np.generic]:
    return np.random.default_rng(7).integers(0, 200, shape).astype(dtype)


def assert_same_place(one: Volume, other: Volume) -> None:
    np.testing.assert_array_equal(one.array, other.array)
    np.testing.assert_allclose(one.geometry.scale, other.geometry.scale, atol=1e-4)
    np.testing.assert_allclose(one.geometry.translate, other.geometry.translate, atol=1e-4)
    np.testing.assert_allclose(
        one.geometry.display_affine, other.geometry.display_affine, atol=1e-4
    )


def refusal(folder: Path) -> str:
    """The sentence that refuses the only series of a folder, by scan and by read."""
    scan = scan_dicom(folder)
    assert scan.series == []
    with pytest.raises(VolumeError) as error:
        read_dicom(folder)
    assert [one.why for one in scan.refused] == [error.value.sentence]
    return error.value.sentence


@pytest.mark.parametrize("affine", PLACES.values(), ids=PLACES.keys())
@pytest.mark.parametrize("seed", [None, 1, 2])
def test_a_shuffled_folder_is_the_nifti_of_the_same_volume(
    tmp_path: Path, affine: NDArray[np.float64], seed: int | None
) -> None:
    array = noise()
    write_series(tmp_path / "dicom" / "deep" / "er", array, affine, shuffle_seed=seed)
    nib.Nifti1Image(array, affine).to_filename(tmp_path / "a.nii")
    volume = read_dicom(tmp_path / "dicom")
    assert volume.array.dtype == np.uint16
    assert volume.modality == "MR"
    assert volume.problems == ()
    assert_same_place(volume, read_nifti(tmp_path / "a.nii"))


@settings(max_examples=25, deadline=None)
@given(oblique_affines, st.integers(0, 99), st.tuples(*[st.integers(2, 5)] * 3))
def test_any_placement_survives_dicom_and_then_nifti(
    affine: NDArray[np.float64], seed: int, shape: tuple[int, int, int]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_series(Path(folder, "d"), noise(shape), affine, shuffle_seed=seed)
        volume = read_dicom(Path(folder, "d"))
        write_nifti(Path(folder, "a.nii.gz"), volume.array, volume.geometry)
        again = read_nifti(Path(folder, "a.nii.gz"))
    assert volume.geometry.same_grid(again.geometry)
    np.testing.assert_array_equal(volume.array, again.array)
    shown = Geometry.from_affine(shape, affine)
    np.testing.assert_array_equal(volume.array, shown.to_display(noise(shape)))
    np.testing.assert_allclose(volume.geometry.display_affine, shown.display_affine, atol=1e-4)


def test_slices_run_along_the_normal_whatever_the_file_order(tmp_path: Path) -> None:
    """The stored frame is (columns, rows, slices), the third axis along the normal."""
    write_series(tmp_path, noise(), straight_affine("LPI"))
    geometry = read_dicom(tmp_path).geometry
    assert geometry.stored_shape == SHAPE
    assert geometry.orientation == "LPS"
    assert geometry.stored_spacing == pytest.approx((0.8, 1.1, 3.3))


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4"])
def test_whole_numbers_stay_whole_without_scaling(tmp_path: Path, dtype: str) -> None:
    array = (noise().astype(int) - (100 if "i" in dtype else 0)).astype(dtype)
    write_series(tmp_path, array, AXIAL, scaling=[(1, 0)] * 5)
    volume = read_dicom(tmp_path)
    assert volume.array.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(volume.geometry.to_stored(volume.array), array)


def test_every_slice_has_its_own_scaling(tmp_path: Path) -> None:
    scaling = [(1 + k / 4, -10.0 * k) for k in range(5)]
    write_series(tmp_path, noise(), AXIAL, scaling=scaling, shuffle_seed=3)
    volume = read_dicom(tmp_path)
    expected = noise() * np.array([s for s, _ in scaling]) + np.array([i for _, i in scaling])
    assert volume.array.dtype == np.float32
    np.testing.assert_allclose(volume.geometry.to_stored(volume.array), expected, rtol=1e-7)


def test_two_series_ask_for_a_choice(tmp_path: Path) -> None:
    first, second = generate_uid(), generate_uid()
    write_series(tmp_path / "x", noise(), AXIAL, uid=first, description="t1")
    write_series(tmp_path / "x", noise((4, 4, 3)), AXIAL, uid=second, description="t2")
    scan = scan_dicom(tmp_path)
    assert scan.refused == []
    assert sorted(one.description for one in scan.series) == ["t1", "t2"]
    with pytest.raises(SeriesChoice) as choice:
        read_dicom(tmp_path)
    assert choice.value.ids == tuple(one.id for one in scan.series)
    for one in scan.series:
        assert one.id in choice.value.sentence
        assert read_dicom(tmp_path, one.id).geometry == one.geometry
        assert len(one.id) == 8
    assert first not in choice.value.sentence + repr(scan)
    with pytest.raises(VolumeError, match="no such series"):
        read_dicom(tmp_path, CANARY)


def test_series_ids_do_not_depend_on_the_folder(tmp_path: Path) -> None:
    uid = generate_uid()
    write_series(tmp_path / "a", noise(), AXIAL, uid=uid)
    write_series(tmp_path / "b" / "c", noise(), AXIAL, uid=uid, shuffle_seed=1)
    assert scan_dicom(tmp_path / "a").series[0].id == scan_dicom(tmp_path / "b").series[0].id


def test_a_bad_series_does_not_hide_a_good_one(tmp_path: Path) -> None:
    write_series(tmp_path, noise(), AXIAL, skip=[2])
    write_series(tmp_path, noise((4, 4, 3)), AXIAL)
    scan = scan_dicom(tmp_path)
    assert [one.geometry.stored_shape for one in scan.series] == [(4, 4, 3)]
    assert "missing" in scan.refused[0].why
    assert read_dicom(tmp_path).geometry.stored_shape == (4, 4, 3)
    bad = scan.refused[0].what.removeprefix("series ")
    with pytest.raises(VolumeError, match="missing"):
        read_dicom(tmp_path, bad)


def test_a_missing_slice_is_named_with_its_place(tmp_path: Path) -> None:
    affine = straight_affine("LPS", (1, 1, 4), (0, 0, -7))
    write_series(tmp_path, noise((4, 4, 24)), affine, skip=[11], shuffle_seed=5)
    assert refusal(tmp_path) == (
        "Slice 12 of 24 is missing between 33.0 and 41.0 mm; the series was not opened."
    )


def test_several_missing_slices_are_counted(tmp_path: Path) -> None:
    write_series(tmp_path, noise((4, 4, 12)), AXIAL, skip=[3, 4, 8])
    assert refusal(tmp_path).startswith("3 of 12 slices are missing, the first is slice 4 ")


@settings(max_examples=20, deadline=None)
@given(st.integers(3, 9), st.data())
def test_any_missing_inner_slice_is_noticed(count: int, data: st.DataObject) -> None:
    hole = data.draw(st.integers(1, count - 2))
    if count == 3:
        return
    with tempfile.TemporaryDirectory() as folder:
        write_series(Path(folder), noise((3, 3, count)), AXIAL, skip=[hole])
        assert refusal(Path(folder)).startswith(f"Slice {hole + 1} of {count} is missing")


def test_missing_end_slices_are_reported_where_the_scanner_counted(tmp_path: Path) -> None:
    write_series(tmp_path, noise(), AXIAL, skip=[4], tags={"ImagesInAcquisition": 5})
    (problem,) = read_dicom(tmp_path).problems
    assert "announces 5 images in this acquisition, 4 are" in problem


@pytest.mark.parametrize(
    ("group", "creator", "element", "kind"),
    [(0x21, "GEMS_RELA_01", 0x4F, "SS"), (0x2001, "Philips Imaging DD 001", 0x18, "SL")],
    ids=["General Electric", "Philips"],
)
@pytest.mark.parametrize("skip", [0, 4])
def test_missing_end_slices_are_reported_where_the_scanner_planned_them(
    tmp_path: Path, group: int, creator: str, element: int, kind: str, skip: int
) -> None:
    for path in write_series(tmp_path, noise(), AXIAL, skip=[skip]):
        dataset = pydicom.dcmread(path)
        dataset.private_block(group, creator, create=True).add_new(element, kind, 5)
        dataset.save_as(path)
    volume = read_dicom(tmp_path)
    assert volume.problems == (
        "The scanner planned 5 slices, 4 are here; slices may be missing at the ends.",
    )
    for path in tmp_path.iterdir():
        dataset = pydicom.dcmread(path)
        dataset[group << 16 | 0x10].value = "SOMEBODY ELSE"
        dataset.save_as(path)
    assert read_dicom(tmp_path).problems == ()


def test_announced_images_of_all_volumes_of_a_series_count(tmp_path: Path) -> None:
    """Eight echoes of five slices are the forty images that the scanner announced."""
    uid = generate_uid()
    for echo in range(8):
        tags = {"EchoTime": 1.0 + echo, "ImagesInAcquisition": 40}
        write_series(tmp_path / str(echo), noise(), AXIAL, uid=uid, tags=tags)
    scan = scan_dicom(tmp_path)
    assert [one.problems for one in scan.series] == [()] * 8


@pytest.mark.parametrize("affine", PLACES.values(), ids=PLACES.keys())
def test_instance_numbers_that_run_backwards_change_nothing(
    tmp_path: Path, affine: NDArray[np.float64]
) -> None:
    for number, path in enumerate(write_series(tmp_path, noise(), affine)):
        edit(path, InstanceNumber=99 - number, SliceLocation=-number)
    volume = read_dicom(tmp_path)
    shown = Geometry.from_affine(SHAPE, affine)
    np.testing.assert_array_equal(volume.array, shown.to_display(noise()))
    np.testing.assert_allclose(volume.geometry.display_affine, shown.display_affine, atol=1e-4)


def test_a_slice_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    paths = write_series(tmp_path, noise(), AXIAL)
    (tmp_path / "copy").write_bytes(paths[2].read_bytes())
    assert refusal(tmp_path) == "The slice at 14.3 mm is there 2 times; the series was not opened."


def test_copies_of_every_slice_are_refused(tmp_path: Path) -> None:
    uid = generate_uid()
    for copy in (1, 2, 3):
        write_series(tmp_path / str(copy), noise(), AXIAL, uid=uid)
    assert "Every slice position is there 3 times" in refusal(tmp_path)


def test_uneven_gaps_are_refused(tmp_path: Path) -> None:
    paths = write_series(tmp_path, noise(), AXIAL)
    edit(paths[4], ImagePositionPatient=[12.5, -31.25, 7.75 + 4 * 3.3 + 0.5])
    assert "uneven: 3.80 mm after 17.6 mm, elsewhere 3.30 mm" in refusal(tmp_path)


@pytest.mark.parametrize("gap", [3.333, 0.556])
def test_rounded_positions_are_not_uneven(tmp_path: Path, gap: float) -> None:
    for k, path in enumerate(write_series(tmp_path, noise(), AXIAL)):
        edit(path, ImagePositionPatient=[12.5, -31.25, round(7.75 + k * gap, 2)])
    assert read_dicom(tmp_path).geometry.stored_spacing[2] == pytest.approx(gap, abs=0.01)


def test_a_crooked_stack_is_refused(tmp_path: Path) -> None:
    paths = write_series(tmp_path, noise(), AXIAL)
    edit(paths[2], ImagePositionPatient=[14.5, -31.25, 7.75 + 2 * 3.3])
    assert "one line" in refusal(tmp_path)


def test_slanted_slices_open_with_their_true_affine_and_a_note(tmp_path: Path) -> None:
    affine = AXIAL.copy()
    affine[1, 2] = 0.6
    write_series(tmp_path, noise(), affine)
    volume = read_dicom(tmp_path)
    np.testing.assert_allclose(volume.geometry.affine, affine, atol=1e-6)
    assert "slanted by 10.3 degrees" in volume.problems[0]


@pytest.mark.parametrize(
    ("tags", "sentence"),
    [
        ({"ImagePositionPatient": None}, "where they lie"),
        ({"ImageOrientationPatient": None}, "where they lie"),
        ({"PixelSpacing": None}, "where they lie"),
        ({"PixelSpacing": [0, 1]}, "spacing of zero"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "impossible orientation"),
        ({"ImageOrientationPatient": [1, 0, 0]}, "cannot be read"),
        ({"RescaleSlope": 0}, "slope of zero"),
        ({"RescaleSlope": 1e30}, "impossible rescaling"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "colour"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "colour"),
        ({"NumberOfFrames": 4}, "multi-frame"),
        ({"BitsAllocated": 1}, "1 bits"),
        ({"SOPClassUID": SegmentationStorage}, "segmentation"),
        (
            {"SOPClassUID": SecondaryCaptureImageStorage, "ImagePositionPatient": None},
            "screen picture",
        ),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]}, "mosaic"),
        ({"Rows": None}, "no pictures"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_one_odd_slice_refuses_the_series(
    tmp_path: Path, tags: dict[str, object], sentence: str
) -> None:
    paths = write_series(tmp_path, noise(), AXIAL)
    edit(paths[3], **tags)
    assert sentence in refusal(tmp_path)


def edit(path: Path, **tags: object) -> None:
    dataset = pydicom.dcmread(path)
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)


def test_one_file_is_one_slice(tmp_path: Path) -> None:
    paths = write_series(tmp_path, noise(), AXIAL)
    volume = read_dicom(paths[2])
    assert volume.geometry.stored_shape == (7, 6, 1)
    assert volume.geometry.stored_spacing[2] == pytest.approx(3.3 * 0.8)
    assert "slice thickness, 2.64 mm" in volume.problems[0]
    np.testing.assert_array_equal(volume.geometry.to_stored(volume.array)[..., 0], noise()[..., 2])
    edit(paths[2], SliceThickness=None)
    assert "unknown thickness" in read_dicom(paths[2]).problems[0]


def test_a_cut_pixel_block_refuses_its_series(tmp_path: Path) -> None:
    paths = write_series(tmp_path, noise(), AXIAL)
    whole = paths[1].read_bytes()
    for lost in (1, 2, 12, 60):
        paths[1].write_bytes(whole[:-lost])
        assert "cut short" in refusal(tmp_path)


def test_a_file_cut_anywhere_never_opens_a_short_series_silently(tmp_path: Path) -> None:
    paths = write_series(tmp_path, noise(), AXIAL)
    whole = paths[4].read_bytes()
    for length in range(0, len(whole), 8):
        paths[4].write_bytes(whole[:length])
        scan = scan_dicom(tmp_path)
        if length < 132:
            continue  # nothing tells such a stub from any other file
        opened = [one for one in scan.series if one.geometry.stored_shape[2] != 5]
        assert scan.refused
        assert all(one.problems or scan.refused for one in opened)
        if any(one.what.startswith("file") for one in scan.refused):
            assert all("cannot be read: 1" in one.problems[-1] for one in opened)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_damaged_bytes_are_refused_or_read_but_never_crash(seed: int) -> None:
    dice = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        paths = write_series(Path(folder), noise((3, 3, 3)), AXIAL)
        content = bytearray(paths[1].read_bytes())
        for _ in range(dice.randint(1, 6)):
            content[dice.randrange(132, len(content))] = dice.randrange(256)
        paths[1].write_bytes(content)
        try:
            volume = read_dicom(Path(folder))
        except VolumeError:
            return
        assert volume.array.shape == volume.geometry.shape


def test_other_files_in_the_folder_are_ignored(tmp_path: Path) -> None:
    write_series(tmp_path, noise(), AXIAL)
    (tmp_path / "notes.txt").write_text("hello" * 100)
    (tmp_path / "empty.dcm").write_bytes(b"")
    (tmp_path / "zeros.bin").write_bytes(bytes(500))
    scan = scan_dicom(tmp_path)
    assert len(scan.series) == 1
    assert scan.refused == []


def test_a_folder_without_dicom_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(VolumeError, match="no DICOM images"):
        scan_dicom(tmp_path)
    with pytest.raises(VolumeError, match="does not exist"):
        read_dicom(tmp_path / CANARY)


def test_files_without_a_preamble_are_found(tmp_path: Path) -> None:
    paths = write_series(tmp_path, noise(), AXIAL)
    for path in paths:
        dataset = pydicom.dcmread(path)
        del dataset.file_meta
        dataset.preamble = None
        dataset.save_as(path, implicit_vr=True, little_endian=True, enforce_file_format=False)
        assert path.read_bytes()[128:132] != b"DICM"
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.geometry.to_stored(volume.array), noise())


def test_nothing_of_the_patient_or_the_place_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / f"{CANARY}_patient"
    tags = {
        "ReferringPhysicianName": CANARY,
        "PatientComments": CANARY,
        "InstitutionName": CANARY,
        "StudyDescription": CANARY,
        "ProtocolName": CANARY,
        "SequenceName": CANARY,
        "ImageType": ["ORIGINAL", "PRIMARY", CANARY],
    }
    paths = write_series(folder, noise(), AXIAL, description=f"{CANARY} t1", tags=tags)
    volume = read_dicom(folder)
    told = repr(volume) + repr(scan_dicom(folder)) + volume.name + str(volume.problems)
    write_nifti(tmp_path / "a.nii", volume.array, volume.geometry)
    told += (tmp_path / "a.nii").read_bytes().decode("latin1")
    told += repr([one.stack for one in scan_dicom(folder).series])
    whole = paths[2].read_bytes()
    for content in (whole[:-5], whole[:200], whole[:700], paths[1].read_bytes()):
        paths[2].write_bytes(content)
        told += repr(scan_dicom(folder))
        try:
            read_dicom(folder)
        except VolumeError as error:
            told += repr(error) + error.detail
    assert CANARY not in told
    assert str(tmp_path) not in told
    assert CANARY not in caplog.text


def test_pydicom_does_not_log_what_stands_in_a_tag(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = write_series(tmp_path, noise(), AXIAL, tags={"SpecificCharacterSet": "ISO_IR 100"})
    for path in paths:
        path.write_bytes(path.read_bytes().replace(b"ISO_IR 100", f"{CANARY} 100".encode()))
    read_dicom(tmp_path)
    assert caplog.text == ""


def test_a_missing_codec_names_the_extra_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(get_decoder(JPEGLSLossless), "_available", {})
    for path in write_series(tmp_path, noise(), AXIAL):
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = JPEGLSLossless
        dataset.PixelData = encapsulate([b"\xff\xd8\xff\xf7" + bytes(60)])
        dataset["PixelData"].is_undefined_length = True
        dataset.save_as(path)
    assert len(scan_dicom(tmp_path).series) == 1
    with pytest.raises(VolumeError, match=r'pip install "napari-dante\[dicom\]"'):
        read_dicom(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "MR_small.dcm",
        "MR_small_implicit.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_RLE.dcm",
        "MR_small_expb.dcm",
    ],
)
def test_a_scanner_file_reads_the_same_in_every_encoding(name: str) -> None:
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str)
    expected = pydicom.dcmread(str(get_testdata_file("MR_small.dcm", download=False))).pixel_array
    volume = read_dicom(path)
    np.testing.assert_array_equal(volume.geometry.to_stored(volume.array)[..., 0].T, expected)


def test_a_scanner_file_that_is_cut_is_refused() -> None:
    with pytest.raises(VolumeError, match="cut short"):
        read_dicom(str(get_testdata_file("MR_truncated.dcm", download=False)))
