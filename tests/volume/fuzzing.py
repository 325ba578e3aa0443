"""Files of every kind, mutated and opened in a process that may take 2 GiB and 5 s for each.

``python -m tests.volume.fuzzing FOLDER FIRST LAST KIND ...`` opens mutations FIRST to LAST of
each kind and prints how many of them opened; whatever else happens ends it with an error.
"""

from __future__ import annotations

import faulthandler
import gzip
import json
import random
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import nrrd
import numpy as np
import pydicom
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from napari_dante.errors import DanteError
from napari_dante.volume import describe, open_labels, open_volume
from tests.volume.dicom_series import write_series
from tests.volume.enhanced import write_enhanced
from tests.volume.grids import straight_affine
from tests.volume.mosaic import write_mosaic

AXIAL = straight_affine("LPS")
SECONDS = 5.0
MEMORY = 2 << 30
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


def mosaic(path: Path) -> None:
    write_mosaic(path, content(), AXIAL)


def nrrd_file(path: Path) -> None:
    header = {"space": "left-posterior-superior", "space directions": np.eye(3), "encoding": "raw"}
    nrrd.write(str(path.with_suffix(".nrrd")), content(), {**header, "space origin": [1, 2, 3]})
    path.with_suffix(".nrrd").rename(path)


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
    "mosaic": mosaic,
    "nrrd": nrrd_file,
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


def opened_or_told(function: Callable[..., object], path: Path) -> str:
    """Return what the refusal says, nothing where it opens."""
    try:
        function(path)
    except DanteError as error:
        return error.sentence + error.detail
    return ""


def chosen(path: Path) -> object:
    """Open the first volume of a file that holds several."""
    return open_volume(path, "1")


def survive(folder: Path, kind: str, seeds: range) -> int:
    """Open mutations of a kind of file, and return how many opened."""
    folder.mkdir()
    path = folder / "x"
    KINDS[kind](path)
    if kind == "analyze":
        path = path.rename(folder / "x.hdr")  # beside its x.img
    whole = path.read_bytes()
    describe(path)
    opened = 0
    for seed in seeds:
        path.write_bytes(mutated(whole, random.Random(f"{kind} {seed}")))
        opens = False
        for function in (open_volume, chosen, open_labels):
            # Ends the process, in whatever code it hangs.
            faulthandler.dump_traceback_later(SECONDS, exit=True)
            told = opened_or_told(function, path)
            faulthandler.cancel_dump_traceback_later()
            opens |= not told
            if "CANARY" in told or "fit into the memory" in told:
                raise AssertionError(f"{kind} {seed}: {told}")
        opened += opens
    return opened


def main() -> None:
    """Set the limits and go through the kinds."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    folder, first, last, *kinds = sys.argv[1:]
    seeds = range(int(first), int(last))
    found = {kind: survive(Path(folder) / kind, kind, seeds) for kind in kinds}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
