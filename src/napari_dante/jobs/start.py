"""What a job begins with: the model of its folder, grown, or a network from scratch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from napari_dante.adapt.auto import Choice, Situation, choose
from napari_dante.adapt.configuration import Configuration
from napari_dante.adapt.configure import configure
from napari_dante.adapt.feed import fresh_model, starting_model
from napari_dante.adapt.fingerprint import take_fingerprint
from napari_dante.adapt.footprint import step_memory
from napari_dante.adapt.grow import grown
from napari_dante.adapt.recipe import Auto, FromScratch, Recipe
from napari_dante.errors import JobError
from napari_dante.files import write_text
from napari_dante.jobs.before import Before, class_dice
from napari_dante.jobs.folder import JobFolder
from napari_dante.model.file import Model
from napari_dante.model.spec import further_labels

__all__ = ["Start", "prepared", "start_of"]

BACKWARD = 3.0
"""What a training step costs for each patch, in predictions of a window."""


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
    note
        What was chosen, and why, where the job left something open.
    configuration
        What was chosen for a fresh network; None for any other.
    """

    base: Model | None
    digest: str | None
    model: Model
    recipe: Recipe
    note: str = ""
    configuration: Configuration | None = None

    @property
    def unchanged(self) -> bool:
        """Whether the lesson begins with the very weights of `base`."""
        return self.model is self.base


def start_of(job: JobFolder, before: Before, device: torch.device) -> Start:
    """Return what the job in a folder begins with.

    A recipe or a network that is left open is chosen once, for the device that begins the
    job, and kept in the folder, so that a resumed job goes on with it.

    Raises
    ------
    JobError
        If the folder is damaged.
    TeachError
        If no network fits into the memory that a step may take.
    ModelError
        If the model of the folder cannot be used in this way.
    """
    recipe, base = job.recipe(), before.base
    if isinstance(recipe, FromScratch):
        return _from_scratch(job, recipe, before, device)
    if base is None:
        raise JobError("There is no model in this job folder.")
    note = ""
    if isinstance(recipe, Auto):
        chosen = job.choice() or _choose(job, recipe, before, base)
        recipe, note = chosen.recipe, chosen.sentence
    return Start(base, before.digest, prepared(base, job.new_labels(), recipe), recipe, note)


def prepared(base: Model, new_labels: Sequence[str], recipe: Recipe) -> Model:
    """Return `base` as a lesson begins with it: grown, and with an adapter if need be.

    Raises
    ------
    ModelError
        If its network cannot grow or takes no adapter.
    """
    labels = further_labels(base.spec.labels, new_labels)
    return starting_model(grown(base, labels), recipe)


def _choose(job: JobFolder, auto: Auto, before: Before, base: Model) -> Choice:
    first, *others = job.cases()
    learn = job.split().learn
    scores = class_dice(before.mask, first, learn, base.spec)
    per_step = auto.training.batch + auto.training.replay * bool(job.earlier())
    situation = Situation(
        slices=len(learn) + sum(int(case.trusted.sum()) for case in others),
        new=job.new_labels(),
        known=float(np.mean(list(scores.values()))) if scores else None,
        seconds=BACKWARD * before.seconds * per_step,
    )
    chosen = choose(auto, situation)
    write_text(job.chosen, json.dumps(chosen.to_json()))
    return chosen


def _from_scratch(
    job: JobFolder,
    recipe: FromScratch,
    before: Before,
    device: torch.device,
) -> Start:
    base = before.base
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
    recipe = replace(recipe, training=training)
    return Start(base, before.digest, model, recipe, chosen.sentence, chosen)
