"""What lies between the old and the new model of a job."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_dante.errors import JobError, ModelError
from napari_dante.jobs.folder import JobFolder, create_job
from napari_dante.jobs.mixing import examine_mixtures, write_mixture
from napari_dante.jobs.run import run_job
from napari_dante.model.file import read_model
from tests.jobs.ball import case, recipe

Ball = tuple[NDArray[np.float32], NDArray[np.uint8]]


@pytest.fixture
def finished(tmp_path: Path, model_file: Path, ball: Ball) -> JobFolder:
    job = create_job(
        tmp_path / "job",
        model_file,
        [case(ball)],
        recipe(40, learning_rate=1e-2),
        earlier=[case(ball, tuple(range(24)))],
    )
    list(run_job(job.path))
    return job


def test_the_ends_have_the_exam_of_the_job(finished: JobFolder) -> None:
    old, middle, new = examine_mixtures(finished.path, (0.0, 0.5, 1.0))
    kept = finished.report().earlier
    assert old.earlier == pytest.approx(np.mean([item.before for item in kept]))
    assert new.earlier == pytest.approx(np.mean([item.after for item in kept]))
    assert old.exam is not None
    assert new.exam is not None
    assert old.exam < new.exam
    assert middle.exam not in (old.exam, new.exam)


def test_a_written_mixture_carries_its_own_exam(finished: JobFolder, tmp_path: Path) -> None:
    report = write_mixture(finished.path, 1.0, tmp_path / "new.safetensors")
    assert report == finished.report()
    best, same = read_model(finished.candidate), read_model(tmp_path / "new.safetensors")
    assert all(np.array_equal(value, same.weights[key]) for key, value in best.weights.items())
    write_mixture(finished.path, 0.0, tmp_path / "old.safetensors")
    old = read_model(tmp_path / "old.safetensors")
    assert old.lineage.exam is not None
    assert old.lineage.exam["before"] == old.lineage.exam["after"]
    assert old.lineage.parent == best.lineage.parent


def test_only_a_finished_job_is_mixed(tmp_path: Path, model_file: Path, ball: Ball) -> None:
    job = create_job(tmp_path / "job", model_file, [case(ball)], recipe())
    with pytest.raises(JobError, match="not finished"):
        examine_mixtures(job.path)


def test_a_share_out_of_range_writes_nothing(finished: JobFolder, tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        write_mixture(finished.path, 1.5, tmp_path / "x.safetensors")
    assert not (tmp_path / "x.safetensors").exists()
