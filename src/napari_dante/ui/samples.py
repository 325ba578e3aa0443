"""Sample data that comes with the plugin, so that one can start without a network. Qt-free."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from napari_dante.ui.layers import LayerData, image_layer, label_layer
from napari_dante.volume import Label, LabelMap, open_labels, open_volume

__all__ = ["SAMPLES", "TISSUES", "itk_head", "mni_t1", "mni_t2", "sample_path"]

SAMPLES = {
    "mni152_t1": "Average head, T1 (MNI152)",
    "mni152_t2": "Average head, T2 (MNI152)",
    "itk_head_t1": "One head, T1 (ITK)",
}
TISSUES = {
    1: Label("CSF", (0.337, 0.706, 0.914)),
    2: Label("grey matter", (0.902, 0.624, 0.0)),
    3: Label("white matter", (0.8, 0.475, 0.655)),
}


def sample_path(name: str) -> Path:
    """Return the file of a sample: a key of `SAMPLES`, or ``"mni152_tissue"``."""
    return Path(str(files("napari_dante"))) / "resources" / "samples" / f"{name}.nii.gz"


def mni_t1() -> list[LayerData]:
    """Return the average T1 head."""
    return _sample("mni152_t1")


def mni_t2() -> list[LayerData]:
    """Return the average T2 head."""
    return _sample("mni152_t2")


def mni_tissue() -> list[LayerData]:
    """Return the tissues of the average head: CSF, grey and white matter."""
    found = open_labels(sample_path("mni152_tissue"))
    return [label_layer(LabelMap(found.array, found.geometry, TISSUES), "MNI152 tissue")]


def itk_head() -> list[LayerData]:
    """Return one real T1 head."""
    return _sample("itk_head_t1")


def _sample(name: str) -> list[LayerData]:
    return [image_layer(open_volume(sample_path(name)), SAMPLES[name])]
