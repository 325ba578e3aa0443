"""A zip archive and a DICOMDIR open like the folder they stand for, and nothing else."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pydicom.data
import pytest
from pydicom.fileset import FileSet

from napari_dante.errors import SeriesChoice, VolumeError
from napari_dante.ui.readers import get_dicom_reader
from napari_dante.volume import describe, open_volume, read_dicom, scan_dicom
from tests.volume.dicom_series import write_series
from tests.volume.grids import straight_affine

AXIAL = straight_affine("LPS")
CANARY = "CANARY"
SHAPE = (5, 4, 6)


def content(seed: int = 1) -> np.ndarray[tuple[int, ...], np.dtype[np.uint16]]:
    return np.random.default_rng(seed).integers(0, 4000, SHAPE).astype(np.uint16)


def study(folder: Path) -> Path:
    write_series(folder / CANARY / "a", content(1), AXIAL)
    write_series(folder / CANARY / "b", content(2), straight_affine("PIL"))
    return folder


def pack(folder: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder))
        archive.writestr("README.txt", CANARY * 99)
    return target


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where archives are unpacked; it must be empty whenever nobody reads."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


def test_a_zip_archive_opens_like_its_folder(tmp_path: Path, temporary: Path) -> None:
    folder = study(tmp_path / "study")
    packed = pack(folder, tmp_path / f"{CANARY}.zip")
    plain, found = describe(folder), describe(packed)
    assert found == plain
    for info in plain.volumes:
        one, other = open_volume(folder, info.id), open_volume(packed, info.id)
        np.testing.assert_array_equal(one.array, other.array)
        assert one.geometry == other.geometry
        assert CANARY not in repr(other)
    with pytest.raises(SeriesChoice):
        open_volume(packed)
    assert get_dicom_reader(str(packed)) is not None
    assert list(temporary.iterdir()) == []


def test_names_in_an_archive_lead_nowhere(tmp_path: Path, temporary: Path) -> None:
    paths = write_series(tmp_path / "series", content(), AXIAL)
    packed = tmp_path / "x.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for number, path in enumerate(paths):
            name = ("../../", "/", "a/../../../", "C:\\")[number % 4] + f"escaped{number}"
            archive.writestr(name, path.read_bytes())
    before = {one for one in tmp_path.rglob("*") if temporary not in one.parents}
    volume = read_dicom(packed)
    np.testing.assert_array_equal(volume.geometry.to_stored(volume.array), content())
    assert {one for one in tmp_path.rglob("*") if temporary not in one.parents} == before
    assert not Path("/escaped1").exists()


def test_a_bomb_is_not_unpacked(tmp_path: Path, temporary: Path) -> None:
    bomb = tmp_path / "bomb.zip"
    with (
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a", "w", force_zip64=True) as stream,
    ):
        for _ in range(300):
            stream.write(bytes(1 << 20))
    with pytest.raises(VolumeError, match="hundredfold"):
        describe(bomb)
    assert list(temporary.iterdir()) == []


def test_an_archive_that_understates_its_sizes_is_refused(tmp_path: Path, temporary: Path) -> None:
    packed = pack(study(tmp_path / "study"), tmp_path / "x.zip")
    whole = packed.read_bytes()
    readme = whole.rindex(b"PK\x01\x02")
    entry = whole.rindex(b"PK\x01\x02", 0, readme)
    lie = whole[: entry + 24] + (200).to_bytes(4, "little") + whole[entry + 28 :]
    packed.write_bytes(lie)
    with pytest.raises(VolumeError, match="archive is damaged"):
        describe(packed)
    assert list(temporary.iterdir()) == []


def test_a_damaged_archive_is_refused(tmp_path: Path, temporary: Path) -> None:
    packed = pack(study(tmp_path / "study"), tmp_path / f"{CANARY}.zip")
    whole = packed.read_bytes()
    for length in range(4, len(whole), 331):
        packed.write_bytes(whole[:length])
        with pytest.raises(VolumeError) as refusal:
            describe(packed)
        assert CANARY not in repr(refusal.value) + refusal.value.detail
    packed.write_bytes(whole[:200] + bytes(60) + whole[260:])
    with pytest.raises(VolumeError, match="archive is damaged"):
        describe(packed)
    assert list(temporary.iterdir()) == []


def test_an_archive_without_dicom_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    packed = pack(tmp_path / "empty", tmp_path / "x.zip")
    with pytest.raises(VolumeError, match="no DICOM images"):
        describe(packed)
    assert get_dicom_reader(str(packed)) is None


def dicomdir(folder: Path) -> Path:
    """Write a study as a disc has it, with an index."""
    disc = FileSet()
    for path in study(folder / "study").rglob("IM*"):
        dataset = pydicom.dcmread(path)
        dataset.StudyDate, dataset.StudyTime, dataset.StudyID = "20200101", "120000", "1"
        dataset.AccessionNumber, dataset.SeriesNumber = "", 1
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        disc.add(dataset)
    disc.write(folder / "disc")
    return folder / "disc" / "DICOMDIR"


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_dicomdir_opens_the_files_it_lists(tmp_path: Path) -> None:
    index = dicomdir(tmp_path)
    plain = scan_dicom(tmp_path / "study")
    write_series(index.parent / "not listed", content(3), AXIAL)
    assert [one.id for one in scan_dicom(index).series] == [
        one.id for one in plain.series if one.id
    ]
    for one in plain.series:
        again = read_dicom(index, one.id)
        np.testing.assert_array_equal(again.array, read_dicom(tmp_path / "study", one.id).array)
    for path in sorted(index.parent.rglob("*"), reverse=True):
        path.rename(path.with_name(path.name.lower()))
    lowered = index.with_name("dicomdir")
    assert len(scan_dicom(lowered).series) == 2
    shutil.rmtree(next(one for one in lowered.parent.iterdir() if one.name.startswith("pt")))
    with pytest.raises(VolumeError, match="lists 12 files, and none of them is here"):
        describe(lowered)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_files_missing_from_a_disc_are_told(tmp_path: Path) -> None:
    index = dicomdir(tmp_path)
    files = sorted(one for one in index.parent.rglob("*") if one.is_file() and one != index)
    files[0].unlink()
    found = describe(index)
    assert ("DICOMDIR", "1 files that the DICOMDIR lists are not here.") in [
        (one.what, one.why) for one in found.refused
    ]
    assert all("cannot be read: 1" in one.problems[-1] for one in found.volumes)


def test_a_real_disc_opens(tmp_path: Path) -> None:
    index = Path(str(pydicom.data.get_testdata_file("DICOMDIR", download=False)))
    found = describe(index)
    assert found.volumes
    for one in found.volumes:
        assert open_volume(index, one.id).geometry.stored_shape == one.shape
