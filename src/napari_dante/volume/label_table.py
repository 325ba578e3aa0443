"""The names and colours of labels, kept inside a NIfTI file as a comment extension."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from nibabel.nifti1 import Nifti1Extension

from napari_dante.errors import VolumeError
from napari_dante.volume.volume import Label, labels_from_json, labels_to_json

__all__ = ["read_label_table", "write_label_table"]

_COMMENT = 6
_KEY = "napari-dante labels"


def write_label_table(labels: Mapping[int, Label]) -> Nifti1Extension:
    """Return the NIfTI header extension that holds `labels` as JSON."""
    text = json.dumps({_KEY: labels_to_json(labels)})
    return Nifti1Extension(_COMMENT, text.encode())


def read_label_table(extensions: Iterable[Any]) -> tuple[dict[int, Label], tuple[str, ...]]:
    """Return the label table among header `extensions`, and what was wrong with it."""
    for extension in extensions:
        if extension.get_code() != _COMMENT or _KEY.encode() not in extension.content:
            continue
        try:
            return labels_from_json(json.loads(extension.content)[_KEY]), ()
        except (ValueError, TypeError, KeyError, VolumeError):
            return {}, ("The names of the labels in this file cannot be read.",)
    return {}, ()
