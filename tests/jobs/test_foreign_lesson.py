"""A file's own code learns from the slices to learn from, apart, and is examined as any other."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from napari_dante.cli import run
from napari_dante.errors import JobError, ModelError, TeachError, UnsafeFile
from napari_dante.files import sha256
from napari_dante.jobs import foreign
from napari_dante.jobs.case import CaseData
from napari_dante.jobs.comparison import compare
from napari_dante.jobs.events import Elapsed, Event, Failed, Finished, Started
from napari_dante.jobs.folder import JobFolder
from napari_dante.jobs.foreign import ForeignMask, learn_apart
from napari_dante.jobs.foreign_child import _learn, _segment
from napari_dante.jobs.foreign_job import create_own_job
from napari_dante.jobs.foreign_lesson import _numbered
from napari_dante.jobs.outcome import outcome_of
from napari_dante.jobs.reporting import report_of
from napari_dante.jobs.run import run_job
from napari_dante.model.dafne import read_dafne, to_dafne, write_dafne
from napari_dante.model.dafne_update import same_but_weights, with_weights
from napari_dante.model.trust import is_trusted, trust
from napari_dante.volume import Geometry, open_labels, write_nifti
from tests.federated.tiny import affine, tiny_model
from tests.jobs.levels import APPLY, INIT, bright_case, learning, level_file, level_model

Ball = tuple[NDArray[np.float32], NDArray[np.uint8]]
Lesson = Callable[..., tuple[JobFolder, list[Event]]]


@pytest.fixture
def lesson(tmp_path: Path, ball: Ball) -> Lesson:
    """Teach a model file the core of the ball; return the job and what it said."""
    numbers = itertools.count()

    def taught(
        model: Path, case: CaseData | None = None, **options: object
    ) -> tuple[JobFolder, list[Event]]:
        folder = tmp_path / f"job {next(numbers)}"
        job = create_own_job(folder, model, [case or bright_case(ball)], **options)  # type: ignore[arg-type]
        return job, list(run_job(folder))

    return taught


def nothing_came(job: JobFolder, before: bytes) -> bool:
    """Whether there is no new file, half a one neither, and the old one is as it was."""
    left = {path.suffix for path in job.path.iterdir() if path.name != "base.model"}
    return ".model" not in left and not job.own.exists() and job.base.read_bytes() == before


def failed(events: list[Event]) -> Failed:
    assert isinstance(events[-1], Failed), events
    return events[-1]


def test_the_code_learns_and_everything_but_the_weights_stays(
    tmp_path: Path, ball: Ball, lesson: Lesson
) -> None:
    path = level_file(tmp_path / "level.model")
    job, events = lesson(path)
    assert isinstance(events[-1], Finished), events
    old, new = read_dafne(path), read_dafne(job.candidate)
    assert same_but_weights(old, new)
    assert new.timestamp > old.timestamp
    assert new.weights["lessons"].tolist() == [1]
    assert 110 < float(new.weights["level"]) < 190
    # The exam is on slices that were not learned from, by the file's own predictions.
    report, split = job.report(), job.split()
    assert report.exam == split.exam
    assert report.learned == split.learn
    assert not set(split.exam) & set(split.learn)
    image, _ = ball
    np.testing.assert_array_equal(job.mask("before"), image > 50)
    np.testing.assert_array_equal(job.mask("after"), image > float(new.weights["level"]))
    before, after = report.mean("before"), report.mean("after")
    assert before is not None
    assert before < 0.6
    assert after == pytest.approx(1.0)
    started = next(event for event in events if isinstance(event, Started))
    assert started.dice is not None
    assert abs(started.dice - before) < 0.1
    # The rest of the house takes it for a lesson like any other.
    outcome, written = outcome_of(job), report_of(job)
    assert outcome.digest == sha256(job.candidate)
    assert outcome.lineage.parent == sha256(path)
    assert outcome.lineage.model_id == str(old.model_id)
    assert written.structures == ("bright",)
    assert "own code" in written.method
    assert not compare(job).mistakes("after").any()


SEES = """def apply(model_object, data):
    model_object.metadata["apply"].append(data)
    return {"bright": data["image"] > 50}
