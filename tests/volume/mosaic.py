"""Siemens mosaics made from an array and an affine, with the private header of a scanner."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from math import ceil, sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from tests.volume.dicom_series import RAS_TO_LPS, slice_dataset


def csa(tags: Mapping[str, tuple[str, Sequence[object]]]) -> bytes:
    """Return a "CSA2" header: name to (VR, values)."""
    out = b"SV10\4\3\2\1" + struct.pack("<2I", len(tags), 77)
    for name, (kind, values) in tags.items():
        out += struct.pack(
            "<64si4s3i", name.encode(), len(values), kind.encode(), 0, len(values), 77
        )
        for value in values:
            text = str(value).encode() + b"\0"
            out += struct.pack("<4i", len(text), len(text), 77, len(text))
            out += text + bytes(-len(text) % 4)
    return out


def protocol(array_ijk: NDArray[Any], lps: NDArray[np.float64]) -> str:
    """Return where the slices lie, as the protocol has it: the centre of each."""
    lines = ["### ASCCONV BEGIN ###", f"sSliceArray.lSize = {array_ijk.shape[2]}"]
    for k in range(array_ijk.shape[2]):
        centre = lps @ (array_ijk.shape[0] / 2, array_ijk.shape[1] / 2, k, 1)
        for axis, value in zip(("Sag", "Cor", "Tra"), centre, strict=False):
            if value:  # the scanner leaves out zeros
                lines.append(f"sSliceArray.asSlice[{k}].sPosition.d{axis}\t = \t{value:.9g}")
    return "\n".join([*lines, "### ASCCONV END ###"])


def mosaic_dataset(
    array_ijk: NDArray[Any],
    affine_ras: NDArray[np.float64],
    *,
    uid: str | None = None,
    with_protocol: bool = True,
    image: Mapping[str, tuple[str, Sequence[object]]] | None = None,
) -> Dataset:
    """Return the slices (columns, rows, slices) as tiles of one picture, in file order.

    `image` replaces entries of the private image header; an entry of no values is left out.
    """
    lps = RAS_TO_LPS @ affine_ras
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    columns, rows, count = array_ijk.shape
    across = ceil(sqrt(count))
    picture = np.zeros((columns * across, rows * across), array_ijk.dtype)
    for k in range(count):
        down, right = divmod(k, across)
        tile = array_ijk[:, :, k]
        picture[right * columns :, down * rows :][:columns, :rows] = tile
    dataset = slice_dataset(picture, affine_ras, 0, uid or generate_uid())
    corner = lps[:3, :2] @ (np.array([columns, rows]) * (across - 1) / 2)
    dataset.ImagePositionPatient = (lps[:3, 3] - corner).round(9).tolist()
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    dataset.PatientName, dataset.Modality = "CANARY^NAME", "MR"
    normal = np.cross(lps[:3, 0] / spacing[0], lps[:3, 1] / spacing[1])
    normal *= np.sign(normal @ lps[:3, 2])
    told = {
        "EchoLinePosition": ("IS", [9]),
        "NumberOfImagesInMosaic": ("US", [count]),
        "SliceNormalVector": ("FD", [f"{value:.8f}" for value in normal]),
        "AcquisitionMatrixText": ("SH", ["64p*64"]),
        "Comment": ("LT", ["CANARY"]),
        **(image or {}),
    }
    series = {"MrPhoenixProtocol": ("UN", [protocol(array_ijk, lps)])} if with_protocol else {}
    block = dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
    block.add_new(0x10, "OB", csa({name: entry for name, entry in told.items() if entry[1]}))
    block.add_new(0x20, "OB", csa(series or {"Other": ("LT", ["x"])}))
    return dataset


def write_mosaic(path: Path, *args: Any, **kwargs: Any) -> Path:
    """Write what `mosaic_dataset` makes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mosaic_dataset(*args, **kwargs).save_as(path, enforce_file_format=True)
    return path
