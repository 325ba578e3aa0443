"""Foreign code runs only when it is allowed, and then apart."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_dante.adapt.loop import Cancelled
from napari_dante.cli import run
from napari_dante.errors import JobError, UnsafeFile
from napari_dante.files import sha256
from napari_dante.jobs import foreign, foreign_child
from napari_dante.jobs.events import Finished
from napari_dante.jobs.foreign import predict_foreign
from napari_dante.jobs.requests import Predict
from napari_dante.jobs.tasks import answer
from napari_dante.model.dafne import DafneModel, from_dafne, to_dafne, write_dafne
from napari_dante.model.segmenter import Segmenter, choose_device
from napari_dante.model.trust import is_trusted, trust, trusted_file
from napari_dante.volume import Geometry, open_labels, write_nifti
from tests.federated.tiny import affine, tiny_model, volume

SPACING = (2.0, 1.5, 1.0)


def unknown(**change: object) -> DafneModel:
    """A model of ours that nobody can tell to be one: only its code is left."""
    return replace(to_dafne(tiny_model()), metadata={}, **change)  # type: ignore[arg-type]


def with_code(tmp_path: Path, code: str) -> Path:
    body = "".join(f"    {line}\n" for line in code.splitlines())
    sources = unknown().sources | {"apply_model_function": f"def f(model_object, data):\n{body}"}
    path = tmp_path / "foreign.model"
    write_dafne(path, unknown(sources=sources))
    return path


def test_code_that_nobody_allowed_does_not_run(tmp_path: Path) -> None:
    path = with_code(tmp_path, f"open({str(tmp_path / 'canary')!r}, 'w').close()\nreturn {{}}")
    with pytest.raises(UnsafeFile, match="nobody has allowed"):
        predict_foreign(path, volume((8, 8, 8)), SPACING)
    assert not (tmp_path / "canary").exists()
    trust(sha256(path))
    with path.open("ab") as stream:
        stream.write(b"\0")
    with pytest.raises(UnsafeFile):
        predict_foreign(path, volume((8, 8, 8)), SPACING)
    assert not (tmp_path / "canary").exists()


def test_trust_is_kept_for_one_file_each() -> None:
    assert not is_trusted("a" * 64)
    trust("a" * 64)
    trust("b" * 64)
    assert is_trusted("a" * 64)
    assert not is_trusted("c" * 64)
    trusted_file().write_text("{")
    assert not is_trusted("a" * 64)


def test_foreign_code_predicts_what_the_network_predicts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, image = tmp_path / "foreign.model", volume((18, 13, 21))
    write_dafne(path, unknown())
    geometry = Geometry.from_affine(image.shape, affine("RAS", (1.2, 0.9, 2.5)))
    write_nifti(tmp_path / "image.nii.gz", geometry.to_display(image), geometry)
    arguments = ["predict", str(tmp_path / "image.nii.gz"), "--model", str(path)]
    arguments += ["--out", str(tmp_path / "mask.nii.gz")]
    assert run(arguments) == 1
    assert "--trust-code" in capsys.readouterr().err
    assert run([*arguments, "--trust-code"]) == 0
    mask = open_labels(tmp_path / "mask.nii.gz")
    model = from_dafne(to_dafne(tiny_model()), "Tiny")
    segmenter = Segmenter(model, choose_device("cpu"))
    expected = segmenter.predict(geometry.to_display(image), geometry.spacing)
    np.testing.assert_array_equal(mask.array, expected)
    assert [label.name for label in mask.labels.values()] == ["grey 'matter'", "white"]
    # It is remembered, and the worker runs it by the same request.
    np.save(tmp_path / "image.npy", geometry.to_display(image))
    request = Predict(str(tmp_path), str(path), geometry.spacing)
    *_, last = answer(request, lambda wait: None, lambda event: None)
    assert isinstance(last, Finished)
    np.testing.assert_array_equal(np.load(tmp_path / "mask.npy"), expected)
    assert json.loads((tmp_path / "labels.json").read_text()) == ["grey 'matter'", "white"]


def test_a_model_that_is_recognised_runs_none_of_its_code(tmp_path: Path) -> None:
    dafne = to_dafne(tiny_model())
    path = tmp_path / "ours.model"
    write_dafne(path, replace(dafne, sources=dict.fromkeys(dafne.sources, "raise SystemExit")))
    geometry = Geometry.from_affine((10, 11, 12), affine("RAS", (1.2, 0.9, 2.5)))
    image = geometry.to_display(volume((10, 11, 12)))
    write_nifti(tmp_path / "image.nii.gz", image, geometry)
    out = tmp_path / "mask.nii.gz"
    arguments = ["predict", str(tmp_path / "image.nii.gz"), "--model", str(path)]
    assert run([*arguments, "--out", str(out)]) == 0
    assert out.is_file()


ESCAPES = """
import ctypes, os, socket, struct, subprocess, numpy
def refused(action):
    try:
        action()
    except (PermissionError, OSError):
        return
    raise SystemExit(9)