"""
TELLS = """model_object.metadata["learn"].append((data, outputs, batch_size, minimum))"""


@pytest.mark.parametrize(
    ("orientation", "axis", "reverse"),
    [("", 0, True), ("axial", 0, True), ("sagittal", 2, True), ("coronal", 1, False)],
)
@pytest.mark.parametrize("dimensionality", [2, 3])
def test_code_learns_from_slices_as_it_sees_them_when_it_predicts(
    ball: Ball, orientation: str, axis: int, reverse: bool, dimensionality: int
) -> None:
    """Right is X, anterior is Y, inferior is Z in Dafne's axial models, and so on."""
    seen: dict[str, Any] = {"orientation": orientation, "apply": [], "learn": []}
    base = level_model(learning(TELLS), SEES, dimensionality)
    model = replace(base, metadata=seen)
    case = bright_case((np.round(ball[0]), ball[1]), axis)
    learn, spacing = [8, 9, 13], list(case.spacing)
    cut = case.cut(learn)
    _segment(model, case.image, spacing)
    _learn(model, cut.image, cut.labels, ["bright"], spacing)
    data, outputs, batch, minimum = seen["learn"][0]
    size = case.image.shape[axis]
    places = sorted(size - 1 - index if reverse else index for index in learn)
    if dimensionality == 2:
        assert sorted(data) == ["classification", "image_list", "resolution"]
        assert (batch, minimum) == (3, 3)
        assert isinstance(outputs, list)
        expected = [seen["apply"][place]["image"] for place in places]
        masks = [one["bright"] for one in outputs]
        images = data["image_list"]
    else:
        assert sorted(data) == ["affine", "classification", "image_list", "resolution"]
        assert (batch, minimum) == (1, 1)
        assert isinstance(outputs, dict)
        before = seen["apply"][0]
        np.testing.assert_array_equal(data["affine"], [before["affine"]])
        expected = np.moveaxis(before["image"], 2, 0)[places]
        (images,), masks = data["image_list"], outputs[0]["bright"]
    assert data["resolution"] == seen["apply"][0]["resolution"]
    np.testing.assert_array_equal(images, expected)
    np.testing.assert_array_equal(masks, np.array(expected) > 150)
    assert {np.asarray(mask).dtype for mask in masks} == {np.dtype(np.uint8)}


def test_many_slices_come_in_the_batches_of_dafne(ball: Ball) -> None:
    seen: dict[str, Any] = {"learn": []}
    model = replace(level_model(learning(TELLS)), metadata=seen)
    image, labels = ball
    _learn(model, image, labels, ["bright", "shell"], [2.0, 1.5, 1.0])
    _, outputs, batch, minimum = seen["learn"][0]
    assert (batch, minimum) == (5, 5)
    # As Dafne does it, each slice has a mask of every structure, be it empty.
    assert all(sorted(one) == ["bright", "shell"] for one in outputs)
    assert not outputs[0]["bright"].any()


EXAM = """import json
with open({told!r}, "w") as stream:
    json.dump(sorted(float(image.max()) for image in data["image_list"][0]), stream)
with torch.no_grad():
    model_object.model.level += 1"""


