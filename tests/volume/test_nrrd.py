"""NRRD files lie where the NIfTI of the same volume lies; Slicer's segments keep their names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import nrrd
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_dante.errors import SeriesChoice, VolumeError
from napari_dante.volume import Label, describe, holds_labels, open_labels, open_volume, read_nifti
from tests.volume.grids import oblique_affines, rotation, straight_affine

SIGNS = {"LPS": (-1, -1, 1), "RAS": (1, 1, 1), "LAS": (-1, 1, 1)}
NAMES = {
    "LPS": "left-posterior-superior",
    "RAS": "right-anterior-superior",
    "LAS": "left-anterior-superior",
}
OBLIQUE = rotation(12, -7, 20) @ straight_affine("LIP")
SHAPE = (4, 5, 6)


def content(dtype: str = "i2", shape: tuple[int, ...] = SHAPE) -> NDArray[Any]:
    return np.random.default_rng(8).integers(0, 100, shape).astype(dtype)


def fields(affine: NDArray[np.float64], space: str = "LPS", **more: Any) -> dict[str, Any]:
    """Return the header of an array placed by a RAS+ affine."""
    signs = np.array(SIGNS[space])
    return {
        "space": NAMES[space],
        "space directions": affine[:3, :3].T * signs,
        "space origin": affine[:3, 3] * signs,
        "kinds": ["domain"] * 3,
        **more,
    }


@settings(max_examples=40, deadline=None)
@given(
    oblique_affines,
    st.sampled_from(["LPS", "RAS", "LAS"]),
    st.sampled_from(["u1", "i2", ">u2", "i4", "f4", ">f8"]),
    st.sampled_from(["raw", "gzip"]),
    st.booleans(),
)
def test_it_is_the_nifti_of_the_same_volume(
    tmp_path_factory: pytest.TempPathFactory,
    affine: NDArray[np.float64],
    space: str,
    dtype: str,
    encoding: str,
    detached: bool,
) -> None:
    folder = tmp_path_factory.mktemp("nrrd")
    path = folder / ("a.nhdr" if detached else "a.nrrd")
    array = content(dtype)
    nrrd.write(str(path), array, {**fields(affine, space), "encoding": encoding})
    nib.Nifti1Image(array, affine).to_filename(folder / "a.nii")
    ours, theirs = open_volume(path), read_nifti(folder / "a.nii")
    np.testing.assert_array_equal(ours.array, theirs.array)
    assert ours.array.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_allclose(ours.geometry.affine, affine, atol=1e-9)
    assert ours.geometry.same_grid(theirs.geometry)
    assert ours.problems == ()


def test_slicer_segments_keep_names_and_colours(tmp_path: Path) -> None:
    array = content("u1") % 3
    path = tmp_path / "a.seg.nrrd"
    segments = {
        "Segment0_Name": "Großhirn",
        "Segment0_LabelValue": "2",
        "Segment0_Color": "0.5 0.25 1",
        "Segment0_Layer": "0",
        "Segment1_LabelValue": "7",
    }
    nrrd.write(str(path), array, {**fields(OBLIQUE), "encoding": "gzip"})
    head, body = path.read_bytes().split(b"\n\n", 1)
    text = "".join(f"\n{key}:={value}" for key, value in segments.items())
    path.write_bytes(head + text.encode() + b"\n\n" + body)
    labels = open_labels(path)
    assert labels.labels[2] == Label("Großhirn", (0.5, 0.25, 1.0))
    assert labels.labels[7].name == "label 7"
    assert labels.labels[1].name == "label 1"
    np.testing.assert_array_equal(labels.geometry.to_stored(labels.array), array)
    assert holds_labels(path)
    nrrd.write(str(tmp_path / "b.nrrd"), array, fields(OBLIQUE))
    assert not holds_labels(tmp_path / "b.nrrd")


def test_several_volumes_ask_which_one(tmp_path: Path) -> None:
    array = content(shape=(*SHAPE, 3))
    header = fields(OBLIQUE, kinds=["domain"] * 3 + ["list"])
    header["space directions"] = np.vstack([header["space directions"], [[np.nan] * 3]])
    nrrd.write(str(tmp_path / "a.nrrd"), array, header)
    with pytest.raises(SeriesChoice):
        open_volume(tmp_path / "a.nrrd")
    assert len(describe(tmp_path / "a.nrrd").volumes) == 3
    volume = open_volume(tmp_path / "a.nrrd", "2")
    np.testing.assert_array_equal(volume.geometry.to_stored(volume.array), array[..., 1])


def test_without_a_place_the_guess_is_told(tmp_path: Path) -> None:
    nrrd.write(str(tmp_path / "a.nrrd"), content(), {"spacings": [1.0, 2.0, 3.0]})
    volume = open_volume(tmp_path / "a.nrrd")
    assert volume.geometry.stored_spacing == (1, 2, 3)
    assert "guess" in volume.problems[0]
    nrrd.write(str(tmp_path / "b.nrrd"), content(), fields(OBLIQUE) | {"space": "scanner-xyz"})
    assert "guess" in open_volume(tmp_path / "b.nrrd").problems[0]


def change(path: Path, old: bytes, new: bytes) -> None:
    whole = path.read_bytes()
    assert old in whole
    path.write_bytes(whole.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (b"encoding: raw", b"encoding: ascii", "rare way"),
        (b"type: int16", b"type: block", "kind that is not supported"),
        (b"kinds: domain domain domain", b"kinds: RGB-color domain domain", "colour"),
        (b"sizes: 4 5 6", b"sizes: 4 5 7", "damaged"),
        (b"sizes: 4 5 6", b"sizes: 4 5 -6", "three axes"),
        (b"sizes: 4 5 6", b"sizes: 400000 500000 600000", "damaged"),
        (b"dimension: 3", b"dimension: x", "damaged"),
        (b"encoding: raw", b"encoding: raw\nbyte skip: -7", "damaged"),
        (b"encoding: raw", b"encoding: raw\nline skip: 3", "lines of text"),
        (b"encoding: raw", b"encoding: raw\ndata file: ../x.raw", "distant"),
        (b"encoding: raw", b"encoding: raw\ndata file: /etc/passwd", "distant"),
        (b"encoding: raw", b"encoding: raw\ndata file: LIST", "distant"),
        (b"encoding: raw", b"encoding: raw\ndata file: absent.raw", "is not here"),
        (b"NRRD0005", b"NRRD0009", "damaged"),
        (b"\n\n", b"\n", "damaged"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, old: bytes, new: bytes, sentence: str) -> None:
    path = tmp_path / "a.nrrd"
    nrrd.write(str(path), content(), {**fields(OBLIQUE), "encoding": "raw"})
    change(path, old, new)
    with pytest.raises(VolumeError, match=sentence):
        open_volume(path)


def test_interleaved_volumes_are_refused(tmp_path: Path) -> None:
    header = fields(OBLIQUE, kinds=["list"] + ["domain"] * 3)
    header["space directions"] = np.vstack([[[np.nan] * 3], header["space directions"]])
    nrrd.write(str(tmp_path / "a.nrrd"), content(shape=(2, *SHAPE)), header)
    with pytest.raises(VolumeError, match="file of its own"):
        open_volume(tmp_path / "a.nrrd")


@pytest.mark.parametrize("skip", [0, 5, -1])
def test_bytes_before_the_voxels_are_skipped(tmp_path: Path, skip: int) -> None:
    array = content()
    before = b"x" * (5 if skip else 0)
    (tmp_path / "a.raw").write_bytes(before + array.tobytes(order="F"))
    nrrd.write(str(tmp_path / "b.nhdr"), array, {**fields(OBLIQUE), "encoding": "raw"})
    change(tmp_path / "b.nhdr", b"data file: b.raw", b"byte skip: %d\ndata file: a.raw" % skip)
    volume = open_volume(tmp_path / "b.nhdr")
    np.testing.assert_array_equal(volume.geometry.to_stored(volume.array), array)


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_a_file_cut_anywhere_is_refused_in_one_sentence(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.nrrd"
    nrrd.write(str(path), content(), {**fields(OBLIQUE), "encoding": encoding})
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(VolumeError):
            open_volume(path)
