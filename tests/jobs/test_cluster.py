"""A real Dask cluster on this computer runs the same job folder."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_dante.errors import JobError
from napari_dante.jobs.cluster import run_on_cluster, tell_cluster
from napari_dante.jobs.events import Failed, Finished, Paused, Progress
from napari_dante.jobs.run import run_job
from napari_dante.model.file import read_model
from tests.jobs.ball import job

pytestmark = pytest.mark.xdist_group("cluster")  # what they share is made once

Ball = tuple[NDArray[np.float32], NDArray[np.uint8]]

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with distributed.LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=True,
        dashboard_address="127.0.0.1:0",
        memory_limit=0,
    ) as cluster:
        yield cluster.scheduler_address


def test_the_cluster_gives_the_events_and_the_weights_of_this_computer(
    address: str, tmp_path: Path, model_file: Path, ball: Ball
) -> None:
    here, there = (job(tmp_path / name, model_file, ball) for name in ("here", "there"))
    local = list(run_job(here.path))
    remote = list(run_on_cluster(address, there.path))
    assert [type(event) for event in remote] == [type(event) for event in local]
    assert isinstance(remote[-1], Finished)
    first, second = (read_model(one.candidate).weights for one in (here, there))
    assert all(np.allclose(first[key], second[key], atol=1e-2) for key in first)


def test_words_reach_the_cluster(
    address: str, tmp_path: Path, model_file: Path, ball: Ball
) -> None:
    folder = job(tmp_path / "job", model_file, ball, steps=100_000, patience=100_000)
    events = []
    for event in run_on_cluster(address, folder.path):
        if isinstance(event, Progress) and not events:
            tell_cluster(folder.path, "pause")
            events.append(event)
        elif isinstance(event, Paused):
            tell_cluster(folder.path, "cancel")
            events.append(event)
        last = event
    assert isinstance(last, Failed)
    assert last.kind == "cancelled"


def test_no_cluster_is_a_sentence(tmp_path: Path, model_file: Path, ball: Ball) -> None:
    folder = job(tmp_path / "job", model_file, ball)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(JobError, match="does not answer"):
        next(run_on_cluster(f"tcp://127.0.0.1:{port}", folder.path))
    with pytest.raises(JobError, match="does not answer"):
        next(run_on_cluster("nonsense", folder.path))