def test_the_exam_and_what_nobody_corrected_are_not_handed_over(
    tmp_path: Path, ball: Ball, lesson: Lesson
) -> None:
    image = ball[0].copy()
    image += 1000 * np.arange(len(image), dtype=np.float32)[:, None, None]
    told = str(tmp_path / "told.json")
    code = learning("import torch", EXAM.format(told=told))
    job, events = lesson(
        level_file(tmp_path / "level.model", learn=code, dimensionality=3),
        bright_case((image, ball[1])),
    )
    assert isinstance(events[-1], Finished), events
    highest = json.loads(Path(told).read_text())
    assert [int(value // 1000) for value in highest] == list(job.split().learn)


def test_torch_code_learns_too(tmp_path: Path, ball: Ball, lesson: Lesson) -> None:
    """The learning that a file of ours carries, in a file that nobody can tell to be ours."""
    dafne = to_dafne(tiny_model())
    path = tmp_path / "torch.model"
    write_dafne(path, replace(dafne, metadata={}))
    trust(sha256(path))
    image, labels = ball
    trusted = np.zeros(len(image), bool)
    trusted[6:18:2] = True
    case = CaseData(image, labels, {1: "grey 'matter'", 2: "white"}, (2.0, 1.5, 1.0), 0, trusted)
    job, events = lesson(path, case)
    assert isinstance(events[-1], Finished), events
    report = job.report()
    before, after = report.mean("before"), report.mean("after")
    assert before is not None
    assert after is not None
    assert after > before + 0.1
    assert any("learning with" in e.what for e in events if isinstance(e, Elapsed))


HOSTILE = """import atexit, torch
with torch.no_grad():
    model_object.model.level += 1
def last(): open("learned.model", "wb").write({content!r})
atexit.register(last)"""


def learned(path: Path, ball: Ball) -> dict[str, torch.Tensor]:
    """Let a file learn apart, without the exams around it."""
    case = bright_case(ball).cut([8, 9])
    running = learn_apart(path, sha256(path), case, case.labels, ["bright"])
    with closing(running):
        while True:
            try:
                next(running)
            except StopIteration as end:
                weights: dict[str, torch.Tensor] = end.value
                return weights


@pytest.mark.parametrize(
    ("code", "sentence", "detail"),
    [
        ("import os\nos._exit(3)", "failed while it learned", "3"),
        ("raise SystemExit(0)", "did not answer with weights", ""),
        ("model_object.model = 3", "failed while it learned", "state_dict"),
        (HOSTILE.format(content=b"cos\nsystem\n(S'touch canary'\ntR."), "did not answer", ""),
        ("import os\nos.mkfifo('learned.model')\nos._exit(0)", "did not answer", ""),
        ("bytearray(2**46)", "failed while it learned", "MemoryError"),
    ],
)
def test_what_the_process_leaves_is_not_believed(
    tmp_path: Path, ball: Ball, code: str, sentence: str, detail: str
) -> None:
    path = level_file(tmp_path / "level.model", learn=learning(code))
    with pytest.raises(JobError, match=sentence) as caught:
        learned(path, ball)
    assert detail in caught.value.detail
    assert not list(tmp_path.rglob("canary"))


@pytest.mark.parametrize(
    ("code", "sentence", "detail"),
    [
        ("raise ValueError('boom')", "failed while it learned", "boom"),
        (
            "model_object.model.level.data[:] = float('nan')",
            "numbers that are not finite; nothing changed",
            "",
        ),
    ],
)
def test_what_goes_wrong_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, lesson: Lesson, code: str, sentence: str, detail: str
) -> None:
    path = level_file(tmp_path / "level.model", learn=learning(code))
    job, events = lesson(path)
    last = failed(events)
    assert sentence in last.sentence
    assert detail in last.detail
    assert nothing_came(job, path.read_bytes())


def test_weights_are_looked_at_before_they_are_taken() -> None:
    model = level_model()
    level, lessons = torch.tensor([1.0]), torch.tensor([1])
    with pytest.raises(TeachError, match="learned nothing"):
        with_weights(model, {key: value.clone() for key, value in model.weights.items()})
    for wrong in (
        {"level": level},
        {"level": torch.ones(2), "lessons": lessons},
        {"level": level, "lessons": lessons, "more": level},
    ):
        with pytest.raises(ModelError, match="layout"):
            with_weights(model, wrong)
    for odd in (float("nan"), float("inf")):
        with pytest.raises(ModelError, match="not finite"):
            with_weights(model, {"level": torch.tensor([odd]), "lessons": lessons})


def test_the_code_cannot_change_itself_by_learning(tmp_path: Path, lesson: Lesson) -> None:
    """Whatever file it leaves, nothing is taken from it but the weights."""
    other = replace(
        level_model(learn=learning("raise SystemExit")),
        weights={"level": torch.tensor([150.0]), "lessons": torch.tensor([7])},
        metadata={"orientation": "", "by": "me"},
        model_id="another",
    )
    write_dafne(tmp_path / "other.model", other)
    content = (tmp_path / "other.model").read_bytes()
    path = level_file(tmp_path / "level.model", learn=learning(HOSTILE.format(content=content)))
    job, events = lesson(path)
    assert isinstance(events[-1], Finished), events
    new = read_dafne(job.candidate)
    assert new.weights["level"].tolist() == [150.0]
    assert new.sources == read_dafne(path).sources
    assert same_but_weights(read_dafne(path), new)


def test_the_code_learns_without_the_network(tmp_path: Path, ball: Ball) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        port = listener.getsockname()[1]
        code = f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 2)"
        path = level_file(tmp_path / "level.model", learn=learning(code))
        with pytest.raises(JobError) as caught:
            learned(path, ball)
        assert "PermissionError" in caught.value.detail
        with pytest.raises(TimeoutError):
            listener.accept()


FOR_EVER = "import os\nopen({canary!r}, 'w').write(str(os.getpid()))\nwhile True: pass"


