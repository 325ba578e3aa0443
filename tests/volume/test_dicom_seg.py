"""DICOM segmentations: every voxel at its place, on the series it was drawn on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset

from napari_dante.errors import SeriesChoice, VolumeError
from napari_dante.volume import (
    Geometry,
    LabelMap,
    open_labels,
    read_dicom,
    scan_dicom,
    write_dicom_seg,
    write_nifti,
)
from tests.volume.dicom_series import write_series
from tests.volume.enhanced import write_enhanced
from tests.volume.grids import oblique_affines, rotation, straight_affine
from tests.volume.segmentations import (
    SHAPE,
    TABLE,
    check,
    drawn,
    label_map,
    numbers,
    places,
    told_by_pydicom,
)

highdicom = pytest.importorskip("highdicom", reason="the extra dicom is not installed")

AXIAL = straight_affine("LPS")
OBLIQUE = rotation(12, -7, 20) @ straight_affine("LIP")


@settings(max_examples=15, deadline=None)
@given(oblique_affines, st.integers(0, 99))
def test_every_voxel_of_a_shuffled_series_keeps_its_place(
    tmp_path_factory: pytest.TempPathFactory, affine: NDArray[np.float64], seed: int
) -> None:
    folder = tmp_path_factory.mktemp("seg")
    write_series(folder / "d", np.zeros(SHAPE, np.int16), affine, shuffle_seed=seed)
    write_dicom_seg(folder / "seg.dcm", label_map(drawn(seed), affine), folder / "d")
    check(folder / "seg.dcm", drawn(seed), affine)


def test_slanted_slices_keep_their_place(tmp_path: Path) -> None:
    """A tilted gantry; highdicom makes no volume of such slices."""
    affine = AXIAL.copy()
    affine[1, 2] = 0.6
    write_series(tmp_path / "d", np.zeros(SHAPE, np.int16), affine, shuffle_seed=2)
    write_dicom_seg(tmp_path / "seg.dcm", label_map(drawn(), affine), tmp_path / "d")
    expected = places(drawn(), affine)
    assert told_by_pydicom(tmp_path / "seg.dcm", numbers(drawn())) == expected


@pytest.mark.parametrize("affine", [AXIAL, OBLIQUE], ids=["straight", "oblique"])
@pytest.mark.parametrize("shared", [False, True])
def test_frames_of_an_enhanced_file_keep_their_place(
    tmp_path: Path, affine: NDArray[np.float64], shared: bool
) -> None:
    """Two echoes in one file; the labels belong to the frames of the second."""
    other = affine.copy()
    other[:3, 3] += 1.5
    write_enhanced(
        tmp_path / "e.dcm",
        [(np.zeros(SHAPE, np.uint16), affine), (np.ones(SHAPE, np.uint16), other)],
        macros=lambda v, _: {"MREchoSequence": {"EffectiveEchoTime": 4.5 + v}},
        shared_plane=shared,
    )
    second = scan_dicom(tmp_path / "e.dcm").series[1]
    labels = label_map(drawn(), other)
    write_dicom_seg(tmp_path / "seg.dcm", labels, tmp_path / "e.dcm", second.id)
    check(tmp_path / "seg.dcm", drawn(), other)


def test_labels_that_went_through_another_program_lie_right(tmp_path: Path) -> None:
    """The same voxels, stored in another order of axes, and through a NIfTI file."""
    write_series(tmp_path / "d", np.zeros(SHAPE, np.int16), OBLIQUE)
    geometry = Geometry.from_affine(SHAPE, OBLIQUE)
    turned = OBLIQUE @ np.array([[0, 0, -1, 6], [1, 0, 0, 0], [0, -1, 0, 4], [0, 0, 0, 1.0]])
    stored = drawn().transpose(1, 2, 0)[:, ::-1, ::-1]
    moved = Geometry.from_affine(stored.shape, turned)
    np.testing.assert_array_equal(moved.to_display(stored), geometry.to_display(drawn()))
    write_nifti(tmp_path / "a.nii.gz", moved.to_display(stored), moved, TABLE)
    write_dicom_seg(tmp_path / "seg.dcm", open_labels(tmp_path / "a.nii.gz"), tmp_path / "d")
    check(tmp_path / "seg.dcm", drawn(), OBLIQUE)


@pytest.fixture
def written(tmp_path: Path) -> tuple[list[Path], Dataset]:
    """The files of a series, and the segmentation on it."""
    series = write_series(
        tmp_path / "d",
        np.zeros(SHAPE, np.int16),
        OBLIQUE,
        patient="Müller^Jörg",
        shuffle_seed=4,
        tags={
            "SpecificCharacterSet": "ISO_IR 100",
            "StudyDate": "20260101",
            "PatientBirthDate": "19700101",
            "PatientComments": "CANARY",
            "ImageComments": "CANARY",
        },
    )
    for path in series:
        dataset = pydicom.dcmread(path)
        block = dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
        block.add_new(0x10, "OB", b"CANARY")
        dataset.save_as(path)
    write_dicom_seg(tmp_path / "seg.dcm", label_map(drawn(), OBLIQUE), tmp_path / "d")
    return series, pydicom.dcmread(tmp_path / "seg.dcm")


def test_it_belongs_to_the_patient_and_the_study_of_its_series(
    written: tuple[list[Path], Dataset],
) -> None:
    series, seg = written
    source = pydicom.dcmread(series[0])
    for keyword in (
        *("PatientName", "PatientID", "PatientBirthDate", "StudyInstanceUID", "StudyDate"),
        "FrameOfReferenceUID",
    ):
        assert seg[keyword].value == source[keyword].value, keyword
    assert str(seg.PatientName) == "Müller^Jörg"
    assert seg.SeriesInstanceUID != source.SeriesInstanceUID
    referred = seg.ReferencedSeriesSequence[0]
    assert referred.SeriesInstanceUID == source.SeriesInstanceUID
    instances = {one.ReferencedSOPInstanceUID for one in referred.ReferencedInstanceSequence}
    assert instances == {pydicom.dcmread(path).SOPInstanceUID for path in series}


def test_each_frame_refers_to_the_slice_it_lies_on(written: tuple[list[Path], Dataset]) -> None:
    series, seg = written
    position = {
        one.SOPInstanceUID: one.ImagePositionPatient for one in map(pydicom.dcmread, series)
    }
    for group in seg.PerFrameFunctionalGroupsSequence:
        source = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        np.testing.assert_allclose(
            group.PlanePositionSequence[0].ImagePositionPatient, position[source], atol=1e-6
        )


def test_names_and_colours_are_kept(written: tuple[list[Path], Dataset]) -> None:
    _, seg = written
    assert [one.SegmentLabel for one in seg.SegmentSequence] == [
        "Großhirn",
        "white matter",
        "x" * 64,
    ]
    for one, label in zip(seg.SegmentSequence, TABLE.values(), strict=True):
        colour = highdicom.color.CIELabColor.from_dicom_value(one.RecommendedDisplayCIELabValue)
        np.testing.assert_allclose(np.array(colour.to_rgb()) / 255, label.colour, atol=2 / 255)


def test_private_tags_and_comments_stay_behind(
    written: tuple[list[Path], Dataset], tmp_path: Path
) -> None:
    assert b"CANARY" not in (tmp_path / "seg.dcm").read_bytes()
    private = [one.tag for one in written[1].iterall() if one.tag.is_private]
    assert private == [], [keyword_for_tag(tag) for tag in private]


def test_the_distance_between_slices_is_that_of_the_positions(tmp_path: Path) -> None:
    tags = {"SpacingBetweenSlices": 9, "SliceThickness": 7}
    write_series(tmp_path / "d", np.zeros(SHAPE, np.int16), AXIAL, tags=tags)
    write_dicom_seg(tmp_path / "seg.dcm", label_map(drawn(), AXIAL), tmp_path / "d")
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert measures.SpacingBetweenSlices == pytest.approx(3.3)
    assert measures.SliceThickness == 7


class TestRefusals:
    """Nothing is written, and the sentence says why."""

    @pytest.fixture
    def refused(self, tmp_path: Path) -> Any:
        write_series(tmp_path / "d", np.zeros(SHAPE, np.int16), AXIAL)

        def refused(labels: LabelMap, error: type[VolumeError] = VolumeError) -> str:
            with pytest.raises(error) as caught:
                write_dicom_seg(tmp_path / "seg.dcm", labels, tmp_path / "d")
            assert not [one for one in tmp_path.iterdir() if one.name != "d"]
            return caught.value.sentence

        return refused

    def test_another_grid(self, refused: Any) -> None:
        moved = AXIAL.copy()
        moved[0, 3] += 0.01
        assert "grid" in refused(label_map(drawn(), moved))
        assert "grid" in refused(label_map(drawn()[:-1], AXIAL))

    def test_an_empty_mask(self, refused: Any) -> None:
        assert "empty" in refused(label_map(np.zeros(SHAPE, np.uint8), AXIAL))

    def test_negative_values(self, refused: Any) -> None:
        assert "negative" in refused(label_map(-drawn(), AXIAL))

    def test_several_series(self, refused: Any, tmp_path: Path) -> None:
        write_series(tmp_path / "d" / "2", np.zeros(SHAPE, np.int16), AXIAL)
        assert "choose" in refused(label_map(drawn(), AXIAL), SeriesChoice)

    @pytest.mark.parametrize("keyword", ["FrameOfReferenceUID", "StudyInstanceUID"])
    def test_a_series_that_cannot_be_referred_to(
        self, refused: Any, tmp_path: Path, keyword: str
    ) -> None:
        for path in (tmp_path / "d").iterdir():
            dataset = pydicom.dcmread(path)
            delattr(dataset, keyword)
            dataset.save_as(path)
        assert keyword in refused(label_map(drawn(), AXIAL))

    def test_without_highdicom(self, refused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "highdicom", None)
        monkeypatch.setitem(sys.modules, "highdicom.seg", None)
        assert 'pip install "napari-dante[dicom]"' in refused(label_map(drawn(), AXIAL))


def test_a_series_without_the_tags_that_may_be_empty_will_do(tmp_path: Path) -> None:
    for path in write_series(tmp_path / "d", np.zeros(SHAPE, np.int16), AXIAL):
        dataset = pydicom.dcmread(path)
        del dataset.PatientName, dataset.PatientID
        dataset.save_as(path)
    write_dicom_seg(tmp_path / "seg.dcm", label_map(drawn(), AXIAL), tmp_path / "d")
    check(tmp_path / "seg.dcm", drawn(), AXIAL)
    assert read_dicom(tmp_path / "d").series is not None
