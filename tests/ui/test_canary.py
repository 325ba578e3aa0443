"""Names, dates, ids and paths are planted in every image; no byte that we write holds one."""

from __future__ import annotations

import gzip
import logging
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import nrrd
import numpy as np
import pydicom
import pytest
from napari.components import ViewerModel
from napari.layers import Labels
from numpy.typing import NDArray

from napari_dante.adapt.recipe import LoRA
from napari_dante.cli import run
from napari_dante.errors import DanteError
from napari_dante.jobs.folder import create_job
from napari_dante.model.spec import ArchitectureSpec
from napari_dante.ui import writers
from napari_dante.ui.readers import read_path
from napari_dante.ui.session import Session
from napari_dante.volume import open_volume, scan_dicom
from tests.ui.conftest import Ball
from tests.volume.dicom_series import write_series
from tests.volume.grids import rotation, straight_affine
from tests.volume.mosaic import mosaic_dataset

OBLIQUE = rotation(12, -7, 20) @ straight_affine("LPS")
# One for each place, so that a failure says where it came from.
PLACES = (
    *("Name", "ID", "Study", "Series", "Protocol", "Sequence", "Station", "Hospital", "Physician"),
    *("Comment", "Accession", "Private", "Path", "File", "Descrip", "Aux", "Intent", "Extension"),
    *("Db", "Key", "Person"),
)
CANARIES = {place: f"Zqx{place}" for place in PLACES} | {
    "birth date": "19010203",
    "study date": "19991231",
    "study UID": "1.2.826.0.1.777.1",
    "series UID": "1.2.826.0.1.777.2",
    "instance UID": "1.2.826.0.1.777.3",
}
C = CANARIES
TAGS = {
    "PatientName": f"{C['Name']}^Ärger",
    "PatientID": C["ID"],
    "PatientBirthDate": C["birth date"],
    "StudyDate": C["study date"],
    "StudyInstanceUID": C["study UID"],
    "StudyDescription": C["Study"],
    "SeriesDescription": C["Series"],
    "ProtocolName": C["Protocol"],
    "SequenceName": C["Sequence"],
    "StationName": C["Station"],
    "InstitutionName": C["Hospital"],
    "ReferringPhysicianName": C["Physician"],
    "OperatorsName": C["Person"],
    "ImageComments": C["Comment"],
    "AccessionNumber": C["Accession"],
    "SpecificCharacterSet": "ISO_IR 100",
}


def traces(data: bytes) -> list[str]:
    """Return which canaries are in some bytes, packed or not, in whatever encoding."""
    if data[:2] == b"\x1f\x8b":
        data += gzip.decompress(data)
    lower = data.lower()
    encodings = ("utf-8", "utf-16-le", "utf-16-be", "latin-1")
    return [
        place
        for place, canary in CANARIES.items()
        if any(canary.lower().encode(encoding) in lower for encoding in encodings)
    ]


def planted(path: Path) -> None:
    """Write the canaries into the tags of a DICOM file."""
    dataset = pydicom.dcmread(path)
    for keyword, value in TAGS.items():
        setattr(dataset, keyword, value)
    dataset.SOPInstanceUID = f"{C['instance UID']}.{path.stat().st_ino}"
    dataset.SeriesInstanceUID = C["series UID"]
    block = dataset.private_block(0x0051, "ZQX PRIVATE", create=True)
    block.add_new(0x10, "LO", C["Private"])
    block.add_new(0x11, "UN", C["Private"].encode("utf-16-le"))
    dataset.save_as(path)


def dicom(folder: Path, image: NDArray[np.int16]) -> Path:
    for path in write_series(folder / C["Path"] / C["File"], image, OBLIQUE, shuffle_seed=1):
        planted(path)
    return folder / C["Path"]


def archive(folder: Path, image: NDArray[np.int16]) -> Path:
    path = folder / f"{C['Path']}.zip"
    with zipfile.ZipFile(path, "w") as packed:
        for one in dicom(folder / "plain", image).rglob("IM*"):
            packed.write(one, f"{C['File']}/{one.name}")
    return path


def mosaic(folder: Path, image: NDArray[np.int16]) -> Path:
    path = folder / C["File"]
    private = {"Comment": ("LT", [C["Private"]])}
    mosaic_dataset(image, OBLIQUE, image=private).save_as(path, enforce_file_format=True)
    planted(path)
    return path


