"""A job is a folder: whoever has it can run it. Torch-free.

::

    job.json            recipe, SHA-256 of the base model, share of the exam, software
    base.safetensors    the model to adapt
    cases/0/            case.json, image.npy, labels.npy, trusted.npy
    earlier/0/          the same, of cases that the model has learned before
    events.jsonl        what happened
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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_data_path

from napari_dante.adapt.recipe import Recipe, recipe_from_json, recipe_to_json
from napari_dante.errors import JobError, TeachError
from napari_dante.evaluate.report import ExamReport, read_report
from napari_dante.evaluate.split import Split, split_slices
from napari_dante.files import atomic_path, save_array, sha256, write_text
from napari_dante.model.file import read_header
from napari_dante.model.spec import ArchitectureSpec

__all__ = ["CaseData", "JobFolder", "create_job", "new_job_folder"]


@dataclass(frozen=True, eq=False)
class CaseData:
    """One corrected volume, arrays in display order (z, y, x).

    Attributes
    ----------
    image
        Intensities, any numeric type.
    labels
        Label values; meaningful on the trusted slices.
    names
        Structure of each label value; structures are matched to the model by name.
    spacing
        mm per voxel (z, y, x).
    axis
        Slice axis of `trusted`.
    trusted
        bool for each slice along `axis`.
    """

    image: NDArray[Any]
    labels: NDArray[Any]
    names: Mapping[int, str]
    spacing: tuple[float, float, float]
    axis: int
    trusted: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if self.image.shape != self.labels.shape:
            raise TeachError("The labels are not on the grid of the image.")
        if self.trusted.shape != (self.image.shape[self.axis],):
            raise TeachError("There must be one entry for each slice, trusted or not.")

    def classes(self, spec: ArchitectureSpec) -> NDArray[np.uint8]:
        """Return the labels as class numbers of `spec`, matched by name.

        Raises
        ------
        TeachError
            If a trusted slice holds a structure that the model does not know.
        """
        numbers = {label.name: index for index, label in enumerate(spec.labels, start=1)}
        seen = np.take(self.labels, np.flatnonzero(self.trusted), self.axis)
        unknown = [
            self.names.get(int(value), f"label {value}")
            for value in np.unique(seen)
            if value != 0 and self.names.get(int(value)) not in numbers
        ]
        if unknown:
            known = ", ".join(numbers)
            raise TeachError(
                f"The model does not know '{unknown[0]}'; it knows: {known}. "
                "Rename the label or remove it from the corrected slices."
            )
        out = np.zeros(self.labels.shape, np.uint8)
        for value, name in self.names.items():
            if value != 0 and name in numbers:
                out[self.labels == value] = numbers[name]
        return out


@dataclass(frozen=True)
class JobFolder:
    """A job on disk; every property is read from its files."""

    path: Path

    @property
    def base(self) -> Path:
        """The model to adapt."""
        return self.path / "base.safetensors"

    @property
    def candidate(self) -> Path:
        """The adapted model; it exists from the first improvement on."""
        return self.path / "best.safetensors"

    @property
    def adapter(self) -> Path:
        """What LoRA has changed in the adapted model; other recipes leave none."""
        return self.path / "adapter.safetensors"

    @property
    def events(self) -> Path:
        """One JSON line for each event."""
        return self.path / "events.jsonl"

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

    def recipe(self) -> Recipe:
        """Return how to adapt."""
        return recipe_from_json(self._description()["recipe"])

    def base_hash(self) -> str:
        """Return the SHA-256 of the model file that the person taught.

        Raises
        ------
        JobError
            If the model inside the folder is another one.
        """
        digest = str(self._description()["base"])
        if sha256(self.base) != digest:
            raise JobError("The model inside this job folder is not the one it was made for.")
        return digest

    def case(self, index: int = 0) -> CaseData:
        """Return a case; the image is memory-mapped."""
        return self._read_case(self.path / "cases" / str(index))

    def cases(self) -> list[CaseData]:
        """Return the cases to learn from."""
        return self._read_cases("cases")

    def earlier(self) -> list[CaseData]:
        """Return the cases that the model has learned before."""
        return self._read_cases("earlier")

    def _read_cases(self, kind: str) -> list[CaseData]:
        count = len([path for path in (self.path / kind).glob("*") if path.is_dir()])
        return [self._read_case(self.path / kind / str(index)) for index in range(count)]

    def _read_case(self, folder: Path) -> CaseData:
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

    def split(self) -> Split:
        """Return which slices of the first case are learned from and examined."""
        fraction = float(self._description()["exam_fraction"])
        return split_slices(self.case().trusted, fraction)

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


def create_job(
    folder: Path,
    model: Path,
    cases: Sequence[CaseData],
    recipe: Recipe,
    exam_fraction: float = 0.3,
    earlier: Sequence[CaseData] = (),
) -> JobFolder:
    """Write a job folder; ``job.json`` comes last, so a half-written one is not a job.

    Parameters
    ----------
    folder, model
        The new folder, and the model file to adapt, which is copied into it.
    cases
        To learn from; the exam is on slices of the first.
    recipe
        How to adapt.
    exam_fraction
        Share of the first case's trusted slices that is set aside.
    earlier
        Cases that the model has learned before: part of their slices is rehearsed, on the
        others it is examined what the new model has forgotten.

    Raises
    ------
    TeachError
        If nothing is trusted, the exam leaves nothing to learn from, or a structure is
        unknown to the model.
    JobError
        If the folder already holds a job.
    ModelError
        If `model` is not a model of ours.
    """
    if (folder / "job.json").exists():
        raise JobError("This folder already holds a job; choose another one.")
    if not cases:
        raise TeachError("There is no case to learn from.")
    spec, _ = read_header(model)
    for case in (*cases, *earlier):
        case.classes(spec)
    split_slices(cases[0].trusted, exam_fraction)
    for kind, group in (("cases", cases), ("earlier", earlier)):
        for index, case in enumerate(group):
            _write_case(folder / kind / str(index), case)
    job = JobFolder(folder)
    with atomic_path(job.base) as temporary:
        shutil.copyfile(model, temporary)
    description = {
        "software": version("napari-dante"),
        "recipe": recipe_to_json(recipe),
        "base": sha256(job.base),
        "exam_fraction": exam_fraction,
    }
    write_text(folder / "job.json", json.dumps(description, indent=1))
    return job


def _write_case(folder: Path, case: CaseData) -> None:
    save_array(folder / "image.npy", case.image)
    save_array(folder / "labels.npy", case.labels)
    save_array(folder / "trusted.npy", case.trusted)
    names = {str(value): name for value, name in case.names.items()}
    data = {"names": names, "spacing": list(case.spacing), "axis": case.axis}
    write_text(folder / "case.json", json.dumps(data))
