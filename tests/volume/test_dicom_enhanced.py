"""Enhanced multi-frame files open on the grid of their per-frame functional groups."""

from __future__ import annotations

import gzip
import importlib.util
import warnings
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.encaps import encapsulate
from pydicom.uid import RLELossless

from napari_dante.errors import VolumeError
from napari_dante.volume import Geometry, read_dicom, scan_dicom
from tests.volume.dicom_series import RAS_TO_LPS
from tests.volume.enhanced import write_enhanced
from tests.volume.grids import oblique_affines, rotation, straight_affine

AXIAL = straight_affine("LPS")
OBLIQUE = rotation(12, -7, 20) @ AXIAL
SHAPE = (6, 5, 7)


def content(seed: int, dtype: str = "u2") -> NDArray[Any]:
    return np.random.default_rng(seed).integers(0, 200, SHAPE).astype(dtype)


@settings(max_examples=25, deadline=None)
@given(oblique_affines, st.integers(0, 99), st.booleans(), st.sampled_from(["u1", "u2", "i2"]))
def test_frames_in_any_order_are_one_volume_in_place(
    tmp_path_factory: pytest.TempPathFactory,
    affine: NDArray[np.float64],
    seed: int,
    shared: bool,
    dtype: str,
) -> None:
    path = tmp_path_factory.mktemp("e") / "e"
    array = content(seed, dtype)
    write_enhanced(path, [(array, affine)], shuffle_seed=seed, shared_plane=shared)
    volume = read_dicom(path)
    stored = volume.geometry.to_stored(volume.array)
    # Slices run along the normal, whichever way they were numbered.
    backwards = np.linalg.det(affine[:3, :3]) < 0
    np.testing.assert_array_equal(stored, array[:, :, ::-1] if backwards else array)
    expected = affine.copy()
    if backwards:
        expected[:3, 3] += affine[:3, 2] * (SHAPE[2] - 1)
        expected[:3, 2] *= -1
    np.testing.assert_allclose(volume.geometry.affine, expected, atol=1e-4)
    assert volume.array.dtype == np.dtype(dtype)
    assert volume.problems == ()


def test_echoes_phases_and_stacks_are_volumes_of_their_own(tmp_path: Path) -> None:
    def macros(v: int, k: int) -> dict[str, dict[str, Any]]:
        return {
            "MREchoSequence": {"EffectiveEchoTime": 4.6 * (v % 2 + 1)},
            "FrameContentSequence": {
                "StackID": f"CANARY{v // 4}",
                "TemporalPositionIndex": v // 2 % 2 + 1,
                "InStackPositionNumber": k + 1,
            },
        }

    arrays = [content(v) for v in range(8)]
    affines = [AXIAL] * 4 + [OBLIQUE] * 4
    path = write_enhanced(tmp_path / "e", list(zip(arrays, affines, strict=True)), macros=macros)
    scan = scan_dicom(path)
    assert scan.refused == []
    assert len(scan.series) == 8
    found = {}
    for one in scan.series:
        volume = read_dicom(path, one.id)
        found[volume.geometry.to_stored(volume.array).tobytes(order="F")] = one
    for v, array in enumerate(arrays):
        one = found[array.tobytes(order="F")]
        assert f"TE {4.6 * (v % 2 + 1):g} ms" in one.description
        assert f"time point {v // 2 % 2 + 1}" in one.description
        assert f"stack {v // 4 + 1}" in one.description
        np.testing.assert_allclose(one.geometry.affine, affines[v], atol=1e-4)
        assert "CANARY" not in one.id + repr(one)


def test_every_frame_has_its_own_scaling(tmp_path: Path) -> None:
    def macros(_v: int, k: int) -> dict[str, dict[str, Any]]:
        return {
            "PixelValueTransformationSequence": {
                "RescaleSlope": 1 + k / 4,
                "RescaleIntercept": -10 * k,
                "RescaleType": "US",
            }
        }

    path = write_enhanced(tmp_path / "e", [(content(1), OBLIQUE)], macros=macros)
    volume = read_dicom(path)
    k = np.arange(SHAPE[2])
    assert volume.array.dtype == np.float32
    expected = content(1) * (1 + k / 4) - 10 * k
    np.testing.assert_allclose(volume.geometry.to_stored(volume.array), expected, rtol=1e-6)


