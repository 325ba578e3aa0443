"""What a shipped model can rehearse, so that teaching does not make it forget. Torch-free."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from napari_dante.jobs.case import CaseData
from napari_dante.model.file import read_header
from napari_dante.model.library import STARTERS
from napari_dante.model.spec import ArchitectureSpec
from napari_dante.volume import open_labels, open_volume

__all__ = ["rehearsal"]


def rehearsal(model: Path) -> list[CaseData]:
    """Return the cases that come with the starter from which a model descends.

    A starter names them in ``NAME.rehearsal.json`` beside it: a list of objects with
    ``image`` and ``labels``, files relative to it. Labels without names count as the
    model's own.

    Parameters
    ----------
    model
        A model file; its identity tells the starter.

    Raises
    ------
    ModelError
        If `model` is not a model of ours.
    """
    spec, lineage = read_header(model)
    for starter in sorted(STARTERS.glob("*.safetensors")):
        listing = starter.with_suffix(".rehearsal.json")
        if listing.is_file() and read_header(starter)[1].model_id == lineage.model_id:
            pairs = json.loads(listing.read_text())
            return [_case(listing.parent, pair["image"], pair["labels"], spec) for pair in pairs]
    return []


def _case(folder: Path, image: str, labels: str, spec: ArchitectureSpec) -> CaseData:
    volume, found = open_volume(folder / image), open_labels(folder / labels)
    return CaseData(
        image=volume.array,
        labels=found.array,
        names=spec.names_for(found.labels),
        spacing=volume.geometry.spacing,
        axis=0,
        trusted=np.asarray(found.array.any(axis=(1, 2))),
    )
