from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import DTypeLike, NDArray

from napari_dante.errors import VolumeError
from napari_dante.volume import (
    Geometry,
    Label,
    default_label,
    read_nifti,
    read_nifti_labels,
    write_nifti,
)
from tests.volume.grids import (
    AXIS_ORDERS,
    float32,
    oblique_affines,
    rotation,
    shapes,
    straight_affine,
    straight_affines,
)

CANARY = "CANARY"


def save(
    path: Path, array: NDArray[np.generic], affine: NDArray[np.float64], **fields: object
) -> Path:
    """Write with nibabel alone, so that our reader meets a file we did not make."""
    image = nib.Nifti1Image(array, affine, dtype=array.dtype)
    for name, value in fields.items():
        image.header[name] = value
    image.to_filename(path)
    return path


def ramp(shape: tuple[int, ...], dtype: DTypeLike = np.int16) -> NDArray[np.generic]:
    return (np.arange(np.prod(shape)).reshape(shape) % 251 - 3).astype(dtype)


def save_qform_only(path: Path, array: NDArray[np.generic], affine: NDArray[np.float64]) -> Path:
    image = nib.Nifti1Image(array, None)
    image.header.set_qform(affine, 1)
    image.header.set_sform(None, 0)
    nib.Nifti1Image(array, None, image.header).to_filename(path)
    return path


def assert_round_trip(
    folder: Path, shape: tuple[int, int, int], affine: NDArray[np.float64], ending: str
) -> None:
    """Open and save a file: same bits, and every voxel where nibabel puts it."""
    first, second = folder / f"a{ending}", folder / f"b{ending}"
    save(first, ramp(shape), affine)
    volume = read_nifti(first)
    np.testing.assert_array_equal(volume.geometry.affine, float32(affine))
    write_nifti(second, volume.array, volume.geometry)
    before, after = nib.load(first), nib.load(second)
    assert after.get_data_dtype() == np.int16
    np.testing.assert_array_equal(np.asarray(before.dataobj), np.asarray(after.dataobj))
    np.testing.assert_array_equal(before.affine, after.affine)
    again = read_nifti(second)
    np.testing.assert_array_equal(again.array, volume.array)
    assert again.geometry == volume.geometry
    assert again.problems == volume.problems == ()
    # The place of each displayed voxel, and that of the stored voxel with its number.
    numbered = np.arange(np.prod(shape)).reshape(shape)
    stored = np.argwhere(numbered >= 0)
    shown = np.argwhere(volume.geometry.to_display(numbered) >= 0)
    order = np.argsort(volume.geometry.to_display(numbered).ravel())
    ours = nib.affines.apply_affine(volume.geometry.display_affine, shown[order])
    theirs = nib.affines.apply_affine(before.affine, stored) * (-1, -1, 1)
    np.testing.assert_allclose(ours, theirs[:, ::-1], rtol=0, atol=1e-4)


def test_48_axis_orders_come_back_bit_for_bit_where_nibabel_puts_them(tmp_path: Path) -> None:
    assert len(set(AXIS_ORDERS)) == 48
    for number, orientation in enumerate(AXIS_ORDERS):
        affine = straight_affine(orientation)
        assert_round_trip(tmp_path, (3, 4, 5), affine, (".nii", ".nii.gz")[number % 2])
        assert Geometry.from_affine((3, 4, 5), affine).orientation == orientation


