"""What a job begins with: the model of its folder, grown, or a network from scratch."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import torch

from napari_dante.adapt.configuration import Configuration
from napari_dante.adapt.configure import configure
from napari_dante.adapt.feed import fresh_model, starting_model
from napari_dante.adapt.fingerprint import take_fingerprint
from napari_dante.adapt.footprint import step_memory
from napari_dante.adapt.grow import grown
from napari_dante.adapt.recipe import FromScratch, Recipe
from napari_dante.errors import JobError
from napari_dante.files import write_text
from napari_dante.jobs.folder import JobFolder
from napari_dante.model.file import Model, read_model
from napari_dante.model.spec import further_labels

__all__ = ["Start", "start_of"]


@dataclass(frozen=True)
class Start:
    """What a lesson begins with.

    Attributes
    ----------
    base
        The model to compare with, None where there was none.
    digest
        SHA-256 of the file of `base`.
    model
        What is trained: as good as `base`, or fresh.
    recipe
        How it is trained; for a fresh network with the batch that was chosen for it.
    configuration
        What was chosen for a fresh network, and why; None for any other.
    """

    base: Model | None
    digest: str | None
    model: Model
    recipe: Recipe
    configuration: Configuration | None = None


def start_of(job: JobFolder, device: torch.device) -> Start:
    """Return what the job in a folder begins with.

    A network from scratch is chosen once, for the device that begins the job, and kept in
    the folder, so that a resumed job goes on with it.

    Raises
    ------
    JobError
        If the folder is damaged.
    TeachError
        If no network fits into the memory that a step may take.
    ModelError
        If the model of the folder cannot be used in this way.
    """
    recipe, digest = job.recipe(), job.base_hash()
    base = None if digest is None else read_model(job.base)
    if isinstance(recipe, FromScratch):
        return _from_scratch(job, recipe, base, digest, device)
    if base is None:
        raise JobError("There is no model in this job folder.")
    new = further_labels(base.spec.labels, job.new_labels())
    return Start(base, digest, starting_model(grown(base, new), recipe), recipe)


def _from_scratch(
    job: JobFolder,
    recipe: FromScratch,
    base: Model | None,
    digest: str | None,
    device: torch.device,
) -> Start:
    chosen = job.configuration()
    if chosen is None:
        known = () if base is None else base.spec.labels
        labels = (*known, *further_labels(known, job.new_labels()))
        cases = job.cases()
        fingerprint = take_fingerprint(
            [case.image for case in cases],
            [case.spacing for case in cases],
            [case.axis for case in cases],
        )
        memory = int(recipe.memory * 2**30) or step_memory(device)
        chosen = configure(fingerprint, labels, recipe, memory, fast=device.type == "cuda")
        write_text(job.network, json.dumps(chosen.to_json()))
    model = fresh_model(chosen.spec, job.identity(), recipe.training.seed)
    training = replace(recipe.training, batch=chosen.batch)
    return Start(base, digest, model, replace(recipe, training=training), chosen)