def learning_for_ever(tmp_path: Path, ball: Ball) -> tuple[JobFolder, Path]:
    canary = tmp_path / "pid"
    code = learning(FOR_EVER.format(canary=str(canary)))
    path = level_file(tmp_path / "level.model", learn=code)
    return create_own_job(tmp_path / "job", path, [bright_case(ball)]), canary


def is_gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{process}/stat").read_text().split()[2] == "Z"


def test_a_person_can_end_code_that_learns_for_ever(tmp_path: Path, ball: Ball) -> None:
    job, canary = learning_for_ever(tmp_path, ball)
    old = job.base.read_bytes()

    def poll(wait: bool) -> str | None:
        assert not wait
        return "cancel" if canary.is_file() and canary.read_text() else "pause"

    events = list(run_job(job.path, poll))  # type: ignore[arg-type]
    assert failed(events).kind == "cancelled"
    assert is_gone(int(canary.read_text()))
    assert nothing_came(job, old)
    elapsed = [event for event in events if isinstance(event, Elapsed)]
    assert {event.what.split()[0] for event in elapsed} >= {"predicting", "learning"}
    assert all("the file's own code" in event.what for event in elapsed)


@pytest.mark.slow
def test_code_that_learns_for_ever_is_ended(
    tmp_path: Path, ball: Ball, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreign, "SECONDS", 40.0)
    job, canary = learning_for_ever(tmp_path, ball)
    with pytest.raises(JobError, match="took too long"):
        learned(job.base, ball)
    assert is_gone(int(canary.read_text()))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not promise it")
def test_foreign_code_does_not_outlive_who_started_it(tmp_path: Path, ball: Ball) -> None:
    job, canary = learning_for_ever(tmp_path, ball)
    program = (
        "import sys; from pathlib import Path; from napari_dante.jobs.run import run_job; "
        "list(run_job(Path(sys.argv[1])))"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(job.path)]) as process:
        end = time.monotonic() + 60
        while not (canary.is_file() and canary.read_text()) and time.monotonic() < end:
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
    pid = int(canary.read_text())
    while not is_gone(pid) and time.monotonic() < end:
        time.sleep(0.1)
    assert is_gone(pid)


def canaries(tmp_path: Path) -> Iterator[str]:
    for name in ("apply", "learn"):
        yield f"open({str(tmp_path / name)!r}, 'w').close()"


def test_what_cannot_be_learned_is_refused_before_anything_runs(
    tmp_path: Path, ball: Ball, lesson: Lesson
) -> None:
    on_apply, on_learn = canaries(tmp_path)
    apply = f"def apply(model_object, data):\n    {on_apply}\n    return {{}}\n"
    learn = learning(on_learn)
    untrusted = level_file(tmp_path / "a.model", trusted=False, apply=apply, learn=learn)
    case = bright_case(ball)
    with pytest.raises(UnsafeFile, match="nobody has allowed"):
        lesson(untrusted)
    trust(sha256(untrusted))
    with pytest.raises(TeachError, match="one image at a time"):
        create_own_job(tmp_path / "two", untrusted, [case, case])
    _, events = lesson(untrusted, bright_case(ball, axis=1))
    assert failed(events).sentence.endswith("correct axial slices.")
    cannot = level_file(tmp_path / "b.model", apply=apply, learn=None)
    _, events = lesson(cannot)
    assert "no code to learn with" in failed(events).sentence
    assert not (tmp_path / "apply").exists()
    assert not (tmp_path / "learn").exists()


def test_a_new_structure_is_refused_before_anything_is_learned(
    tmp_path: Path, ball: Ball, lesson: Lesson
) -> None:
    _, on_learn = canaries(tmp_path)
    path = level_file(tmp_path / "level.model", learn=learning(on_learn))
    job, events = lesson(path, bright_case(ball, name="lesion"))
    assert "does not know 'lesion', it finds bright" in failed(events).sentence
    assert not (tmp_path / "learn").exists()
    assert nothing_came(job, path.read_bytes())


def test_a_job_whose_model_is_another_one_does_not_run(tmp_path: Path, ball: Ball) -> None:
    path = level_file(tmp_path / "level.model")
    job = create_own_job(tmp_path / "job", path, [bright_case(ball)])
    level_file(job.base, apply=APPLY + "# other", trusted=False)
    assert failed(list(run_job(job.path))).kind == "unsafefile"
    trust(sha256(job.base))
    assert failed(list(run_job(job.path))).kind == "joberror"
    with pytest.raises(JobError, match="already holds a job"):
        create_own_job(tmp_path / "job", path, [bright_case(ball)])