@settings(max_examples=200, deadline=None)
@given(shapes, oblique_affines, st.sampled_from([".nii", ".nii.gz"]))
def test_200_oblique_volumes_come_back_bit_for_bit_where_nibabel_puts_them(
    shape: tuple[int, int, int], affine: NDArray[np.float64], ending: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        assert_round_trip(Path(folder), shape, affine, ending)


@settings(max_examples=100, deadline=None)
@given(shapes, st.one_of(straight_affines, oblique_affines))
def test_an_affine_kept_only_as_qform_comes_back_within_float32(
    shape: tuple[int, int, int], affine: NDArray[np.float64]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder, "a.nii"), Path(folder, "b.nii")
        save_qform_only(first, ramp(shape), affine)
        volume = read_nifti(first)
        write_nifti(second, volume.array, volume.geometry)
        before, after = nib.load(first).affine, nib.load(second).affine
        np.testing.assert_allclose(after, before, rtol=1e-6, atol=2e-5)


@pytest.mark.parametrize("turn", [(0, 0, 0), (12, -7, 20)], ids=["straight", "oblique"])
@pytest.mark.parametrize("orientation", AXIS_ORDERS)
def test_qform_only_files_of_every_axis_order_are_exact(
    tmp_path: Path, orientation: str, turn: tuple[float, float, float]
) -> None:
    affine = rotation(*turn) @ straight_affine(orientation)
    first = save_qform_only(tmp_path / "a.nii", ramp((3, 4, 5)), affine)
    volume = read_nifti(first)
    write_nifti(tmp_path / "b.nii", volume.array, volume.geometry)
    np.testing.assert_array_equal(nib.load(first).affine, nib.load(tmp_path / "b.nii").affine)
    assert volume.geometry.orientation == orientation


@pytest.mark.parametrize("turn", [(0, 0, 0), (10, -20, 30)], ids=["straight", "oblique"])
def test_sform_and_qform_of_a_written_file_agree(
    tmp_path: Path, turn: tuple[float, float, float]
) -> None:
    affine = float32(rotation(*turn) @ straight_affine("LSA"))
    geometry = Geometry.from_affine((3, 4, 5), affine)
    write_nifti(tmp_path / "a.nii", geometry.to_display(ramp((3, 4, 5))), geometry)
    header = nib.load(tmp_path / "a.nii").header
    sform, code = header.get_sform(coded=True)
    assert code > 0
    np.testing.assert_array_equal(sform, affine)
    qform, code = header.get_qform(coded=True)
    assert code > 0
    np.testing.assert_allclose(qform, affine, atol=1e-4)
    assert header.get_xyzt_units()[0] == "mm"


def test_a_sheared_grid_is_written_without_a_misleading_qform(tmp_path: Path) -> None:
    affine = straight_affine("RAS")
    affine[1, 2] = 1.5
    geometry = Geometry.from_affine((3, 40, 50), float32(affine))
    write_nifti(tmp_path / "a.nii", geometry.to_display(ramp((3, 40, 50))), geometry)
    image = nib.load(tmp_path / "a.nii")
    assert image.header["qform_code"] == 0
    np.testing.assert_array_equal(image.affine, geometry.affine)
    assert read_nifti(tmp_path / "a.nii").problems == ()


def test_a_file_without_a_position_says_so_and_stays_as_it_is(tmp_path: Path) -> None:
    image = nib.Nifti1Image(ramp((4, 5, 6)), None)
    image.header.set_zooms((0.8, 1.1, 3.3))
    image.to_filename(tmp_path / "a.nii")
    volume = read_nifti(tmp_path / "a.nii")
    assert any("left and right are a guess" in one for one in volume.problems)
    write_nifti(tmp_path / "b.nii", volume.array, volume.geometry)
    before, after = nib.load(tmp_path / "a.nii").affine, nib.load(tmp_path / "b.nii").affine
    np.testing.assert_array_equal(before, after)


def test_two_positions_in_one_file_are_reported_and_the_sform_wins(tmp_path: Path) -> None:
    image = nib.Nifti1Image(ramp((4, 5, 6)), None)
    image.header.set_sform(straight_affine("RAS"), 1)
    image.header.set_qform(straight_affine("LAS"), 1)
    nib.Nifti1Image(ramp((4, 5, 6)), None, image.header).to_filename(tmp_path / "a.nii")
    volume = read_nifti(tmp_path / "a.nii")
    assert volume.geometry.orientation == "RAS"
    assert volume.problems == ("The file states two different positions; its sform is used.",)


def test_lengths_in_metres_are_reported(tmp_path: Path) -> None:
    save(tmp_path / "a.nii", ramp((2, 2, 2)), straight_affine("RAS"), xyzt_units=1)
    assert "metres" in read_nifti(tmp_path / "a.nii").problems[0]


@pytest.mark.parametrize(
    "dtype", ["u1", "i1", "u2", "i2", ">i2", "i4", "u4", "i8", "f4", ">f4", "f8"]
)
def test_stored_kinds_are_kept(tmp_path: Path, dtype: str) -> None:
    array = ramp((3, 4, 5), dtype)
    image = nib.Nifti1Image(array, np.eye(4), dtype=np.dtype(dtype).newbyteorder("="))
    if dtype.startswith(">"):
        image = nib.Nifti1Image(array, np.eye(4), image.header.as_byteswapped(">"))
    image.to_filename(tmp_path / "a.nii.gz")
    volume = read_nifti(tmp_path / "a.nii.gz")
    assert volume.array.dtype == np.dtype(dtype).newbyteorder("=")
    assert volume.array.dtype.isnative
    np.testing.assert_array_equal(volume.geometry.to_stored(volume.array), array)
    assert volume.array.flags.writeable


@pytest.mark.parametrize(("dtype", "expected"), [("i2", "f4"), ("u1", "f4"), ("i4", "f8")])
def test_scaling_is_honoured(tmp_path: Path, dtype: str, expected: str) -> None:
    raw = ramp((3, 4, 5), dtype)
    save(tmp_path / "a.nii", raw, np.eye(4))
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[112:120] = np.array([3.77, -11.5], "<f4").tobytes()
    (tmp_path / "a.nii").write_bytes(content)
    volume = read_nifti(tmp_path / "a.nii")
    theirs = nib.load(tmp_path / "a.nii").get_fdata()
    assert volume.array.dtype == np.dtype(expected)
    assert theirs.max() > 190
    np.testing.assert_allclose(volume.geometry.to_stored(volume.array), theirs, rtol=1e-7)


def test_what_is_no_number_becomes_zero_and_is_counted(tmp_path: Path) -> None:
    array = ramp((3, 4, 5), np.float32)
    array[0, 0, 0], array[1, 2, 3], array[2, 3, 4] = np.nan, np.inf, -np.inf
    save(tmp_path / "a.nii", array, np.eye(4))
    volume = read_nifti(tmp_path / "a.nii")
    stored = volume.geometry.to_stored(volume.array)
    assert volume.problems == ("3 voxels held no number (NaN or infinity) and were set to 0.",)
    expected = np.nan_to_num(array, nan=0, posinf=0, neginf=0)
    np.testing.assert_array_equal(stored, expected)


@pytest.mark.parametrize("extra", [(), (1,), (1, 1)])
def test_trailing_single_axes_are_dropped(tmp_path: Path, extra: tuple[int, ...]) -> None:
    save(tmp_path / "a.nii", ramp((3, 4, 5, *extra)), straight_affine("LSA"))
    assert read_nifti(tmp_path / "a.nii").geometry.stored_shape == (3, 4, 5)


def test_a_flat_picture_is_one_slice(tmp_path: Path) -> None:
    save(tmp_path / "a.nii", ramp((3, 4)), straight_affine("RAS"))
    assert read_nifti(tmp_path / "a.nii").geometry.stored_shape == (3, 4, 1)


def test_several_volumes_are_counted_and_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.nii", ramp((3, 4, 5, 7)), np.eye(4))
    with pytest.raises(VolumeError, match="holds 7 volumes"):
        read_nifti(tmp_path / "a.nii")
    save(tmp_path / "b.nii", ramp((3, 4, 5, 1, 3)), np.eye(4))
    with pytest.raises(VolumeError, match="holds 3 volumes"):
        read_nifti_labels(tmp_path / "b.nii")


def test_colour_and_complex_are_refused(tmp_path: Path) -> None:
    colour = np.zeros((3, 4, 5), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    save(tmp_path / "a.nii", colour, np.eye(4))
    with pytest.raises(VolumeError, match="colour"):
        read_nifti(tmp_path / "a.nii")
    save(tmp_path / "b.nii", np.zeros((3, 4, 5), np.complex64), np.eye(4))
    with pytest.raises(VolumeError, match="complex"):
        read_nifti(tmp_path / "b.nii")


def test_nifti_2_and_a_wrong_ending_are_read(tmp_path: Path) -> None:
    array = ramp((3, 4, 5))
    nib.Nifti2Image(array, straight_affine("LSA")).to_filename(tmp_path / "a.nii")
    (tmp_path / "no_ending").write_bytes(gzip.compress((tmp_path / "a.nii").read_bytes()))
    volume = read_nifti(tmp_path / "no_ending")
    np.testing.assert_array_equal(volume.geometry.to_stored(volume.array), array)
    assert volume.geometry.orientation == "LSA"


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_file_cut_anywhere_is_refused_in_one_sentence(tmp_path: Path, ending: str) -> None:
    whole = save(tmp_path / f"a{ending}", ramp((8, 9, 10)), np.eye(4)).read_bytes()
    cut = tmp_path / f"{CANARY}{ending}"
    for length in [0, 1, 2, 9, 20, 100, 347, 351, len(whole) // 2, len(whole) - 9, len(whole) - 1]:
        cut.write_bytes(whole[:length])
        with pytest.raises(VolumeError) as refusal:
            read_nifti(cut)
        assert CANARY not in repr(refusal.value) + refusal.value.detail
        assert refusal.value.sentence.count(".") == 1
        assert refusal.value.__suppress_context__ or refusal.value.__context__ is None


def test_one_flipped_bit_in_a_packed_file_is_noticed(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 4000, (16, 16, 16), dtype=np.int16)
    path = save(tmp_path / "a.nii.gz", noise, np.eye(4))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    with pytest.raises(VolumeError, match="damaged"):
        read_nifti(path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "empty"),
        (b"hello, this is a text", "not a NIfTI"),
        (b"\x89PNG" + bytes(1000), "not a NIfTI"),
        (b"\x1f\x8bnot really packed", "damaged"),
        (gzip.compress(b"text" * 500, mtime=0), "not a NIfTI"),
        ((348).to_bytes(4, "little") + bytes(10), "damaged"),
    ],
)
def test_other_content_is_refused(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.raises(VolumeError, match=sentence):
        read_nifti(tmp_path / "a.nii")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 351), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_header_is_read_or_refused_but_never_crashes(
    damage: list[tuple[int, int]],
) -> None:
    geometry = Geometry.from_affine((3, 4, 5), straight_affine("LSA"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.nii")
        write_nifti(path, geometry.to_display(ramp((3, 4, 5))), geometry)
        content = bytearray(path.read_bytes())
        for place, value in damage:
            content[place] = value
        path.write_bytes(content)
        try:
            volume = read_nifti(path)
        except VolumeError:
            return
        assert volume.array.shape == volume.geometry.shape


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match=r"^The file does not exist\.$"):
        read_nifti(tmp_path / CANARY)
    with pytest.raises(VolumeError, match="folder"):
        read_nifti(tmp_path)


def test_a_zero_spacing_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", ramp((3, 4, 5)), np.eye(4))
    content = bytearray(path.read_bytes())
    content[280:296] = bytes(16)
    path.write_bytes(content)
    with pytest.raises(VolumeError, match="same place"):
        read_nifti(path)


LABELS = {1: Label("Femur, distal", (1.0, 0.5, 0.25)), 7: Label("ménisque", (0.0, 0.1, 0.2))}


@pytest.mark.parametrize("orientation", ["RAS", "LSA", "PIR"])
def test_labels_come_back_with_names_and_colours(tmp_path: Path, orientation: str) -> None:
    geometry = Geometry.from_affine((4, 5, 6), float32(straight_affine(orientation)))
    array = geometry.to_display(ramp((4, 5, 6), np.int64) % 9)
    write_nifti(tmp_path / "a.nii.gz", array, geometry, LABELS)
    labels = read_nifti_labels(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(labels.array, array)
    assert labels.array.dtype == np.uint8
    assert labels.geometry == geometry
    assert {value: labels.labels[value] for value in LABELS} == LABELS
    assert labels.labels[2] == default_label(2)
    assert list(labels.labels) == list(range(1, 9))
    assert nib.load(tmp_path / "a.nii.gz").header.get_intent()[0] == "label"


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 255, "u1"), (0, 256, "i2"), (-1, 3, "i2"), (0, 32768, "i4"), (0, 2**31 - 1, "i4")],
)
def test_labels_are_stored_in_the_smallest_kind(
    tmp_path: Path, low: int, high: int, expected: str
) -> None:
    geometry = Geometry.from_affine((1, 1, 2), np.eye(4))
    array = np.array([low, high], dtype=np.int64).reshape(geometry.shape)
    write_nifti(tmp_path / "a.nii", array, geometry, {})
    image = nib.load(tmp_path / "a.nii")
    assert image.get_data_dtype() == np.dtype(expected)
    assert sorted(np.asarray(image.dataobj).ravel().tolist()) == [low, high]
    np.testing.assert_array_equal(read_nifti_labels(tmp_path / "a.nii").array, array)


