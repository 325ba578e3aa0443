"""Mutated files are refused in a sentence or opened; never a crash, a hang or a memory bomb."""

from __future__ import annotations

import gzip
import random
import resource
import struct
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from napari_dante.errors import DanteError
from napari_dante.volume import describe, open_volume
from tests.volume.dicom_series import write_series
from tests.volume.enhanced import write_enhanced
from tests.volume.grids import straight_affine

AXIAL = straight_affine("LPS")
SECONDS = 5.0
MEMORY = 1 << 30
ABSURD = (b"\xff" * 4, b"\xff\xff\xff\x7f", b"\0" * 4, b"\0\0\0\x80", b"\x00\x00\xc0\x7f")


def content() -> np.ndarray[tuple[int, ...], np.dtype[np.uint16]]:
    return np.random.default_rng(1).integers(0, 4000, (16, 15, 6)).astype(np.uint16)


def nifti(path: Path) -> None:
    nib.Nifti1Image(content(), AXIAL).to_filename(path.with_suffix(".nii"))
    path.with_suffix(".nii").rename(path)


def nifti_series(path: Path) -> None:
    nib.Nifti2Image(np.stack([content()] * 3, axis=3), AXIAL).to_filename(
        path.with_suffix(".nii.gz")
    )
    path.with_suffix(".nii.gz").rename(path)


def mgh(path: Path) -> None:
    nib.MGHImage(content().astype(np.int16), AXIAL).to_filename(path.with_suffix(".mgh"))
    path.with_suffix(".mgh").rename(path)


def analyze(path: Path) -> None:
    nib.AnalyzeImage(content().astype(np.int16), AXIAL).to_filename(path.with_suffix(".img"))
    path.with_suffix(".hdr").rename(path)


def dicom(path: Path) -> None:
    write_series(path.parent / "series", content(), AXIAL)[2].rename(path)


def rle(path: Path) -> None:
    dicom(path)
    dataset = pydicom.dcmread(path)
    dataset.compress(RLELossless)
    dataset.save_as(path)


def deflated(path: Path) -> None:
    dicom(path)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    again = pydicom.Dataset(dict(dataset.items()))
    again.file_meta = dataset.file_meta
    again.save_as(path, enforce_file_format=True)


def enhanced(path: Path) -> None:
    write_enhanced(path, [(content(), AXIAL)])


def archive(path: Path) -> None:
    dicom(path)
    whole = path.read_bytes()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a", whole)


KINDS: dict[str, Callable[[Path], None]] = {
    "nifti": nifti,
    "nifti series": nifti_series,
    "mgh": mgh,
    "analyze": analyze,
    "dicom": dicom,
    "rle": rle,
    "deflated": deflated,
    "enhanced": enhanced,
    "archive": archive,
}


def mutated(whole: bytes, dice: random.Random) -> bytes:
    packed = whole[:2] == b"\x1f\x8b" and dice.random() < 0.7
    body = bytearray(gzip.decompress(whole) if packed else whole)
    # Most of what can go wrong is in the header.
    reach = dice.choice([400, 2000, len(body)])
    kind = dice.randrange(4)
    if kind == 0:
        del body[dice.randrange(len(body)) :]
    elif kind == 1:
        for _ in range(dice.randint(1, 20)):
            body[dice.randrange(min(reach, len(body)))] ^= 1 << dice.randrange(8)
    elif kind == 2:
        for _ in range(dice.randint(1, 4)):
            where = dice.randrange(min(reach, len(body)))
            body[where : where + 4] = dice.choice(ABSURD)
    else:
        for _ in range(dice.randint(1, 3)):
            where = dice.randrange(40, 60) & ~1
            body[where : where + 2] = struct.pack("<h", dice.choice([32767, -1, 0, 20000]))
            at = dice.randrange(min(reach, len(body)))
            body[at:at] = dice.randbytes(dice.randint(1, 64))
    return gzip.compress(bytes(body), 1) if packed else bytes(body)


@pytest.fixture
def bounded() -> Iterator[None]:
    """Fail with MemoryError rather than take the memory of the machine."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    taken = pages * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + 8 * MEMORY, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def opened_or_told(path: Path, series: str | None) -> str:
    """Return what the refusal says, nothing where the volume opens."""
    try:
        volume = open_volume(path, series)
    except DanteError as error:
        return repr(error) + error.detail
    assert volume.array.shape == volume.geometry.shape
    return ""


def survive(folder: Path, kind: str, seeds: range) -> None:
    path = folder / "x"
    KINDS[kind](path)
    if kind == "analyze":
        path = path.rename(folder / "x.hdr")  # beside its x.img
    whole = path.read_bytes()
    describe(path)
    opened = 0
    before = peak()
    for seed in seeds:
        path.write_bytes(mutated(whole, random.Random(f"{kind} {seed}")))
        start = time.perf_counter()
        told = [opened_or_told(path, series) for series in (None, "1")]
        opened += "" in told
        assert "CANARY" not in str(told), seed
        assert time.perf_counter() - start < SECONDS, seed
    assert 0 < opened < len(seeds)
    assert peak() - before < MEMORY


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("bounded")
def test_mutated_files_are_refused_or_opened(tmp_path: Path, kind: str) -> None:
    survive(tmp_path, kind, range(200))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("bounded")
def test_thousands_of_mutated_files_are_refused_or_opened(tmp_path: Path, kind: str) -> None:
    survive(tmp_path, kind, range(1000, 3000))
