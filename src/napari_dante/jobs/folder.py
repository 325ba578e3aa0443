"""A job is a folder: whoever has it can run it. Torch-free.

::

    job.json            recipe, SHA-256 of the base model, new structures, share of the
                        exam, software; name and identity of a model from scratch
    base.safetensors    the model to adapt, or to compare with; a job from scratch can do
                        without one
    cases/0/            case.json, image.npy, labels.npy, trusted.npy
    earlier/0/          the same, of cases that the model has learned before
    events.jsonl        what happened
    network.json        the network that was chosen for a job from scratch
    recipe.json         the recipe that was chosen for a job that left it open
    features/           what a frozen network makes of the images, to compute it once
    last.pt             to go on after an interruption
    best.safetensors    the adapted model
    adapter.safetensors what LoRA changed of it, without the model
    before.npy          masks of the first case under the old and the new model
    after.npy
    exam.json           before and after on the slices set aside

Names, paths and DICOM tags of the images are not in it.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_data_path

from napari_dante.adapt.auto import Choice
from napari_dante.adapt.configuration import Configuration
from napari_dante.adapt.recipe import FromScratch, Recipe, recipe_from_json, recipe_to_json
from napari_dante.errors import JobError, TeachError
from napari_dante.evaluate.report import ExamReport, read_report
from napari_dante.evaluate.split import Split, split_slices
from napari_dante.evaluate.uncertainty import Doubt, read_doubt
from napari_dante.files import atomic_path, save_array, sha256, write_text
from napari_dante.jobs.case import CaseData, check_all_marked, check_cases
from napari_dante.model.file import Lineage, read_header

__all__ = [
    "CaseData",
    "JobFolder",
    "create_job",
    "new_job_folder",
    "read_case",
    "write_case",
]


@dataclass(frozen=True)
class JobFolder:
    """A job on disk; every property is read from its files."""

    path: Path

    @property
    def own_code(self) -> bool:
        """Whether the model to adapt is a ``.model`` file that only its own code can run."""
        return (self.path / "base.model").is_file()

    @property
    def _suffix(self) -> str:
        return ".model" if self.own_code else ".safetensors"

    @property
    def base(self) -> Path:
        """The model to adapt; a job from scratch can do without one."""
        return self.path / f"base{self._suffix}"

    @property
    def candidate(self) -> Path:
        """The adapted model; it exists from the first improvement on."""
        return self.path / f"best{self._suffix}"

    @property
    def own(self) -> Path:
        """What is known of an adapted model that runs by its own code."""
        return self.path / "own.json"

    @property
    def adapter(self) -> Path:
        """What LoRA has changed in the adapted model; other recipes leave none."""
        return self.path / "adapter.safetensors"

    @property
    def events(self) -> Path:
        """One JSON line for each event."""
        return self.path / "events.jsonl"

    @property
    def network(self) -> Path:
        """What was chosen for a job from scratch, once it has begun."""
        return self.path / "network.json"

    @property
    def chosen(self) -> Path:
        """Which recipe was chosen for a job that left it open, once it has begun."""
        return self.path / "recipe.json"

    @property
    def features(self) -> Path:
        """Stored features of a frozen network; they can be deleted at any time."""
        return self.path / "features"

    @property
    def last(self) -> Path:
        """State to resume from, until the job is finished."""
        return self.path / "last.pt"

    @property
    def exam(self) -> Path:
        """The report."""
        return self.path / "exam.json"

    @property
    def own_name(self) -> str:
        """What a model that runs by its own code is called."""
        return str(self._description()["own_code"])

    def recipe(self) -> Recipe:
        """Return how to adapt.

        Raises
        ------
        JobError
            If the model learns by its own code.
        """
        if self.own_code:
            raise JobError("This model learns by its own code, so nobody knows how.")
        return recipe_from_json(self._description()["recipe"])

    def base_hash(self) -> str | None:
        """Return the SHA-256 of the model file that the person taught, None without one.

        Raises
        ------
        JobError
            If the model inside the folder is another one.
        """
        digest = self._description()["base"]
        if digest is None:
            return None
        if sha256(self.base) != digest:
            raise JobError("The model inside this job folder is not the one it was made for.")
        return str(digest)

    def configuration(self) -> Configuration | None:
        """Return the network that was chosen for a job from scratch, None before or without."""
        if not self.network.is_file():
            return None
        try:
            return Configuration.from_json(json.loads(self.network.read_text()))
        except (OSError, ValueError) as error:
            raise JobError("The network of this job is damaged.", detail=repr(error)) from error

    def choice(self) -> Choice | None:
        """Return the recipe that was chosen for a job that left it open, None before."""
        if not self.chosen.is_file():
            return None
        try:
            return Choice.from_json(json.loads(self.chosen.read_text()))
        except (OSError, ValueError, KeyError) as error:
            raise JobError("The recipe of this job is damaged.", detail=repr(error)) from error

    def new_labels(self) -> tuple[str, ...]:
        """Return the structures that the model shall learn beside those it knows."""
        return tuple(self._description().get("new_labels", ()))

    def identity(self) -> Lineage:
        """Return the history of a model from scratch: it has none.

        Raises
        ------
        JobError
            If this job adapts a model.
        """
        try:
            return Lineage(**self._description()["identity"])
        except (KeyError, TypeError) as error:
            raise JobError("This job is damaged.", detail=repr(error)) from error

    def case(self, index: int = 0) -> CaseData:
        """Return a case; the image is memory-mapped."""
        return read_case(self.path / "cases" / str(index))

    def cases(self) -> list[CaseData]:
        """Return the cases to learn from."""
        return self._read_cases("cases")

    def earlier(self) -> list[CaseData]:
        """Return the cases that the model has learned before."""
        return self._read_cases("earlier")

    def _read_cases(self, kind: str) -> list[CaseData]:
        count = len([path for path in (self.path / kind).glob("*") if path.is_dir()])
        return [read_case(self.path / kind / str(index)) for index in range(count)]

    def split(self) -> Split:
        """Return which slices of the first case are learned from and examined."""
        described = self._description()
        fraction, frozen = float(described["exam_fraction"]), described.get("frozen_exam", ())
        return split_slices(self.case().trusted, fraction, frozen=frozen)

    def report(self) -> ExamReport:
        """Return the exam."""
        return read_report(self.exam)

    def mask(self, when: Literal["before", "after"]) -> NDArray[np.uint8]:
        """Return the first case's class numbers (z, y, x) under the old or new model."""
        try:
            array: NDArray[np.uint8] = np.load(self.path / f"{when}.npy", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise JobError("This job has no masks yet.", detail=repr(error)) from error
        return array

    def doubt(self) -> Doubt | None:
        """Return how unsure the new model is of each slice across z, y and x.

        None where the job was run before this was asked.
        """
        path = self.path / "doubt.npy"
        if not path.is_file():
            return None
        return read_doubt(path, self.mask("after").shape)

    def save_array(self, name: str, array: NDArray[Any]) -> None:
        """Write an array into the folder in one step."""
        save_array(self.path / name, array)

    def _description(self) -> dict[str, Any]:
        try:
            data: dict[str, Any] = json.loads((self.path / "job.json").read_text())
        except (OSError, ValueError) as error:
            raise JobError("This is not a job folder.", detail=repr(error)) from error
        return data


def new_job_folder() -> Path:
    """Return a fresh folder name below the user's data folder."""
    return user_data_path("napari-dante") / "jobs" / uuid.uuid4().hex


def check_free(folder: Path) -> None:
    """Refuse a folder that holds a job.

    Raises
    ------
    JobError
        If it does.
    """
    if (folder / "job.json").exists():
        raise JobError("This folder already holds a job; choose another one.")


def create_job(
    folder: Path,
    model: Path | None,
    cases: Sequence[CaseData],
    recipe: Recipe,
    exam_fraction: float = 0.3,
    new_labels: Sequence[str] = (),
    earlier: Sequence[CaseData] = (),
    frozen_exam: Sequence[int] = (),
) -> JobFolder:
    """Write a job folder; ``job.json`` comes last, so a half-written one is not a job.

    Parameters
    ----------
    folder
        Where to write it.
    model
        The model to adapt. From scratch it only says which structures there are and is
        compared with; without it the structures are those of the cases.
    cases
        What to learn from; the first one is examined.
    recipe
        How to learn.
    exam_fraction
        Share of the first case's trusted slices that is kept for the exam.
    new_labels
        Structures of the cases that `model` does not know and shall learn. They must be
        named, so that a slip of the pen does not become a structure.
    earlier
        Cases that the model has learned before: part of their slices is rehearsed, on the
        others it is examined what the new model has forgotten. Training from scratch has
        none.
    frozen_exam
        Slices of the first case that an earlier lesson was examined on: they stay its exam.

    Raises
    ------
    TeachError
        If there is nothing to learn: no trusted slice, none left beside the exam, none
        with a structure, or none with one of `new_labels`; if an image is blank; if a
        structure is unknown; or, from scratch, if no case marks what `model` knows.
    JobError
        If the folder already holds a job.
    ModelError
        If `model` is not a model of ours.
    """
    check_free(folder)
    if not cases:
        raise TeachError("There is no case to learn from.")
    spec, lineage = (None, None) if model is None else read_header(model)
    if spec is None:
        if not isinstance(recipe, FromScratch):
            raise TeachError("There is no model to adapt; only training from scratch needs none.")
        new_labels = tuple(dict.fromkeys(name for case in cases for name in case.structures()))
    known = () if spec is None else tuple(label.name for label in spec.labels)
    check_cases(cases, known, new_labels, exam_fraction, frozen_exam)
    if isinstance(recipe, FromScratch):
        check_all_marked(cases, known)
    for case in earlier:
        case.check_known(known)
    for kind, group in (("cases", cases), ("earlier", earlier)):
        for index, case in enumerate(group):
            write_case(folder / kind / str(index), case)
    job = JobFolder(folder)
    if model is not None:
        with atomic_path(job.base) as temporary:
            shutil.copyfile(model, temporary)
    description = {
        "software": version("napari-dante"),
        "recipe": recipe_to_json(recipe),
        "base": None if model is None else sha256(job.base),
        "new_labels": [name for name in dict.fromkeys(new_labels) if name not in known],
        "exam_fraction": exam_fraction,
        "frozen_exam": list(frozen_exam),
    }
    if isinstance(recipe, FromScratch):
        description["identity"] = _new_identity(lineage)
    write_text(folder / "job.json", json.dumps(description, indent=1))
    return job


def _new_identity(base: Lineage | None) -> dict[str, str]:
    """Return a name and an identity of its own for a model from scratch."""
    identity = str(uuid.uuid4())
    name = "scratch" if base is None else base.name[:50].rstrip()
    return {"name": f"{name} {identity[:8]}", "model_id": identity}


def read_case(folder: Path) -> CaseData:
    """Return the case in a folder; the image is memory-mapped.

    Raises
    ------
    JobError
        If it cannot be read.
    """
    try:
        data = json.loads((folder / "case.json").read_text())
        return CaseData(
            image=np.load(folder / "image.npy", mmap_mode="r", allow_pickle=False),
            labels=np.load(folder / "labels.npy", allow_pickle=False),
            names={int(value): str(name) for value, name in data["names"].items()},
            spacing=(*map(float, data["spacing"]),),  # type: ignore[arg-type]
            axis=int(data["axis"]),
            trusted=np.load(folder / "trusted.npy", allow_pickle=False),
        )
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise JobError("A case of this job cannot be read.", detail=repr(error)) from error


def write_case(folder: Path, case: CaseData) -> None:
    """Write a case into a folder; :func:`read_case` gives it back."""
    save_array(folder / "image.npy", case.image)
    save_array(folder / "labels.npy", case.labels)
    save_array(folder / "trusted.npy", case.trusted)
    names = {str(value): name for value, name in case.names.items()}
    data = {"names": names, "spacing": list(case.spacing), "axis": case.axis}
    write_text(folder / "case.json", json.dumps(data))