def test_labels_stored_as_fractions_of_one_are_refused(tmp_path: Path) -> None:
    whole = ramp((3, 4, 5), np.float32)
    save(tmp_path / "a.nii", whole, np.eye(4))
    labels = read_nifti_labels(tmp_path / "a.nii")
    np.testing.assert_array_equal(labels.geometry.to_stored(labels.array), whole)
    for wrong in (0.5, np.nan, 3e9):
        whole[1, 1, 1] = wrong
        save(tmp_path / "a.nii", whole, np.eye(4))
        with pytest.raises(VolumeError):
            read_nifti_labels(tmp_path / "a.nii")


@pytest.mark.parametrize(
    "table", [b"{}", b"[1]", b"napari-dante labels", b'{"napari-dante labels": [{}]}']
)
def test_a_broken_label_table_costs_only_the_names(tmp_path: Path, table: bytes) -> None:
    image = nib.Nifti1Image(ramp((2, 2, 2), np.uint8), np.eye(4))
    image.header.extensions.append(nib.nifti1.Nifti1Extension(6, table))
    image.to_filename(tmp_path / "a.nii")
    labels = read_nifti_labels(tmp_path / "a.nii")
    assert labels.labels[1] == default_label(1)
    assert bool(labels.problems) == (b"napari-dante" in table)


