"""Names and colours of labels as files of their own: those of ITK-SNAP and of 3D Slicer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from napari_dante.errors import VolumeError
from napari_dante.files import write_text
from napari_dante.volume.volume import Label

__all__ = ["LABEL_FILES", "read_label_file", "write_label_file"]

LABEL_FILES = (".ctbl", ".label", ".txt")
"""Endings of what is written: .ctbl for 3D Slicer, the others for ITK-SNAP."""

_LARGEST = 8 << 20
_SNAP = re.compile(
    r'(?P<value>\d+)\s+(?P<red>\d+)\s+(?P<green>\d+)\s+(?P<blue>\d+)\s+\S+\s+\d\s+\d\s+"(?P<name>.*)"'
)
_SLICER = re.compile(
    r"(?P<value>\d+)\s+(?P<name>\S+)\s+(?P<red>[\d.]+)\s+(?P<green>[\d.]+)\s+(?P<blue>[\d.]+)\s+[\d.]+"
)
_SNAP_HEAD = """\
################################################
# ITK-SnAP Label Description File
# File format:
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
# Fields:
#    IDX:   Zero-based index
#    -R-:   Red color component (0..255)
#    -G-:   Green color component (0..255)
#    -B-:   Blue color component (0..255)
#    -A-:   Label transparency (0.00 .. 1.00)
#    VIS:   Label visibility (0 or 1)
#    MSH:   Label mesh visibility (0 or 1)
#  LABEL:   Label description
################################################
    0     0    0    0        0  0  0    "Clear Label"
"""
_SLICER_HEAD = """\
# Color table file
# {count} values
0 background 0 0 0 0
"""


def write_label_file(path: str | Path, labels: Mapping[int, Label]) -> None:
    """Write names and colours for ITK-SNAP (.label, .txt) or 3D Slicer (.ctbl).

    Both programs keep colours as whole numbers from 0 to 255. A Slicer table has no room
    for spaces, which become underscores there (Slicer shows them as spaces again).

    Raises
    ------
    VolumeError
        Another file ending, a negative label value, or the disk refuses.
    """
    target = Path(path)
    if not target.name.lower().endswith(LABEL_FILES):
        raise VolumeError("Choose a file name that ends in .ctbl, .label or .txt.")
    table = {value: label for value, label in sorted(labels.items()) if value != 0}
    if table and min(table) < 0:
        raise VolumeError("Neither ITK-SNAP nor 3D Slicer knows negative label values.")
    text = _slicer(table) if target.suffix.lower() == ".ctbl" else _snap(table)
    try:
        write_text(target, text)
    except OSError as error:
        why = error.strerror or "the disk refused"
        raise VolumeError(f"The file could not be saved: {why}.", type(error).__name__) from None


def read_label_file(path: str | Path) -> dict[int, Label]:
    """Read an ITK-SNAP label description or a 3D Slicer colour table, told by content.

    The background (0) is left out, and so is what Slicer calls ``(none)``.

    Raises
    ------
    VolumeError
        The file is missing or neither of them.
    """
    try:
        with Path(path).open("rb") as stream:
            text = stream.read(_LARGEST).decode(errors="replace")
    except OSError as error:
        why = error.strerror or "the disk refused"
        raise VolumeError(f"The label names cannot be read: {why}.", type(error).__name__) from None
    lines = [line.strip() for line in text.lstrip("\ufeff").splitlines()]
    rows = [_row(line) for line in lines if line and not line.startswith("#")]
    labels = {value: label for value, label in rows if value != 0 and label.name != "(none)"}
    if not labels:
        raise VolumeError("The file holds no label names.")
    return labels


def _row(line: str) -> tuple[int, Label]:
    found = _SNAP.fullmatch(line)
    name = found["name"].strip() if found else ""
    if not found:
        found = _SLICER.fullmatch(line)
        name = found["name"].strip("'").replace("_", " ").strip() if found else ""
    try:
        if found is None:
            raise ValueError
        value = int(found["value"])
        red, green, blue = (_part(found[colour]) for colour in ("red", "green", "blue"))
    except ValueError:
        raise VolumeError(
            "This is neither a label description of ITK-SNAP nor a colour table of 3D Slicer."
        ) from None
    return value, Label(name or f"label {value}", (red, green, blue))


def _part(text: str) -> float:
    return round(min(float(text), 255.0) / 255.0, 4)


def _snap(table: Mapping[int, Label]) -> str:
    lines = []
    for value, label in table.items():
        red, green, blue = _bytes(label)
        name = _one_line(label.name).replace('"', "'")
        lines.append(f'{value:5d} {red:5d} {green:4d} {blue:4d}        1  1  1    "{name}"\n')
    return _SNAP_HEAD + "".join(lines)


def _slicer(table: Mapping[int, Label]) -> str:
    lines = []
    for value, label in table.items():
        red, green, blue = _bytes(label)
        name = _one_line(label.name).replace(" ", "_") or f"label_{value}"
        lines.append(f"{value} {name} {red} {green} {blue} 255\n")
    return _SLICER_HEAD.format(count=len(lines) + 1) + "".join(lines)


def _bytes(label: Label) -> tuple[int, int, int]:
    red, green, blue = (round(min(max(part, 0.0), 1.0) * 255) for part in label.colour)
    return red, green, blue


def _one_line(name: str) -> str:
    return " ".join(name.split())