def test_structures_are_matched_by_name_where_the_code_names_others_later() -> None:
    mask = ForeignMask(np.array([[[0, 1, 2]]], np.uint8), ("dark", "bright"), network_cut=True)
    np.testing.assert_array_equal(_numbered(mask, ("bright", "dark")), [[[0, 2, 1]]])
    with pytest.raises(JobError, match="too many"):
        _numbered(mask, ("bright", "dark", *map(str, range(254))))


@pytest.mark.parametrize(
    "change",
    [
        {"sources": {"init_model_function": INIT}},
        {"sources": level_model().sources | {"apply_model_function": APPLY + " "}},
        {"metadata": {"orientation": ""}},
        {"metadata": level_model().metadata | {"net": {"spacing": np.array([1.0, 2.5])}}},
        {"metadata": level_model().metadata | {"net": {"spacing": [1.0, 2.0]}}},
        {"extra": {}},
        {"dimensionality": 3},
        {"kind": "DynamicEnsembleModel"},
        {"model_id": str(level_model().model_id)},
        {"is_delta": True},
    ],
)
def test_a_model_that_differs_in_more_than_its_weights_is_another(change: dict) -> None:  # type: ignore[type-arg]
    model = level_model()
    learned = with_weights(model, {"level": torch.tensor([1.0]), "lessons": torch.tensor([1])})
    assert same_but_weights(model, learned)
    assert same_but_weights(learned, model)
    assert not same_but_weights(model, replace(learned, **change))


@pytest.fixture
def head(tmp_path: Path, ball: Ball) -> list[str]:
    """The ball on a grid of its own, as the arguments of a case."""
    image, labels = ball
    geometry = Geometry.from_affine(image.shape[::-1], affine("LPS", (1.0, 1.5, 2.0)))
    core = (labels == 1).astype(np.uint8)
    write_nifti(tmp_path / "image.nii.gz", image, geometry)
    write_nifti(tmp_path / "labels.nii.gz", core, geometry)
    return ["--case", str(tmp_path / "image.nii.gz"), str(tmp_path / "labels.nii.gz")]


def test_it_is_taught_on_the_command_line(
    tmp_path: Path, ball: Ball, head: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = level_file(tmp_path / "a.model", trusted=False), tmp_path / "new.model"
    arguments = ["teach", "--model", str(path), *head, "--slices", "8-13", "--out", str(out)]
    assert run(arguments) == 1
    assert "--trust-code" in capsys.readouterr().err
    assert not out.exists()
    assert run([*arguments, "--trust-code", "--json"]) == 0
    assert '"recipe": "own code"' in capsys.readouterr().out
    assert same_but_weights(read_dafne(path), read_dafne(out))
    # A person's word for the one file holds for what it has become, and for nothing else.
    assert is_trusted(sha256(out))
    predict = ["predict", head[1], "--model", str(out), "--out", str(tmp_path / "mask.nii.gz")]
    assert run(predict) == 0
    mask = open_labels(tmp_path / "mask.nii.gz").array
    np.testing.assert_array_equal(mask, ball[1] == 1)
    write_dafne(out, replace(read_dafne(out), sources=level_model(apply=APPLY + " ").sources))
    assert run(predict) == 1


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--new-label", "lesion"], "cannot learn new structures"),
        (["--case", "a", "b"], "one image at a time"),
        (["--set", "steps=3"], "as that code decides"),
        (["--recipe", "full"], "as that code decides"),
        (["--out", "new.safetensors"], "written as a .model file"),
    ],
)
def test_what_cannot_be_asked_of_foreign_code_is_refused(
    tmp_path: Path,
    head: list[str],
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    sentence: str,
) -> None:
    path, out = level_file(tmp_path / "a.model", trusted=False), tmp_path / "new.model"
    arguments = ["teach", "--model", str(path), *head, "--out", str(out), "--trust-code"]
    assert run([*arguments, *more]) == 1
    assert sentence in capsys.readouterr().err
    assert not is_trusted(sha256(path)), "nothing is allowed for what is not done"
    assert not out.exists()


def test_a_file_that_can_be_rebuilt_is_not_taught_by_its_code(
    tmp_path: Path, head: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "ours.model"
    write_dafne(path, to_dafne(tiny_model()))
    arguments = ["teach", "--model", str(path), *head, "--out", str(tmp_path / "new.model")]
    assert run([*arguments, "--trust-code"]) == 1
    assert "napari-dante model import" in capsys.readouterr().err
    assert not is_trusted(sha256(path))