def test_written_bytes_hold_nothing_of_the_source(tmp_path: Path) -> None:
    folder = tmp_path / f"{CANARY}_folder"
    folder.mkdir()
    source = save(
        folder / f"{CANARY}.nii",
        ramp((3, 4, 5)),
        np.eye(4),
        descrip=f"{CANARY} descrip",
        aux_file=f"{CANARY} aux",
        db_name=CANARY,
        intent_name=CANARY,
    )
    volume = read_nifti(source)
    assert CANARY not in repr(volume)
    target = folder / f"{CANARY}_out.nii.gz"
    write_nifti(target, volume.array, volume.geometry)
    assert CANARY.encode() not in target.read_bytes()
    assert CANARY.encode() not in gzip.decompress(target.read_bytes())
    assert str(tmp_path).encode() not in gzip.decompress(target.read_bytes())
    first = target.read_bytes()
    write_nifti(target, volume.array, volume.geometry)
    assert target.read_bytes() == first
    assert sorted(one.name for one in folder.iterdir()) == [f"{CANARY}.nii", target.name]


def test_a_refused_write_leaves_the_old_file(tmp_path: Path) -> None:
    geometry = Geometry.from_affine((2, 2, 2), np.eye(4))
    target = tmp_path / "a.nii"
    target.write_bytes(b"precious")
    for wrong in (np.zeros((2, 2, 2), complex), np.zeros((2, 2, 3))):
        with pytest.raises(VolumeError):
            write_nifti(target, wrong, geometry)
    with pytest.raises(VolumeError, match="whole numbers"):
        write_nifti(target, np.full((2, 2, 2), 0.5), geometry, {})
    with pytest.raises(VolumeError, match=r"\.nii or \.nii\.gz"):
        write_nifti(tmp_path / "a.mgz", np.zeros((2, 2, 2)), geometry)
    assert target.read_bytes() == b"precious"
    assert [one.name for one in tmp_path.iterdir()] == ["a.nii"]


