"""The command line on real files: exit codes, JSON, one sentence on standard error."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from napari_dante.cli import run
from napari_dante.cli.options import parse_new_label
from napari_dante.jobs.folder import JobFolder
from napari_dante.model.card import Card
from napari_dante.model.cleanup import largest_component
from napari_dante.model.file import Model, read_header, read_model, write_model
from napari_dante.model.segmenter import Segmenter
from napari_dante.volume import Geometry, open_labels, open_volume, write_nifti
from tests.volume.dicom_series import write_series

Ball = tuple[NDArray[np.float32], NDArray[np.uint8]]
AFFINE = np.array([[0, 0, -2.0, 10], [2, 0, 0, -20], [0, 2, 0, 5], [0, 0, 0, 1]])


@pytest.fixture
def files(ball: Ball, tmp_path: Path) -> tuple[Path, Path]:
    """An image and its labels, stored in an order that is not the display order."""
    image, labels = ball
    geometry = Geometry.from_affine(_stored_shape(image), AFFINE)
    assert geometry.shape == image.shape
    paths = tmp_path / "image.nii.gz", tmp_path / "labels.nii"
    write_nifti(paths[0], image, geometry)
    write_nifti(paths[1], labels, geometry)
    return paths


def _stored_shape(image: NDArray[np.float32]) -> tuple[int, int, int]:
    probe = Geometry.from_affine((2, 3, 4), AFFINE)
    order = [probe.stored_axis_to_display(axis)[0] for axis in range(3)]
    return tuple(image.shape[axis] for axis in order)  # type: ignore[return-value]


@pytest.fixture
def dante(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command; return status, standard output and standard error."""

    def command(*arguments: object) -> tuple[int, str, str]:
        status = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return command


Dante = Callable[..., tuple[int, str, str]]


def refused(answer: tuple[int, str, str]) -> str:
    """Check that a command refused in the agreed way, and return its sentence."""
    status, out, err = answer
    assert status == 1
    assert out == ""
    assert err.count("\n") == 1
    assert err.strip()
    assert "Traceback" not in err
    return err


def test_info_tells_the_stored_grid(dante: Dante, files: tuple[Path, Path]) -> None:
    status, out, _ = dante("info", files[0], "--json")
    assert status == 0
    (volume,) = json.loads(out)["volumes"]
    assert volume["orientation"] == "ASL"
    assert volume["shape"] == list(_stored_shape(np.empty((24, 20, 22))))
    assert volume["spacing"] == [2, 2, 2]
    assert json.loads(out)["refused"] == []


