"""Pairs, Analyze, NIfTI-2, MGH and series of volumes: each where nibabel puts it."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from napari_dante.errors import SeriesChoice, VolumeError
from napari_dante.volume import describe, open_labels, open_volume, write_nifti
from tests.volume.grids import float32, rotation, straight_affine

SHAPE = (5, 4, 3)
OBLIQUE = float32(rotation(12, -7, 20) @ straight_affine("LSA"))


def content(shape: tuple[int, ...] = SHAPE, dtype: str = "i2") -> NDArray[np.generic]:
    return np.random.default_rng(1).integers(0, 200, shape).astype(dtype)


KINDS = {
    "a.nii": nib.Nifti1Image,
    "a.nii.gz": nib.Nifti1Image,
    "two.nii": nib.Nifti2Image,
    "two.nii.gz": nib.Nifti2Image,
    "pair.hdr": nib.Nifti1Pair,
    "pair.img": nib.Nifti1Pair,
    "pair.img.gz": nib.Nifti1Pair,
    "pair2.hdr": nib.Nifti2Pair,
    "a.mgh": nib.MGHImage,
    "a.mgz": nib.MGHImage,
}


@pytest.mark.parametrize("dtype", ["u1", "i2", "f4"])
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_opens_exactly_and_is_saved_in_place(
    tmp_path: Path, name: str, dtype: str
) -> None:
    path = tmp_path / name
    image = KINDS[name](content(dtype=dtype), OBLIQUE)
    image.to_filename(path)
    volume = open_volume(path)
    assert volume.array.dtype == np.dtype(dtype)
    assert volume.problems == ()
    np.testing.assert_array_equal(volume.geometry.to_stored(volume.array), content(dtype=dtype))
    np.testing.assert_array_equal(volume.geometry.affine, image.header.get_best_affine())
    (info,) = describe(path).volumes
    assert (info.id, info.shape) == ("1", SHAPE)
    write_nifti(tmp_path / "again.nii", volume.array, volume.geometry)
    np.testing.assert_allclose(nib.load(tmp_path / "again.nii").affine, OBLIQUE, atol=1e-4)


def test_a_pair_opens_by_either_half_and_says_which_is_missing(tmp_path: Path) -> None:
    nib.Nifti1Pair(content(), OBLIQUE).to_filename(tmp_path / "CANARY.hdr")
    header, voxels = tmp_path / "CANARY.hdr", tmp_path / "CANARY.img"
    np.testing.assert_array_equal(open_volume(header).array, open_volume(voxels).array)
    moved = voxels.rename(tmp_path / "elsewhere")
    with pytest.raises(VolumeError, match=r"its \.img is not here"):
        open_volume(header)
    moved.rename(voxels)
    header.unlink()
    with pytest.raises(VolumeError, match=r"its \.hdr is not here") as refusal:
        open_volume(voxels)
    assert "CANARY" not in repr(refusal.value)


@pytest.mark.parametrize("big", [False, True])
def test_analyze_opens_and_owns_up_to_the_guess(tmp_path: Path, big: bool) -> None:
    header = nib.Spm2AnalyzeImage.header_class(endianness=">" if big else "<")
    header.set_data_dtype(np.int16)
    affine = np.diag([-2.0, 3.0, 4.0, 1.0])
    nib.Spm2AnalyzeImage(content(), affine, header).to_filename(tmp_path / "a.img")
    (tmp_path / "a.mat").unlink(missing_ok=True)
    volume = open_volume(tmp_path / "a.hdr")
    np.testing.assert_array_equal(volume.geometry.to_stored(volume.array), content())
    assert volume.geometry.stored_spacing == (2, 3, 4)
    np.testing.assert_array_equal(volume.geometry.affine, nib.load(tmp_path / "a.img").affine)
    assert "left and right are a guess" in volume.problems[0]
    assert describe(tmp_path / "a.img").volumes[0].description == "Analyze, int16"


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mgz", "a.img"])
def test_a_series_of_volumes_asks_which_one(tmp_path: Path, name: str) -> None:
    array = content((*SHAPE, 4))
    kind = {"a.mgz": nib.MGHImage, "a.img": nib.Nifti1Pair}.get(name, nib.Nifti1Image)
    path = tmp_path / name
    kind(array, OBLIQUE).to_filename(path)
    infos = describe(path).volumes
    assert [one.id for one in infos] == ["1", "2", "3", "4"]
    assert infos[2].description.endswith("volume 3 of 4")
    with pytest.raises(SeriesChoice, match="1 to 4") as choice:
        open_volume(path)
    assert choice.value.ids == ("1", "2", "3", "4")
    for number, one in enumerate(infos):
        volume = open_volume(path, one.id)
        stored = volume.geometry.to_stored(volume.array)
        np.testing.assert_array_equal(stored, array[..., number])
        assert volume.geometry.stored_shape == one.shape
    for wrong in ("0", "5", "-1", "x", "²"):
        with pytest.raises(VolumeError, match="no such series here; there is: 1 to 4"):
            open_volume(path, wrong)
    with pytest.raises(VolumeError, match="4 volumes; save the labels"):
        open_labels(path)


def test_volumes_of_more_axes_are_numbered_in_stored_order(tmp_path: Path) -> None:
    array = content((*SHAPE, 2, 3))
    nib.Nifti1Image(array, OBLIQUE).to_filename(tmp_path / "a.nii")
    volume = open_volume(tmp_path / "a.nii", "4")
    np.testing.assert_array_equal(volume.geometry.to_stored(volume.array), array[..., 1, 1])


def test_scaling_and_lost_numbers_belong_to_the_volume_chosen(tmp_path: Path) -> None:
    array = content((*SHAPE, 2), "f4")
    array[0, 0, 0, 1], array[1, 1, 1, 1] = np.nan, np.inf
    nib.Nifti1Image(array, OBLIQUE).to_filename(tmp_path / "a.nii")
    assert open_volume(tmp_path / "a.nii", "1").problems == ()
    assert "2 voxels held no number" in open_volume(tmp_path / "a.nii", "2").problems[0]


def test_a_cut_series_is_refused_whichever_volume_is_asked_for(tmp_path: Path) -> None:
    nib.Nifti1Image(content((*SHAPE, 3)), OBLIQUE).to_filename(tmp_path / "a.nii.gz")
    whole = gzip.decompress((tmp_path / "a.nii.gz").read_bytes())
    for cut in ((tmp_path / "a.nii"), (tmp_path / "b.nii")):
        cut.write_bytes(whole[:-1])
        with pytest.raises(VolumeError, match="damaged or cut short"):
            open_volume(cut, "1")
    (tmp_path / "c.nii.gz").write_bytes((tmp_path / "a.nii.gz").read_bytes()[:-9])
    for read in (describe, lambda path: open_volume(path, "1")):
        with pytest.raises(VolumeError, match="damaged or cut short"):
            read(tmp_path / "c.nii.gz")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dims", [[3, 10000, 10000, 10000, 1, 1, 1, 1], [7, *[32767] * 7]])
def test_a_header_that_claims_a_million_million_voxels_takes_no_memory(
    tmp_path: Path, dims: list[int], packed: bool
) -> None:
    image = nib.Nifti1Image(content(), OBLIQUE)
    image.header["dim"] = dims
    voxels: Any = content().tobytes()
    raw = image.header.binaryblock + bytes(4) + voxels
    path = tmp_path / "a.nii"
    path.write_bytes(gzip.compress(raw) if packed else raw)
    tracemalloc.start()
    try:
        with pytest.raises(VolumeError):
            open_volume(path)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()
