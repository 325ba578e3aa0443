"""``info``, ``convert``, ``predict`` and ``evaluate``."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_dante.cli.console import emit_json, notice, progress, say
from napari_dante.errors import ModelError, VolumeError
from napari_dante.files import sha256
from napari_dante.model.library import Library
from napari_dante.model.spec import ArchitectureSpec, further_labels
from napari_dante.model.trust import trust
from napari_dante.volume import (
    LABEL_FILES,
    NAMES_THE_PATIENT,
    LabelMap,
    Volume,
    check_nifti_name,
    default_label,
    describe,
    holds_labels,
    match_grid,
    open_labels,
    open_volume,
    read_label_file,
    write_dicom_seg,
    write_label_file,
    write_nifti,
)

if TYPE_CHECKING:
    from napari_dante.model.segmenter import Segmenter

__all__ = ["convert", "evaluate", "info", "predict"]

_DICOM = ".dcm"


def info(options: Namespace) -> None:
    """Print what a path holds, and what of it cannot be opened and why."""
    found = describe(options.path)
    if options.json:
        emit_json(asdict(found))
        return
    for volume in found.volumes:
        shape = " x ".join(str(size) for size in volume.shape)
        spacing = " x ".join(f"{size:g}" for size in volume.spacing)
        say(
            f"{volume.id}  {volume.description}  {volume.modality}  {shape} voxels  "
            f"{spacing} mm  {volume.orientation}"
        )
        for problem in volume.problems:
            say(f"    {problem}")
    for refusal in found.refused:
        say(f"refused: {refusal.what}: {refusal.why}")


def convert(options: Namespace) -> None:
    """Write a volume or labels in another format, on the same grid."""
    ending = options.target.suffix.lower()
    as_labels = (
        options.names is not None or ending in (*LABEL_FILES, _DICOM) or holds_labels(options.image)
    )
    if as_labels:
        _convert_labels(options, ending)
        return
    volume = open_volume(options.image, options.series)
    write_nifti(options.target, volume.array, volume.geometry)


def _convert_labels(options: Namespace, ending: str) -> None:
    if ending == _DICOM and options.reference is None:
        raise VolumeError(
            "A DICOM segmentation belongs to a series: name it with --reference, a folder or file."
        )
    labels = open_labels(options.image)
    if options.names is not None:
        labels = replace(labels, labels={**labels.labels, **read_label_file(options.names)})
    if ending in LABEL_FILES:
        write_label_file(options.target, labels.labels)
    elif ending == _DICOM:
        write_dicom_seg(options.target, labels, options.reference, options.series)
        say(NAMES_THE_PATIENT)
    else:
        write_nifti(options.target, labels.array, labels.geometry, labels.labels)


def predict(options: Namespace) -> None:
    """Segment an image."""
    from napari_dante.model.cleanup import largest_component
    from napari_dante.model.likeness import check_likeness

    _check_targets(options)
    volume = open_volume(options.image, options.series)
    path = Library().resolve(options.model)
    segmenter = _segmenter(path, options.device)
    if segmenter is None:
        _predict_foreign(options, path, volume)
        return

    def on_window(done: int, total: int) -> None:
        progress(f"window {done} of {total}", last=done == total)

    found = segmenter.analyse(
        volume.array,
        volume.geometry.spacing,
        on_window,
        entropy=options.uncertainty is not None,
        probabilities=options.probabilities is not None,
    )
    check_likeness(segmenter.card, found, volume.geometry.spacing)
    labels = dict(enumerate(segmenter.spec.labels, start=1))
    classes = largest_component(found.classes) if options.largest else found.classes
    if found.entropy is not None:
        write_nifti(options.uncertainty, found.entropy, volume.geometry)
    if found.probabilities is not None:
        write_nifti(options.probabilities, found.probabilities, volume.geometry)
    _write_mask(options, LabelMap(classes, volume.geometry, labels))


def _segmenter(path: Path, device: str) -> Segmenter | None:
    """Open a model; None for a Dafne model that only its own code can run."""
    from napari_dante.model.dafne import from_dafne, is_recognised, read_dafne
    from napari_dante.model.segmenter import Segmenter, choose_device

    if path.suffix != ".model":
        return Segmenter.from_file(path, device)
    dafne = read_dafne(path)
    if not is_recognised(dafne):
        return None
    return Segmenter(from_dafne(dafne, "Dafne"), choose_device(device))


def _predict_foreign(options: Namespace, path: Path, volume: Volume) -> None:
    """Let a file's own code segment, once a person has allowed it."""
    from napari_dante.jobs.foreign import NOT_CUT, predict_foreign

    if options.uncertainty is not None or options.probabilities is not None:
        raise ModelError("A model that runs by its own code gives masks only.")
    if options.trust_code:
        trust(sha256(path))
    found = predict_foreign(path, np.asarray(volume.array), volume.geometry.spacing)
    if not found.network_cut:
        notice(NOT_CUT)
    labels = dict(enumerate(further_labels((), found.names), start=1))
    _write_mask(options, LabelMap(found.classes, volume.geometry, labels))