def test_dicom_folder_with_two_series_asks_which(dante: Dante, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    array = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    for index in range(2):
        write_series(folder / str(index), array + index, np.diag([1.0, 1, 3, 1]))
    target = tmp_path / "out.nii.gz"
    sentence = refused(dante("convert", folder, target))
    assert not target.exists()
    assert "CANARY" not in sentence
    _, out, _ = dante("info", folder, "--json")
    ids = [volume["id"] for volume in json.loads(out)["volumes"]]
    assert len(ids) == 2
    assert all(id_ in sentence for id_ in ids)
    status, _, _ = dante("convert", folder, target, "--series", ids[0])
    assert status == 0
    assert open_volume(target).geometry.same_grid(open_volume(folder, ids[0]).geometry)


def test_dicom_folder_with_a_missing_slice_says_which(dante: Dante, tmp_path: Path) -> None:
    folder = tmp_path / "series"
    array = np.arange(4 * 5 * 12, dtype=np.int16).reshape(4, 5, 12)
    paths = write_series(folder, array, np.diag([1.0, 1, 3, 1]))
    paths[5].unlink()
    target = tmp_path / "out.nii.gz"
    assert "missing" in refused(dante("convert", folder, target))
    assert not target.exists()
    status, out, _ = dante("info", folder, "--json")
    assert status == 0
    (refusal,) = json.loads(out)["refused"]
    assert "missing" in refusal["why"]


def test_convert_keeps_array_and_affine(
    dante: Dante, files: tuple[Path, Path], tmp_path: Path
) -> None:
    target = tmp_path / "copy.nii"
    assert dante("convert", files[0], target)[0] == 0
    first, second = open_volume(files[0]), open_volume(target)
    assert np.array_equal(first.array, second.array)
    assert np.array_equal(first.geometry.affine, second.geometry.affine)


def test_predict_writes_the_mask_on_the_grid_of_the_image(
    dante: Dante, files: tuple[Path, Path], model_file: Path, tmp_path: Path, ball: Ball
) -> None:
    target = tmp_path / "mask.nii.gz"
    status, out, _ = dante("predict", files[0], "--model", model_file, "--out", target, "--json")
    assert status == 0
    assert set(json.loads(out)["millilitres"]) == {"core", "shell"}
    mask = open_labels(target)
    assert mask.geometry.same_grid(open_volume(files[0]).geometry)
    assert {value: label.name for value, label in mask.labels.items()} == {1: "core", 2: "shell"}
    assert np.array_equal(mask.array, Segmenter.from_file(model_file).predict(ball[0], (2.0,) * 3))


def test_predict_writes_how_sure_the_model_is(
    dante: Dante, files: tuple[Path, Path], model_file: Path, tmp_path: Path, ball: Ball
) -> None:
    mask, unsure, shares = (tmp_path / f"{name}.nii.gz" for name in ("mask", "unsure", "shares"))
    command = ("predict", files[0], "--model", model_file, "--out", mask)
    assert dante(*command, "--uncertainty", unsure, "--probabilities", shares)[0] == 0
    expected = Segmenter.from_file(model_file).analyse(
        ball[0], (2.0,) * 3, entropy=True, probabilities=True
    )
    image, entropy = open_volume(files[0]), open_volume(unsure)
    assert np.array_equal(entropy.geometry.affine, image.geometry.affine)
    assert entropy.array.dtype == np.float32
    assert np.array_equal(entropy.array, expected.entropy)
    assert np.array_equal(open_labels(mask).array, expected.classes)
    stored = nibabel.load(shares)
    assert stored.shape == (*image.geometry.stored_shape, 3)
    assert np.array_equal(stored.affine, image.geometry.affine)
    assert expected.probabilities is not None
    for number, channel in enumerate(expected.probabilities):
        read = open_volume(shares, str(number + 1))
        assert read.geometry.same_grid(image.geometry)
        assert np.array_equal(read.array, channel)


@pytest.mark.parametrize(
    ("unsure", "shares", "word"),
    [
        ("unsure.png", "shares.nii", "ends in"),
        ("unsure.nii", "shares.txt", "ends in"),
        ("mask.nii.gz", "shares.nii", "one file"),
        ("same.nii", "same.nii", "one file"),
    ],
)
def test_predict_refuses_bad_targets_before_it_computes(
    dante: Dante, files: tuple[Path, Path], tmp_path: Path, unsure: str, shares: str, word: str
) -> None:
    """There is no such model: it would be the first to be missed."""
    command = ("predict", files[0], "--model", tmp_path / "none", "--out", tmp_path / "mask.nii.gz")
    options = ("--uncertainty", tmp_path / unsure, "--probabilities", tmp_path / shares)
    assert word in refused(dante(*command, *options))
    assert set(tmp_path.glob("*.nii*")) == set(files)


def teach(files: tuple[Path, Path], model: Path, out: Path, *more: object) -> list[object]:
    """Return a short lesson on stored axis 1, which is the display axis 0."""
    return [
        *("teach", "--model", model, "--case", *files, "--slices", "6,8,12-16", "--axis", 1),
        *("--set", "steps=4", "--set", "check_every=2", "--set", "rank=2", "--out", out, *more),
    ]


def test_teach_an_adapter(
    dante: Dante, files: tuple[Path, Path], model_file: Path, tmp_path: Path
) -> None:
    """What it writes is a model like any other, but not one for a Dafne file."""
    out = tmp_path / "new.safetensors"
    options = ["--slices", "6,8,12-16", "--axis", 1, "--recipe", "adapter", "--set", "hidden=5"]
    options += ["--set", "steps=2", "--set", "linear_probe=false", "--out", out]
    status, _, _ = dante("teach", "--model", model_file, "--case", *files, *options)
    assert status == 0
    assert read_header(out)[0].adapter == 5
    assert dante("predict", files[0], "--model", out, "--out", tmp_path / "mask.nii.gz")[0] == 0
    assert "adapter" in refused(dante("model", "export", out, tmp_path / "new.model"))
    assert not (tmp_path / "new.model").exists()


def test_teach_an_adapter_file_and_apply_it(
    dante: Dante, files: tuple[Path, Path], model_file: Path, tmp_path: Path
) -> None:
    out, adapter, again = (tmp_path / f"{name}.safetensors" for name in ("new", "small", "again"))
    options = ("--adapter-out", adapter, "--set", "targets=encoder,head")
    assert dante(*teach(files, model_file, out, *options))[0] == 0
    assert dante("model", "apply-adapter", model_file, adapter, "--out", again)[0] == 0
    first, second = read_model(out), read_model(again)
    assert first.spec == second.spec
    assert first.lineage.recipe == second.lineage.recipe
    assert all(np.array_equal(first.weights[key], second.weights[key]) for key in first.weights)
    folder, back = tmp_path / "peft", tmp_path / "back.safetensors"
    assert dante("model", "export-adapter", model_file, adapter, folder)[0] == 0
    assert dante("model", "import-adapter", model_file, folder, back)[0] == 0
    assert dante("model", "apply-adapter", model_file, back, "--out", again)[0] == 0
    for key, value in read_model(again).weights.items():
        assert np.allclose(value, first.weights[key], rtol=1e-3, atol=1e-6), key

    never = tmp_path / "never.safetensors"
    assert "another model" in refused(dante("model", "apply-adapter", out, adapter, "--out", never))
    assert "not an adapter" in refused(dante("model", "apply-adapter", out, out, "--out", never))
    assert "peft" in refused(dante("model", "import-adapter", out, tmp_path, never))
    command = ("teach", "--model", model_file, "--case", *files, "--recipe", "full")
    assert "no adapter" in refused(dante(*command, "--out", never, "--adapter-out", never))
    assert not never.exists()


def test_teach_from_scratch_needs_no_model(
    dante: Dante, files: tuple[Path, Path], tmp_path: Path
) -> None:
    out, mask = tmp_path / "new.safetensors", tmp_path / "mask.nii.gz"
    options = ["--slices", "6,8,12-16", "--axis", 1, "--out", out]
    assert "from scratch" in refused(dante("teach", "--case", *files, *options))
    assert not out.exists()
    options += ["--recipe", "scratch", "--set", "steps=2", "--set", "memory=0.2"]
    status, text, _ = dante("teach", "--case", *files, *options, "--json")
    assert status == 0
    data = json.loads(text)
    assert data["exam"]["dice_before"] == 0.0
    assert data["network"].startswith("2D UNet, patch 1 x ")
    spec, lineage = read_header(out)
    assert [label.name for label in spec.labels] == ["label 1", "label 2"]
    assert lineage.parent is None
    assert dante("predict", files[0], "--model", out, "--out", mask)[0] == 0
    status, text, _ = dante("teach", "--case", *files, *options)
    assert data["network"] in text.splitlines()


def test_teach_a_new_label(
    dante: Dante, files: tuple[Path, Path], model_file: Path, tmp_path: Path
) -> None:
    """By its value where the labels have no names, and only when it is asked for."""
    out = tmp_path / "new.safetensors"
    options = ["--slices", "6,8,12-16", "--axis", 1, "--set", "steps=2", "--out", out]
    command = ["teach", "--model", model_file, "--case", *files, *options]
    status, text, _ = dante(*command, "--new-label", "2=lesion", "--json")
    assert status == 0
    assert {score["label"] for score in json.loads(text)["exam"]["scores"]} == {"core", "lesion"}
    assert [label.name for label in read_header(out)[0].labels] == ["core", "shell", "lesion"]
    out.unlink()
    assert "'scar'" in refused(dante(*command, "--new-label", "scar"))
    assert not out.exists()


def test_a_new_label_is_a_name_or_a_value_and_a_name() -> None:
    assert parse_new_label("lesion") == (None, "lesion")
    assert parse_new_label("4= old scar ") == (4, "old scar")
    assert parse_new_label("T2=bright") == (None, "T2=bright")
    for text in ("", " ", "4=", "0=background"):
        with pytest.raises(argparse.ArgumentTypeError):
            parse_new_label(text)


def test_teach_then_evaluate(
    dante: Dante, files: tuple[Path, Path], model_file: Path, tmp_path: Path
) -> None:
    out, job = tmp_path / "new.safetensors", tmp_path / "job"
    status, text, _ = dante(*teach(files, model_file, out, "--job", job, "--json"))
    assert status == 0
    exam = json.loads(text)["exam"]
    assert set(exam["exam"]) | set(exam["learned"]) <= {6, 8, 12, 13, 14, 15, 16}
    assert exam["axis"] == 0
    assert read_header(out)[1].exam == JobFolder(job).report().summary()
    status, text, _ = dante(
        *("evaluate", files[0], "--model", out, "--reference", files[1], "--json"),
    )
    assert status == 0
    assert set(json.loads(text)["labels"]) == {"core", "shell"}


def test_evaluate_looks_at_the_chosen_slices(
    dante: Dante, files: tuple[Path, Path], model_file: Path
) -> None:
    def dice(*more: object) -> dict[str, Any]:
        command = ("evaluate", files[0], "--model", model_file, "--reference", files[1])
        _, text, _ = dante(*command, "--axis", 1, "--json", *more)
        return {name: score["dice"] for name, score in json.loads(text)["labels"].items()}

    assert dice("--slices", "0-11") == dice("--skip-slices", "12-23")
    assert dice("--slices", "12") != dice()
    assert dice("--slices", "0")["core"] is None or dice("--slices", "0")["core"] == 0


def test_evaluate_takes_names_for_the_values_of_a_reference(
    dante: Dante, files: tuple[Path, Path], model_file: Path, tmp_path: Path
) -> None:
    """The same reference with other numbers, named on the command line, scores the same."""
    named = open_labels(files[1])
    other = np.choose(named.array, [0, 7, 5]).astype(np.uint8)
    write_nifti(tmp_path / "other.nii.gz", other, named.geometry)

    def scores(*more: object) -> str:
        status, text, _ = dante("evaluate", files[0], "--model", model_file, "--json", *more)
        assert status == 0
        return text

    plain = scores("--reference", files[1])
    other_file = ("--reference", tmp_path / "other.nii.gz")
    assert scores(*other_file, "--label", "7=core", "--label", "5=shell") == plain
    assert scores(*other_file) != plain
    command = ("evaluate", files[0], "--model", model_file, *other_file, "--label", "7=liver")
    status, _, said = dante(*command)
    assert status == 1
    assert "knows no 'liver'; it knows core, shell" in said


def test_perfect_labels_score_one(
    dante: Dante, files: tuple[Path, Path], model_file: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own.nii.gz"
    dante("predict", files[0], "--model", model_file, "--out", own)
    _, text, _ = dante("evaluate", files[0], "--model", model_file, "--reference", own, "--json")
    for score in json.loads(text)["labels"].values():
        assert score["dice"] in (1.0, None)
        assert score["hd95"] in (0.0, None)


def test_run_resumes_a_job(
    dante: Dante, files: tuple[Path, Path], model_file: Path, tmp_path: Path
) -> None:
    out, job = tmp_path / "new.safetensors", tmp_path / "job"
    dante(*teach(files, model_file, out, "--job", job))
    before = read_model(job / "best.safetensors").weights
    status, text, _ = dante("run", job, "--json")
    assert status == 0
    assert json.loads(text)["exam"]["n"] > 0
    after = read_model(job / "best.safetensors").weights
    assert all(np.array_equal(before[key], after[key]) for key in before)


def test_export_and_import(dante: Dante, model_file: Path, tmp_path: Path) -> None:
    packed, back = tmp_path / "tiny.model", tmp_path / "tiny back.safetensors"
    assert dante("model", "export", model_file, packed)[0] == 0
    assert dante("model", "import", packed, back)[0] == 0
    first, second = read_model(model_file), read_model(back)
    assert all(np.array_equal(first.weights[key], second.weights[key]) for key in first.weights)
    assert second.lineage.name == "tiny back"
    status, text, _ = dante("model", "show", back, "--json")
    assert status == 0
    assert json.loads(text)["lineage"]["model_id"] == first.lineage.model_id
    status, _, said = dante("model", "export", model_file, packed, "--by-slice")
    assert status == 1
    assert "two-dimensional" in said


def test_the_largest_piece_of_a_mask_can_be_asked_for(
    dante: Dante, files: tuple[Path, Path], model_file: Path, tmp_path: Path
) -> None:
    image, _ = files
    whole, largest = tmp_path / "whole.nii.gz", tmp_path / "largest.nii.gz"
    assert dante("predict", image, "--model", model_file, "--out", whole)[0] == 0
    assert dante("predict", image, "--model", model_file, "--out", largest, "--largest")[0] == 0
    everything, kept = open_labels(whole).array, open_labels(largest).array
    assert np.array_equal(kept, largest_component(np.asarray(everything, np.uint8)))
    assert not np.array_equal(kept, everything), "the tiny model makes one piece: no test"


def test_what_a_model_was_not_made_for_is_refused(
    dante: Dante, files: tuple[Path, Path], model: Model, tmp_path: Path
) -> None:
    image, _ = files
    target = tmp_path / "mask.nii.gz"
    for doubt, refuses in ((0.0, True), (1.0, False)):
        path = tmp_path / f"{doubt}.safetensors"
        card = Card("head", "any contrast", "a ball", {}, doubt)
        write_model(path, replace(model, lineage=replace(model.lineage, card=card)))
        answer = dante("predict", image, "--model", path, "--out", target)
        if refuses:
            assert "does not look like a head" in refused(answer)
        assert target.exists() is not refuses


def test_the_library_lists_the_starter(dante: Dante) -> None:
    status, text, _ = dante("model", "list", "--json")
    assert status == 0
    starter = next(m for m in json.loads(text)["models"] if m["name"] == "brain-tissue-t1")
    assert starter["labels"] == ["CSF", "grey matter", "white matter"]
    assert starter["about"][0] == "head, T1 only"
    for command in (("show", "brain-tissue-t1"), ("list",)):
        status, text, _ = dante("model", *command)
        assert status == 0
        assert all(line in text for line in starter["about"])


def test_bad_input_is_one_sentence_and_leaves_nothing(
    dante: Dante, files: tuple[Path, Path], model_file: Path, tmp_path: Path
) -> None:
    image, _ = files
    truncated = tmp_path / "cut.nii.gz"
    truncated.write_bytes(image.read_bytes()[:2000])
    small = tmp_path / "small.nii.gz"
    write_nifti(small, np.zeros((3, 4, 5), np.uint8), Geometry.from_affine((5, 4, 3), np.eye(4)))
    fake = tmp_path / "fake.safetensors"
    fake.write_bytes(b"\x80\x04cos\nsystem\n")
    out = tmp_path / "never.safetensors"
    mask = tmp_path / "never.nii.gz"
    known = set(tmp_path.iterdir())
    sentences = [
        refused(dante("info", truncated)),
        refused(dante("info", tmp_path / "nowhere")),
        refused(dante("predict", truncated, "--model", model_file, "--out", mask)),
        refused(dante("predict", image, "--model", fake, "--out", mask)),
        refused(dante("predict", image, "--model", "no-such-model", "--out", mask)),
        refused(dante("evaluate", image, "--model", model_file, "--reference", small)),
        refused(dante(*teach((image, small), model_file, out))),
        refused(dante(*teach(files, fake, out))),
        refused(dante(*teach(files, model_file, out, "--recipe", "magic"))),
        refused(dante(*teach(files, model_file, out, "--set", "rank=-1"))),
        refused(dante(*teach(files, model_file, out, "--recipe", "adapter"))),
        refused(dante(*teach(files, model_file, out, "--slices", "99"))),
        refused(dante("model", "import", fake, out)),
        refused(dante("run", tmp_path / "nowhere")),
    ]
    assert set(tmp_path.iterdir()) == known
    for sentence in sentences:
        assert str(tmp_path) not in sentence, sentence


def test_a_target_that_cannot_be_written_is_one_sentence(
    dante: Dante, files: tuple[Path, Path], model_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a folder")
    for target in (tmp_path / "file" / "mask.nii.gz", tmp_path / "mask.txt"):
        answer = dante("predict", files[0], "--model", model_file, "--out", target)
        assert str(tmp_path) not in refused(answer)
        assert not target.exists()


def test_labels_without_a_trusted_slice_are_refused(
    dante: Dante, files: tuple[Path, Path], model_file: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.nii.gz"
    geometry = open_volume(files[0]).geometry
    write_nifti(empty, np.zeros(geometry.shape, np.uint8), geometry)
    out = tmp_path / "never.safetensors"
    answer = dante("teach", "--model", model_file, "--case", files[0], empty, "--out", out)
    assert "nothing to learn from" in refused(answer)
    assert not out.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["fly"],
        ["predict"],
        ["teach", "--slices", "1", "--model", "m", "--out", "o"],
        ["teach", "--model", "m", "--case", "a", "b", "--slices", "x", "--out", "o"],
        ["teach", "--model", "m", "--case", "a", "--out", "o"],
        ["evaluate", "a", "--model", "m", "--reference", "b", "--axis", "7"],
    ],
)
def test_wrong_usage_exits_with_two(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(arguments)
    assert caught.value.code == 2


@pytest.mark.parametrize(
    "command",
    ["", "info", "convert", "predict", "teach", "evaluate", "run", "model", "model show",
     "model apply-adapter", "model export-adapter", "model import-adapter",
     "pull", "push", "serve", "demo"],
)  # fmt: skip
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run([*command.split(), "--help"])
    assert caught.value.code == 0
    assert "usage: napari-dante" in capsys.readouterr().out


def test_help_does_not_wait_for_torch() -> None:
    code = """
import sys
from napari_dante.cli import run
from napari_dante.cli.options import parse_new_label
try:
    run(["teach", "--help"])
except SystemExit:
    pass
sys.stderr.write(str(sorted({"torch", "monai", "napari", "numpy"} & set(sys.modules))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]"


def test_teach_spares_what_was_examined_before(
    dante: Callable[..., tuple[int, str, str]],
    files: tuple[Path, Path],
    model_file: Path,
    tmp_path: Path,
) -> None:
    options = ("--model", model_file, "--set", "steps=2", "--out", tmp_path / "m.safetensors")

    def taught(slices: str, name: str, *more: object) -> JobFolder:
        case = ("--case", *files, "--slices", slices)
        command = ("teach", *more, *case, *options, "--recipe", "lora", "--job", tmp_path / name)
        status, _, said = dante(*command)
        assert status == 0, said
        return JobFolder(tmp_path / name)

    first = taught("6,8,10,12,14", "first").split().exam
    assert first
    again = taught("5-15", "second", "--exam-fraction", "0.1").split()
    assert set(first) <= set(again.exam)
    assert set(again.learn).isdisjoint(first)
    twin = tmp_path / "twin.nii.gz"
    image = nibabel.load(files[0])
    nibabel.save(nibabel.Nifti1Image(image.get_fdata() * 2, image.affine), twin)
    other = taught("5-15", "third", "--case", twin, files[1], "--slices", "5-15").case(1)
    assert not other.trusted[list(again.exam)].any()
