"""What a finished job made, whatever kind of file that is. Torch-free."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from napari_dante.errors import JobError
from napari_dante.files import write_text
from napari_dante.jobs.folder import JobFolder
from napari_dante.model.file import Lineage, read_header
from napari_dante.model.spec import Named, Structures, further_labels

__all__ = ["Outcome", "outcome_of", "write_outcome"]


@dataclass(frozen=True)
class Outcome:
    """The new model, without its weights.

    Attributes
    ----------
    spec
        Names the structures 1, 2, … of the job's masks.
    lineage
        Where the model comes from.
    digest
        SHA-256 of a new ``.model`` file that differs from the old one in nothing but the
        weights and the time; None for models that run no code.
    """

    spec: Named
    lineage: Lineage
    digest: str | None = None


def outcome_of(job: JobFolder) -> Outcome:
    """Return what came of a finished job.

    Raises
    ------
    ModelError, JobError
        If it is not finished or damaged.
    """
    if not job.own_code:
        return Outcome(*read_header(job.candidate))
    try:
        data = json.loads(job.own.read_text())
        spec = Structures(further_labels((), [str(name) for name in data["names"]]))
        return Outcome(spec, Lineage.from_json(data["lineage"]), str(data["sha256"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise JobError("This job is not finished, or damaged.", detail=repr(error)) from error


def write_outcome(job: JobFolder, outcome: Outcome) -> None:
    """Write down what a model that runs by its own code has become."""
    data = {
        "names": [label.name for label in outcome.spec.labels],
        "lineage": asdict(outcome.lineage),
        "sha256": outcome.digest,
    }
    write_text(job.own, json.dumps(data, indent=1))