def test_a_disk_that_refuses_gives_a_sentence_without_the_path(tmp_path: Path) -> None:
    blocked = tmp_path / CANARY
    blocked.write_bytes(b"a file where a folder should be")
    geometry = Geometry.from_affine((2, 2, 2), np.eye(4))
    with pytest.raises(VolumeError, match="could not be saved") as refusal:
        write_nifti(blocked / "a.nii", np.zeros((2, 2, 2)), geometry)
    assert CANARY not in refusal.value.sentence + refusal.value.detail


@pytest.mark.parametrize(("given", "stored"), [(np.bool_, np.uint8), (np.float16, np.float32)])
def test_kinds_a_nifti_does_not_know_are_widened(
    tmp_path: Path, given: DTypeLike, stored: DTypeLike
) -> None:
    geometry = Geometry.from_affine((2, 2, 2), np.eye(4))
    write_nifti(tmp_path / "a.nii", np.ones((2, 2, 2), given), geometry)
    volume = read_nifti(tmp_path / "a.nii")
    assert volume.array.dtype == stored
    assert (volume.array == 1).all()


def test_the_label_table_is_plain_json_in_a_comment(tmp_path: Path) -> None:
    geometry = Geometry.from_affine((2, 2, 2), np.eye(4))
    write_nifti(tmp_path / "a.nii", np.ones((2, 2, 2), np.uint8), geometry, LABELS)
    (extension,) = nib.load(tmp_path / "a.nii").header.extensions
    assert extension.get_code() == 6
    table = json.loads(extension.content)["napari-dante labels"]
    assert table[0] == {"value": 1, "name": "Femur, distal", "colour": [1.0, 0.5, 0.25]}