def test_a_compressed_file_gives_the_same_frames(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path / "e", [(content(1), AXIAL), (content(2), OBLIQUE)])
    plain = {one.id: read_dicom(path, one.id) for one in scan_dicom(path).series}
    assert len(plain) == 2
    dataset = pydicom.dcmread(path)
    dataset.compress(RLELossless)
    dataset.save_as(path)
    for key, volume in plain.items():
        np.testing.assert_array_equal(read_dicom(path, key).array, volume.array)
    dataset.PixelData = encapsulate([bytes(40)] * 3)
    dataset.save_as(path)
    with pytest.raises(VolumeError, match="damaged or cut short"):
        read_dicom(path, next(iter(plain)))


@pytest.mark.parametrize(
    ("tags", "sentence"),
    [
        ({"NumberOfFrames": 2_000_000_000}, "announces 2000000000 pictures and places 7"),
        ({"NumberOfFrames": 6}, "announces 6 pictures and places 7"),
        ({"PerFrameFunctionalGroupsSequence": []}, "does not say where each"),
        ({"Rows": 500}, "cut short"),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, "colour"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, tags: dict[str, Any], sentence: str) -> None:
    path = write_enhanced(tmp_path / "e", [(content(1), AXIAL)], tags=tags)
    with pytest.raises(VolumeError, match=sentence):
        read_dicom(path)


def test_a_frame_that_is_nowhere_refuses_the_file(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path / "e", [(content(1), AXIAL)])
    dataset = pydicom.dcmread(path)
    del dataset.PerFrameFunctionalGroupsSequence[3].PlanePositionSequence
    dataset.save_as(path)
    with pytest.raises(VolumeError, match="do not say where they lie"):
        read_dicom(path)


def test_nothing_of_the_patient_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_enhanced(tmp_path / "CANARY" / "e", [(content(1), AXIAL)])
    told = repr(scan_dicom(path)) + repr(read_dicom(path))
    whole = path.read_bytes()
    for length in range(300, len(whole), 97):
        path.write_bytes(whole[:length])
        try:
            told += repr(read_dicom(path))
        except VolumeError as error:
            told += repr(error) + error.detail
    assert "CANARY" not in told + caplog.text


def from_pydicom_data(name: str) -> Path:
    found = importlib.util.find_spec("data_store")
    if found is None or found.origin is None:
        pytest.skip("pydicom-data is not installed")
    return Path(found.origin).parent / "data" / name


def test_a_file_of_a_scanner_opens_with_its_rescaled_values() -> None:
    path = from_pydicom_data("eCT_Supplemental.dcm")
    volume = read_dicom(path)
    dataset = pydicom.dcmread(path)
    groups = dataset.PerFrameFunctionalGroupsSequence
    z = [float(g.PlanePositionSequence[0].ImagePositionPatient[2]) for g in groups]
    stored = volume.geometry.to_stored(volume.array)
    scale = dataset.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence[0]
    assert volume.geometry.orientation == "RPI"
    for k, frame in enumerate(np.argsort(z)[::-1]):
        values = dataset.pixel_array[frame] * float(scale.RescaleSlope)
        values = values + float(scale.RescaleIntercept)
        np.testing.assert_allclose(stored[:, :, k].T, values)


@pytest.mark.parametrize("packing", ["", "_RLE", "_big_endian", "_jpeg_2k_lossless"])
def test_a_file_without_functional_groups_is_refused(packing: str) -> None:
    with pytest.raises(VolumeError, match="does not say where each of them lies"):
        read_dicom(from_pydicom_data(f"emri_small{packing}.dcm"))


def test_a_philips_file_lies_where_nibabel_puts_it(tmp_path: Path) -> None:
    packed = Path(nibabel.__file__).parent / "nicom/tests/data/philips_mprage.dcm.gz"
    if not packed.exists():
        pytest.skip("nibabel came without its test files")
    path = tmp_path / "e"
    path.write_bytes(gzip.decompress(packed.read_bytes()))
    geometry = read_dicom(path).geometry
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nibabel calls its reader experimental
        from nibabel.nicom.dicomwrappers import wrapper_from_file
    theirs = wrapper_from_file(path)
    assert geometry.stored_shape == (256, 256, 176)
    rows_first = theirs.affine[:, [1, 0, 2, 3]]
    shown = Geometry.from_affine((256, 256, 176), RAS_TO_LPS @ rows_first)
    np.testing.assert_allclose(geometry.display_affine, shown.display_affine, atol=2e-4)
