"""Classic DICOM series made from an array and an affine, as a scanner would write them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid
from pydicom.valuerep import DSfloat

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def write_series(
    folder: Path,
    array_ijk: NDArray[Any],
    affine_ras: NDArray[np.float64],
    *,
    uid: str | None = None,
    patient: str = "CANARY^NAME",
    description: str = "t1",
    modality: str = "MR",
    shuffle_seed: int | None = None,
    scaling: Sequence[tuple[float, float]] | None = None,
    skip: Sequence[int] = (),
    tags: dict[str, Any] | None = None,
) -> list[Path]:
    """Write one file per slice of `array_ijk` (columns, rows, slices) into `folder`.

    `affine_ras` maps (i, j, k) to RAS+ mm; its first two axes must be orthogonal. With
    `shuffle_seed` the file names and instance numbers are in random order; `scaling` is a
    (slope, intercept) per slice; slices in `skip` are not written; `tags` are set in
    every file. Returns the path of every slice in the order of k, without skipped ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    uid = uid or generate_uid()
    count = array_ijk.shape[2]
    names = list(range(1, count + 1))
    if shuffle_seed is not None:
        random.Random(shuffle_seed).shuffle(names)
    paths = []
    for k in range(count):
        if k in skip:
            continue
        dataset = slice_dataset(array_ijk[:, :, k], affine_ras, k, uid)
        dataset.PatientName = patient
        dataset.PatientID = f"{patient}-ID"
        dataset.SeriesDescription = description
        dataset.Modality = modality
        dataset.InstanceNumber = names[k]
        if scaling is not None:
            dataset.RescaleSlope, dataset.RescaleIntercept = (_ds(v) for v in scaling[k])
        for keyword, value in (tags or {}).items():
            setattr(dataset, keyword, value)
        path = folder / f"IM{names[k]:04d}_{uid[-6:]}"
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def slice_dataset(
    pixels_ij: NDArray[Any], affine_ras: NDArray[np.float64], k: int, uid: str
) -> Dataset:
    """Return slice `k` as a data set that is complete but for the patient."""
    lps = RAS_TO_LPS @ affine_ras
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    directions = lps[:3, :3] / spacing
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = MRImageStorage
    dataset.SOPInstanceUID = generate_uid()
    dataset.SeriesInstanceUID = uid
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=[uid])
    dataset.FrameOfReferenceUID = generate_uid(entropy_srcs=[uid, "frame"])
    dataset.ImagePositionPatient = [_ds(v) for v in lps[:3, :3] @ (0, 0, k) + lps[:3, 3]]
    dataset.ImageOrientationPatient = [_ds(v) for v in directions[:, :2].T.ravel()]
    dataset.PixelSpacing = [_ds(spacing[1]), _ds(spacing[0])]
    # Deliberately not the gap: readers must not use it.
    dataset.SliceThickness = _ds(spacing[2] * 0.8)
    dataset.SpacingBetweenSlices = _ds(spacing[2])
    dataset.Columns, dataset.Rows = pixels_ij.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels_ij.dtype.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels_ij.dtype.kind == "i")
    dataset.PixelData = np.ascontiguousarray(pixels_ij.T).tobytes()
    dataset["PixelData"].VR = "OB" if pixels_ij.dtype.itemsize == 1 else "OW"
    return dataset


def _ds(value: float) -> DSfloat:
    return DSfloat(float(value), auto_format=True)
