"""What makers of scanners say in private tags about how slices belong together.

The tags are looked at and never copied. A mosaic is Siemens' way of keeping all slices of a
time point as tiles of one picture; where they lie is in the "CSA" header (read by nibabel)
and in the protocol inside it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset

from napari_dante.errors import VolumeError

__all__ = ["PLANNED_TAGS", "Mosaic", "planned_slices", "read_mosaic"]

# How many slices one volume has: of General Electric, and of Philips.
_PLANNED = (
    (0x0021, "GEMS_RELA_01", 0x4F),
    (0x2001, "Philips Imaging DD 001", 0x18),
)
PLANNED_TAGS = [
    tag
    for group, _, element in _PLANNED
    for tag in (group << 16 | 0x10, group << 16 | 0x1000 | element)
]
"""The private tags that :func:`planned_slices` looks at."""

_CSA = [0x0029_0000 | start for start in (0x10, 0x11, 0x12)] + [
    0x0029_0000 | block << 8 | element for block in (0x10, 0x11, 0x12) for element in (0x10, 0x20)
]
_BROKEN = (AssertionError, struct.error, ValueError, TypeError, LookupError)
_POSITION = re.compile(
    r"sSliceArray\.asSlice\[(\d{1,3})\]\.sPosition\.d(Sag|Cor|Tra)\s*=\s*([-+.\deE]{1,24})"
)
_AXES = ("Sag", "Cor", "Tra")
_REFUSED = (
    "Its slices are tiled into one picture (Siemens mosaic), and {}; export it as enhanced "
    "DICOM or convert it to NIfTI."
)


@dataclass(frozen=True)
class Mosaic:
    """The tiles of one picture.

    Parameters
    ----------
    count
        How many slices there are; further tiles are empty.
    across
        How many tiles stand in a row, and in a column.
    steps
        Where each slice lies from the first one, LPS mm, (count, 3).
    b_value
        None where the header does not say.
    """

    count: int
    across: int
    steps: NDArray[np.float64]
    b_value: float | None


def planned_slices(tags: Dataset) -> int:
    """Return how many slices the scanner planned for a volume, 0 where it does not say."""
    for group, creator, element in _PLANNED:
        if tags.get(group << 16 | 0x10) is None or tags[group << 16 | 0x10].value != creator:
            continue
        tag = group << 16 | 0x1000 | element
        value = tags[tag].value if tag in tags else 0
        if isinstance(value, bytes):
            value = int.from_bytes(value[:4], "little")
        return int(value or 0)
    return 0


def read_mosaic(path: Path, values: Mapping[str, Any], normal: NDArray[np.float64]) -> Mosaic:
    """Read how the tiles of a mosaic belong together.

    Parameters
    ----------
    path
        The file.
    values
        Its public tags.
    normal
        Across the picture, LPS, as its ImageOrientationPatient has it.

    Raises
    ------
    VolumeError
        The header does not say it, or contradicts itself.
    """
    # It warns when it is imported, and whoever reads slices has silenced that.
    from nibabel.nicom import csareader

    tags = dcmread(path, stop_before_pixels=True, force=True, specific_tags=list(_CSA))
    try:
        csa = csareader.get_csa_header(tags) or {"tags": {}}
        count = int(csareader.get_n_mosaic(csa) or 0)
        across_slices = csareader.get_slice_normal(csa)
        b_value = csareader.get_b_value(csa)
        protocol = _protocol(tags)
    except (csareader.CSAError, *_BROKEN) as error:
        why = _REFUSED.format("its private header is damaged")
        raise VolumeError(why, type(error).__name__) from None
    if not count or across_slices is None:
        raise VolumeError(_REFUSED.format("its header does not say how many, or which way round"))
    across = ceil(sqrt(count))
    if int(values["Rows"]) % across or int(values["Columns"]) % across:
        raise VolumeError(_REFUSED.format(f"{count} slices do not fit into its picture"))
    cosine = float(np.asarray(across_slices, np.float64) @ normal)
    if not abs(abs(cosine) - 1.0) < 1e-3:
        raise VolumeError(_REFUSED.format("its header states two orientations"))
    steps = _steps(count, normal * np.sign(cosine), values, protocol)
    return Mosaic(count, across, steps, None if b_value is None else float(b_value))


def _protocol(tags: Dataset) -> str:
    from nibabel.nicom import csareader

    series = csareader.get_csa_header(tags, "series")
    for name in ("MrPhoenixProtocol", "MrProtocol"):
        text = csareader.get_scalar(series, name) if series else None
        if text:
            return str(text)
    return ""


def _steps(
    count: int, normal: NDArray[np.float64], values: Mapping[str, Any], protocol: str
) -> NDArray[np.float64]:
    """Return where the slices lie from the first one: as the protocol has it, if it does."""
    places = np.zeros((count, 3))
    told = set()
    for number, axis, value in _POSITION.findall(protocol):
        told.add(int(number))
        if int(number) < count:
            places[int(number), _AXES.index(axis)] = float(value)
    if told == set(range(count)):
        steps: NDArray[np.float64] = places - places[0]
        if count > 1 and not float(steps[-1] @ normal) > 0:
            raise VolumeError(_REFUSED.format("its header and its protocol disagree"))
        return steps
    gap = float(values.get("SpacingBetweenSlices") or 0.0)
    if count > 1 and not 0.0 < gap < np.inf:
        raise VolumeError(_REFUSED.format("its header does not say how far they are apart"))
    return np.arange(count)[:, None] * gap * normal
