"""The real worker process: warm, killable, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_dante.errors import JobError
from napari_dante.evaluate.uncertainty import slice_doubt
from napari_dante.files import save_array
from napari_dante.jobs.client import Worker
from napari_dante.jobs.events import Event, Failed, Finished, Progress, Ready
from napari_dante.jobs.requests import Export, Import, Predict, Teach
from napari_dante.model.card import Card
from napari_dante.model.file import Model, read_model, write_model
from napari_dante.model.segmenter import Segmenter
from tests.jobs.ball import job

pytestmark = pytest.mark.xdist_group("worker")  # what they share is made once

Ball = tuple[NDArray[np.float32], NDArray[np.uint8]]


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker(threads=1) as started:
        assert isinstance(started.warm_up(), Ready)
        yield started


def predict(worker: Worker, folder: Path, model: Path, image: NDArray[np.float32]) -> list[Event]:
    save_array(folder / "image.npy", image)
    return list(worker.run(Predict(str(folder), str(model), (2.0, 2.0, 2.0))))


def test_predicts_what_the_segmenter_predicts(
    worker: Worker, tmp_path: Path, model_file: Path, ball: Ball
) -> None:
    pid = worker.pid
    events = predict(worker, tmp_path, model_file, ball[0])
    *progress, last = events
    assert isinstance(last, Finished)
    steps = [event for event in progress if isinstance(event, Progress)]
    assert [event.step for event in steps] == list(range(1, steps[0].total + 1))
    mask = np.load(tmp_path / last.file)
    assert np.array_equal(mask, Segmenter.from_file(model_file).predict(ball[0], (2.0,) * 3))
    assert worker.pid == pid, "the warm process was not used"


def test_what_the_model_was_not_made_for_is_refused(
    worker: Worker, tmp_path: Path, model: Model, ball: Ball
) -> None:
    """The tiny model knows nothing, so it is in doubt: too much for one that allows none."""
    card = Card("head", "any contrast", "a ball", {}, doubt=0.0)
    path = tmp_path / "strict.safetensors"
    write_model(path, replace(model, lineage=replace(model.lineage, card=card)))
    last = predict(worker, tmp_path, path, ball[0])[-1]
    assert isinstance(last, Failed)
    assert "does not look like a head" in last.sentence
    assert not (tmp_path / "mask.npy").exists()


def test_tells_how_sure_it_is_when_asked(
    worker: Worker, tmp_path: Path, model_file: Path, ball: Ball
) -> None:
    assert isinstance(predict(worker, tmp_path, model_file, ball[0])[-1], Finished)
    assert not (tmp_path / "doubt.npy").exists()
    request = Predict(str(tmp_path), str(model_file), (2.0, 2.0, 2.0), doubt=True)
    assert isinstance(list(worker.run(request))[-1], Finished)
    expected = Segmenter.from_file(model_file).analyse(ball[0], (2.0,) * 3, entropy=True)
    assert expected.entropy is not None
    doubt = np.load(tmp_path / "doubt.npy")
    assert np.array_equal(doubt, np.concatenate(slice_doubt(expected.entropy)))
    assert doubt.any()
    assert np.array_equal(np.load(tmp_path / "mask.npy"), expected.classes)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="only Linux tells")
def test_what_apple_cannot_compute_falls_back_to_the_processor(worker: Worker) -> None:
    """Torch looks for it while it is imported, so it must be there from the start."""
    environment = Path(f"/proc/{worker.pid}/environ").read_bytes().split(b"\0")
    assert b"PYTORCH_ENABLE_MPS_FALLBACK=1" in environment


def test_a_bad_model_is_a_sentence_and_the_worker_lives_on(
    worker: Worker, tmp_path: Path, model_file: Path, ball: Ball
) -> None:
    fake = tmp_path / "fake.safetensors"
    fake.write_bytes(os.urandom(1000))
    pid = worker.pid
    last = predict(worker, tmp_path, fake, ball[0])[-1]
    assert isinstance(last, Failed)
    assert last.kind == "modelerror"
    assert isinstance(predict(worker, tmp_path, model_file, ball[0])[-1], Finished)
    assert worker.pid == pid


def test_export_and_import_bring_the_weights_back(
    worker: Worker, tmp_path: Path, model_file: Path
) -> None:
    packed, back = tmp_path / "tiny.model", tmp_path / "back.safetensors"
    assert isinstance(list(worker.run(Export(str(model_file), str(packed))))[-1], Finished)
    events = list(worker.run(Import(str(packed), str(back), "tiny", "1700000000")))
    assert isinstance(events[-1], Finished)
    first, second = read_model(model_file), read_model(back)
    assert all(np.array_equal(first.weights[key], second.weights[key]) for key in first.weights)
    assert second.lineage.model_id == first.lineage.model_id
    assert second.lineage.server_timestamp == "1700000000"


def test_words_reach_a_running_lesson(
    worker: Worker, tmp_path: Path, model_file: Path, ball: Ball
) -> None:
    folder = job(tmp_path / "job", model_file, ball, steps=100_000, patience=100_000)
    kinds = []
    for event in worker.run(Teach(str(folder.path))):
        kinds.append(type(event).__name__)
        if kinds.count("Progress") == 3 and "Paused" not in kinds:
            worker.control("pause")
        if kinds[-1] == "Paused":
            worker.control("resume")
        if kinds[-1] == "Resumed":
            worker.control("stop")
    assert kinds[-1] == "Finished"
    assert folder.candidate.is_file()


def test_one_request_at_a_time(
    worker: Worker, tmp_path: Path, model_file: Path, ball: Ball
) -> None:
    folder = job(tmp_path / "job", model_file, ball, steps=100_000, patience=100_000)
    lesson = worker.run(Teach(str(folder.path)))
    next(lesson)
    assert worker.busy
    with pytest.raises(JobError, match="busy"):
        next(worker.run(Teach(str(folder.path))))
    worker.control("cancel")
    assert isinstance(list(lesson)[-1], Failed)
    assert not worker.busy


def test_the_worker_is_free_when_it_says_the_last_word(
    worker: Worker, tmp_path: Path, model_file: Path, ball: Ball
) -> None:
    save_array(tmp_path / "image.npy", ball[0])
    request = Predict(str(tmp_path), str(model_file), (2.0, 2.0, 2.0))
    first = worker.run(request)
    assert any(isinstance(event, Finished) for event in first)
    assert isinstance(list(worker.run(request))[-1], Finished)


def test_killed_in_the_middle_it_is_an_event_and_the_job_goes_on(
    tmp_path: Path, model_file: Path, ball: Ball
) -> None:
    folder = job(tmp_path / "job", model_file, ball, steps=60, patience=100)
    with Worker(threads=1) as worker:
        events = []
        for event in worker.run(Teach(str(folder.path))):
            events.append(event)
            if isinstance(event, Progress) and event.step == 7:
                os.kill(worker.pid or 0, signal.SIGKILL)
        assert isinstance(events[-1], Failed)
        assert events[-1].kind == "worker"
        assert not worker.alive
        assert not list(folder.path.rglob(".writing-*")) or folder.last.is_file()
        again = list(worker.run(Teach(str(folder.path))))
    first = next(event.step for event in again if isinstance(event, Progress))
    assert first > 1, "the lesson began from the start"
    assert isinstance(again[-1], Finished)


def test_closing_while_a_lesson_runs_ends_it_with_an_event(
    tmp_path: Path, model_file: Path, ball: Ball
) -> None:
    folder = job(tmp_path / "job", model_file, ball, steps=100_000, patience=100_000)
    worker, events = Worker(threads=1), []
    started = threading.Event()

    def follow() -> None:
        for event in worker.run(Teach(str(folder.path))):
            events.append(event)
            started.set()

    thread = threading.Thread(target=follow)
    thread.start()
    assert started.wait(120)
    worker.close()
    thread.join(10)
    assert not thread.is_alive()
    assert isinstance(events[-1], Failed)
    assert not worker.alive


def test_the_worker_ends_with_its_viewer(tmp_path: Path) -> None:
    """Kill the parent the hard way; the child must not be left behind."""
    code = """
import sys, time
from napari_dante.files import save_array
from napari_dante.jobs.client import Worker
worker = Worker(threads=1)
worker.start()
print(worker.pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 20
    while _runs(child) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _runs(child)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"
