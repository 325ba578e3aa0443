"""New structures beside old ones: named on purpose, learned, and never at the old ones' cost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_dante.adapt.recipe import Adapter, EncoderLoRA, FullFineTuning, LoRA
from napari_dante.adapt.training import Training
from napari_dante.errors import TeachError
from napari_dante.jobs.case import CaseData
from napari_dante.jobs.events import Finished, Started
from napari_dante.jobs.folder import create_job
from napari_dante.jobs.run import run_job
from napari_dante.model.file import read_model
from tests.jobs.ball import case

Ball = tuple[NDArray[np.float32], NDArray[np.uint8]]
RECIPES = {"lora": LoRA(rank=2), "full": FullFineTuning(), "encoder": EncoderLoRA(rank=2)}


def with_lesion(ball: Ball, **names: str) -> CaseData:
    """The ball with a brighter piece of its shell, which nobody calls shell any more."""
    image, labels = (array.copy() for array in ball)
    piece = (labels == 2) & (np.arange(22) < 9)
    image[piece] += 150
    labels[piece] = 3
    return replace(case((image, labels)), names=dict(enumerate(("core", "shell", "lesion"), 1)))


def briefly(recipe: Any, steps: int = 40) -> Any:
    training = Training(
        steps=steps, check_every=steps // 2, learning_rate=1e-2, augmentation="none"
    )
    return replace(recipe, training=training)


@pytest.mark.parametrize("name", RECIPES)
def test_a_new_structure_is_learned_beside_the_old_ones(
    tmp_path: Path, model_file: Path, ball: Ball, name: str
) -> None:
    data = with_lesion(ball)
    job = create_job(
        tmp_path / "job", model_file, [data], briefly(RECIPES[name]), new_labels=["lesion"]
    )
    events = list(run_job(job.path))
    assert isinstance(events[-1], Finished), events[-1]
    model, base = read_model(job.candidate), read_model(model_file)
    assert model.spec.labels[:2] == base.spec.labels
    assert model.spec.labels[2].name == "lesion"
    assert model.spec.labels[2].colour not in {label.colour for label in base.spec.labels}
    assert model.lineage.model_id == base.lineage.model_id
    assert job.mask("before").max() <= 2
    report = job.report()
    assert report.labels == ("core", "shell", "lesion")
    assert report.mean("before", label="lesion") == 0.0
    after = report.mean("after", label="lesion")
    assert after is not None
    assert after > 0.3


def test_the_adapter_takes_a_new_structure_too(
    tmp_path: Path, model_file: Path, ball: Ball
) -> None:
    recipe = Adapter(hidden=4, training=Training(steps=2, augmentation="none"))
    job = create_job(tmp_path / "job", model_file, [with_lesion(ball)], recipe, 0.3, ["lesion"])
    assert isinstance(list(run_job(job.path))[-1], Finished)
    assert len(read_model(job.candidate).spec.labels) == 3


def test_the_job_begins_with_what_the_base_says(
    tmp_path: Path, model_file: Path, ball: Ball
) -> None:
    """The line to beat is the old model's: its new structure finds nothing yet."""
    old = create_job(tmp_path / "old", model_file, [case(ball)], briefly(LoRA(rank=2), 2))
    new = create_job(
        tmp_path / "new", model_file, [with_lesion(ball)], briefly(LoRA(rank=2), 2), 0.3, ["lesion"]
    )
    for job in (old, new):
        assert isinstance(next(iter(run_job(job.path))), Started)
    unlike = with_lesion(ball).image != case(ball).image
    assert not unlike.all()
    assert new.mask("before").max() <= 2
    assert new.mask("before").shape == old.mask("before").shape


def test_a_new_structure_must_be_named_and_shown(
    tmp_path: Path, model_file: Path, ball: Ball
) -> None:
    data = with_lesion(ball)
    with pytest.raises(TeachError, match=r"does not know 'lesion'.*--new-label 'lesion'"):
        create_job(tmp_path / "job", model_file, [data], LoRA())
    with pytest.raises(TeachError, match="does not know 'lesion'"):
        create_job(tmp_path / "job", model_file, [data], LoRA(), new_labels=["leison"])
    with pytest.raises(TeachError, match="shows the new structure 'scar'"):
        create_job(tmp_path / "job", model_file, [data], LoRA(), new_labels=["lesion", "scar"])
    assert not (tmp_path / "job").exists()
    known = create_job(
        tmp_path / "job", model_file, [data], LoRA(), new_labels=["lesion", "core", "lesion"]
    )
    assert known.new_labels() == ("lesion",)


def test_a_new_structure_on_an_exam_slice_only_is_refused(
    tmp_path: Path, model_file: Path, ball: Ball
) -> None:
    data = case(ball)
    labels = data.labels.copy()
    (shown, *_) = create_job(tmp_path / "probe", model_file, [data], LoRA()).split().exam
    labels[shown, 0, 0] = 3
    with pytest.raises(TeachError, match="No slice to learn from"):
        create_job(
            tmp_path / "job",
            model_file,
            [replace(data, labels=labels, names={**data.names, 3: "lesion"})],
            LoRA(),
            new_labels=["lesion"],
        )


def test_what_a_case_does_not_mark_is_neither_examined_nor_annotated(
    tmp_path: Path, model_file: Path, ball: Ball
) -> None:
    data = with_lesion(ball)
    only = replace(data, labels=np.where(data.labels == 3, 3, 0), names={3: "lesion"})
    spec = read_model(model_file).spec
    assert data.annotated(spec) == (True, True, True)
    assert only.annotated(spec) == (True, False, False)
    job = create_job(
        tmp_path / "job", model_file, [only], briefly(LoRA(rank=2), 2), 0.3, ["lesion"]
    )
    assert isinstance(list(run_job(job.path))[-1], Finished)
    assert job.report().labels == ("lesion",)


def test_a_value_without_a_name_has_its_default_name(ball: Ball, model_file: Path) -> None:
    """What create_job calls a structure is what the classes and the loss call it."""
    data = replace(case(ball), names={1: "core"})
    assert data.structures() == ("core", "label 2")
    spec = read_model(model_file).spec
    named = replace(spec, labels=(spec.labels[0], replace(spec.labels[1], name="label 2")))
    assert data.annotated(named) == (True, True, True)
    assert np.array_equal(data.classes(named), ball[1])