def _write_mask(options: Namespace, mask: LabelMap) -> None:
    write_nifti(options.out, mask.array, mask.geometry, mask.labels)
    if options.json:
        shape = list(mask.geometry.stored_shape)
        emit_json({"shape": shape, "millilitres": _millilitres(mask)})


def _check_targets(options: Namespace) -> None:
    """Refuse before the prediction what could not be written after it."""
    targets = [options.out, options.uncertainty, options.probabilities]
    named = [check_nifti_name(path).resolve() for path in targets if path is not None]
    if len(set(named)) < len(named):
        raise VolumeError("Two results cannot go into one file; choose another name.")


def _millilitres(labels: LabelMap) -> dict[str, float]:
    voxel = float(np.prod(labels.geometry.spacing)) / 1000
    return {
        label.name: round(voxel * int((labels.array == value).sum()), 3)
        for value, label in labels.labels.items()
    }


def evaluate(options: Namespace) -> None:
    """Compare a model's mask with a reference, in three dimensions."""
    from napari_dante.evaluate.exam import TOLERANCE
    from napari_dante.evaluate.metrics import measure
    from napari_dante.model.segmenter import Segmenter

    volume = open_volume(options.image, options.series)
    reference = open_labels(options.reference)
    match_grid(reference, volume)
    segmenter = Segmenter.from_file(Library().resolve(options.model), options.device)
    mask = segmenter.predict(volume.array, volume.geometry.spacing)
    names = _names(segmenter.spec, reference, dict(options.label))
    chosen = _chosen_slices(options, volume)
    spacing = volume.geometry.spacing
    scores = {}
    for number, label in enumerate(segmenter.spec.labels, start=1):
        values = [value for value, name in names.items() if name == label.name]
        truth = np.isin(reference.array, values) & chosen
        scores[label.name] = asdict(measure((mask == number) & chosen, truth, spacing, TOLERANCE))
    _print_scores(scores, TOLERANCE, as_json=options.json)


def _names(
    spec: ArchitectureSpec, reference: LabelMap, named: Mapping[int, str]
) -> Mapping[int, str]:
    """Return what each value of a reference is called by a model.

    Raises
    ------
    ModelError
        If a name is none of the model's.
    """
    known = {label.name for label in spec.labels}
    for name in named.values():
        if name not in known:
            raise ModelError(f"The model knows no '{name}'; it knows {', '.join(sorted(known))}.")
    if not named:
        return spec.names_for(reference.labels)
    own = {
        value: label.name
        for value, label in reference.labels.items()
        if label != default_label(value)
    }
    return {**own, **named}


def _chosen_slices(options: Namespace, volume: Volume) -> np.ndarray:
    """Return a mask, broadcastable to the volume, of the slices to compare."""
    geometry = volume.geometry
    axis, _ = geometry.stored_axis_to_display(options.axis)
    size = geometry.stored_shape[options.axis]
    named = options.slices if options.slices is not None else (options.skip_slices or ())
    if named and named[-1] >= size:
        raise VolumeError(f"There is no slice {named[-1]}: the image has {size}, counted from 0.")
    chosen = np.full(size, options.slices is None)
    for index in named:
        display = geometry.stored_slice_to_display(options.axis, index)[1]
        chosen[display] = options.slices is not None
    along = [1, 1, 1]
    along[axis] = size
    return chosen.reshape(along)


def _print_scores(
    scores: Mapping[str, Mapping[str, Any]], tolerance: float, *, as_json: bool
) -> None:
    values = [score["dice"] for score in scores.values() if score["dice"] is not None]
    mean = float(np.mean(values)) if values else None
    if as_json:
        emit_json({"labels": scores, "mean_dice": mean, "tolerance_mm": tolerance})
        return
    for name, score in scores.items():
        if score["dice"] is None:
            say(f"{name:24s} in neither mask")
        else:
            say(
                f"{name:24s} Dice {score['dice']:.3f}  HD95 {score['hd95']:6.2f} mm  "
                f"NSD {score['nsd']:.3f} at {tolerance:g} mm"
            )
    if mean is not None:
        say(f"{'mean':24s} Dice {mean:.3f}")