def nifti(folder: Path, image: NDArray[np.int16]) -> Path:
    made = nib.Nifti1Image(image, OBLIQUE)
    header = made.header
    header["descrip"], header["aux_file"] = C["Descrip"], C["Aux"]
    header["intent_name"], header["db_name"] = C["Intent"], C["Db"]
    for code in (2, 4, 6):
        header.extensions.append(nib.nifti1.Nifti1Extension(code, C["Extension"].encode()))
    made.to_filename(folder / f"{C['File']}.nii.gz")
    return folder / f"{C['File']}.nii.gz"


def nrrd_file(folder: Path, image: NDArray[np.int16]) -> Path:
    path = folder / f"{C['File']}.nrrd"
    fields = {"space": "left-posterior-superior", "space directions": np.eye(3)}
    nrrd.write(str(path), image, {**fields, "space origin": np.zeros(3), "PatientName": C["Key"]})
    return path


KINDS = {one.__name__: one for one in (dicom, archive, mosaic, nifti, nrrd_file)}


def damaged(source: Path) -> Iterator[Path]:
    """Spoil a copy of the image in several ways, and give what is to be opened each time."""
    for path in [source] if source.is_file() else sorted(source.rglob("IM*"))[:2]:
        whole = path.read_bytes()
        for end in (200, len(whole) // 2, len(whole) - 3):
            path.write_bytes(whole[:end])
            yield source
        path.write_bytes(whole)


@pytest.fixture
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Everything that is written goes below this folder, also what is only for a while."""
    folder = tmp_path / "output"
    (folder / "temporary").mkdir(parents=True)
    monkeypatch.setattr("tempfile.tempdir", str(folder / "temporary"))
    for name in ("XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(folder / "home"))
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_that_is_written_or_told_holds_a_canary(
    kind: str,
    tmp_path: Path,
    output: Path,
    ball: Ball,
    spec: ArchitectureSpec,
    model_file: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    (tmp_path / "input").mkdir()
    image = ball[0].astype(np.int16).transpose(2, 1, 0)
    source = KINDS[kind](tmp_path / "input", image)
    inside = source.rglob("*") if source.is_dir() else [source]
    planted_there = {place for one in inside if one.is_file() for place in traces(one.read_bytes())}
    assert planted_there or kind == "archive"
    told: list[str] = []

    viewer = ViewerModel()
    (data, kwargs, _), problems = read_path(source)
    told += problems
    layer = viewer.add_image(data, **kwargs)
    session = Session(viewer, layer, lambda: None, lambda: None, told.append, told.append)
    session.propose(ball[1], spec)
    labels = session.labels
    assert isinstance(labels, Labels)
    for index in (5, 7, 9, 11, 13, 15):
        labels.data_setitem((np.array([index] * 4), np.arange(4), np.arange(4)), 2)
    session.save()
    case = session.case()
    assert case is not None
    create_job(output / "job", model_file, [case], LoRA())
    save(session.image.as_layer_data_tuple(), labels.as_layer_data_tuple(), output)
    told += [repr(layer.metadata), repr(labels.metadata), layer.name, labels.name, str(viewer)]

    for target in ("copy.nii", "copy.nii.gz"):
        run(["convert", str(source), str(output / target)])
    if kind in ("dicom", "archive", "mosaic"):
        told.append(repr(scan_dicom(source)) + repr(open_volume(source)))
    for broken in damaged(source):
        told += refusals(broken)
    session.release()  # what is left of the journal is written

    captured = capfd.readouterr()
    told += [captured.out, captured.err, caplog.text]
    written = [one for one in output.rglob("*") if one.is_file()]
    names = {one.suffix for one in written}
    assert {".nii", ".gz", ".npy", ".json", ".journal", ".ctbl", ".safetensors"} <= names
    assert not list((output / "temporary").iterdir())
    found = {str(one.relative_to(output)): traces(one.read_bytes()) for one in written}
    assert {name: places for name, places in found.items() if places} == {}
    assert traces("\n".join(found).encode()) == []
    assert traces("\n".join(told).encode()) == []


def save(image: tuple[object, ...], labels: tuple[object, ...], folder: Path) -> None:
    for name, write, layer in (
        ("image.nii.gz", writers.write_image, image),
        ("labels.nii", writers.write_labels, labels),
        ("labels.nii.gz", writers.write_labels, labels),
        ("names.ctbl", writers.write_label_names, labels),
        ("names.label", writers.write_label_names, labels),
    ):
        write(str(folder / name), *layer[:2])  # type: ignore[arg-type]


def refusals(source: Path) -> list[str]:
    told = []
    for function in (open_volume, read_path):
        try:
            function(source)
        except DanteError as error:
            told += [error.sentence, error.detail, repr(error)]
    return told