refused(lambda: socket.create_connection(('127.0.0.1', PORT), 2))
refused(lambda: os.system('true'))
refused(lambda: subprocess.run(['true']))
refused(lambda: os.fork())
refused(lambda: open('x', 'wb').truncate(2**40))
assert 's3cret' not in str(dict(os.environ))
assert os.path.expanduser('~') != HOME
assert set(os.listdir('.')) <= {'x', 'image.npy', 'request.json'}
libc = ctypes.CDLL(None)
one = libc.socket(2, 1, 0)
address = struct.pack('=H', 2) + struct.pack('>H', PORT) + bytes([127, 0, 0, 1])
natively = libc.connect(one, address + bytes(8), 16) == 0
return {'connected' if natively else 'cut off': numpy.ones(data['image'].shape)}
"""


def test_foreign_code_has_no_network_no_programs_no_key_and_no_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past Python's own guard too, where the system can cut a process off."""
    monkeypatch.setenv("NAPARI_DANTE_API_KEY", "s3cret")
    monkeypatch.setenv("SOMETHING_ELSE", "s3cret")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        port, home = str(listener.getsockname()[1]), repr(str(Path.home()))
        path = with_code(tmp_path, ESCAPES.replace("PORT", port).replace("HOME", home))
        trust(sha256(path))
        found = predict_foreign(path, volume((8, 9, 10)), SPACING)
        assert found.classes.shape == (8, 9, 10)
        assert found.classes.all()
        assert found.names == ("cut off" if found.network_cut else "connected",)
        if found.network_cut:
            with pytest.raises(TimeoutError):
                listener.accept()


def test_the_system_cuts_the_network_where_it_can() -> None:
    possible = subprocess.run(["unshare", "-rn", "true"], check=False, capture_output=True)
    if possible.returncode:
        pytest.skip("this system does not let us make a namespace")
    program = "from napari_dante.jobs.foreign_child import _cut_network as c; print(c())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "True\n"


def test_an_answer_that_is_no_mask_is_one_sentence(tmp_path: Path) -> None:
    path = with_code(tmp_path, "import numpy\nreturn {'a': numpy.ones((3, 3, 3))}")
    trust(sha256(path))
    with pytest.raises(JobError, match="The code of this model failed"):
        predict_foreign(path, volume((8, 8, 8)), SPACING)


@pytest.mark.parametrize(
    ("answer", "mask"),
    [
        ("{", np.zeros((2, 2, 2), np.uint8)),
        ('{"names": [], "network_cut": true}', np.ones((2, 2, 2), np.uint8)),
        ('{"names": ["a"], "network_cut": true}', np.ones((2, 2, 3), np.uint8)),
        ('{"names": ["a"], "network_cut": true}', np.ones((2, 2, 2))),
        ('{"names": 3}', np.ones((2, 2, 2), np.uint8)),
        ("[]", np.ones((2, 2, 2), np.uint8)),
        ('{"names": ["a", "a\\n"], "network_cut": true}', np.ones((2, 2, 2), np.uint8)),
        ('{"names": ["\\u202e"], "network_cut": true}', np.ones((2, 2, 2), np.uint8)),
    ],
)
def test_what_the_process_leaves_is_not_believed(
    tmp_path: Path, answer: str, mask: np.ndarray
) -> None:
    (tmp_path / "answer.json").write_text(answer)
    np.save(tmp_path / "mask.npy", mask)
    with pytest.raises(JobError, match="did not answer with masks"):
        foreign._answer(tmp_path, (2, 2, 2))


def test_a_person_can_end_it(tmp_path: Path) -> None:
    path = with_code(tmp_path, "while True: pass")
    trust(sha256(path))
    with pytest.raises(Cancelled):
        predict_foreign(path, volume((8, 8, 8)), SPACING, lambda: True)


@pytest.mark.slow
def test_an_endless_model_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "SECONDS", 8.0)
    path = with_code(tmp_path, "while True: pass")
    trust(sha256(path))
    with pytest.raises(JobError, match="too long"):
        predict_foreign(path, volume((8, 8, 8)), SPACING)


@pytest.mark.parametrize(
    ("orientation", "runs"),
    [("", "RPI"), ("axial", "RPI"), ("sagittal", "PSR"), ("coronal", "RIP")],
)
@pytest.mark.parametrize("dimensionality", [2, 3])
def test_volumes_are_handed_over_in_dafnes_axes(
    orientation: str, runs: str, dimensionality: int
) -> None:
    """The code marks the first half of its first axis; it must come back in the right place."""
    text = (
        "def f(model_object, data):\n"
        "    import numpy\n"
        "    mask = numpy.zeros(data['image'].shape)\n"
        "    mask[: mask.shape[0] // 2] = 1\n"
        "    return {'half': mask}\n"
    )
    sources = unknown().sources | {"apply_model_function": text}
    metadata = {"orientation": orientation}
    model = replace(unknown(), sources=sources, metadata=metadata, dimensionality=dimensionality)
    found = foreign_child._segment(model, volume((8, 10, 12)), list(SPACING))["half"]
    axis = "SIPALR".index(runs[0]) // 2
    half = np.take(found, range(found.shape[axis] // 2), axis)
    rest = np.take(found, range(found.shape[axis] // 2, found.shape[axis]), axis)
    forwards = runs[0] in "SPL"
    assert (half.all(), rest.any()) == ((True, False) if forwards else (False, True))
