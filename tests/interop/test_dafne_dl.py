"""Our files and our server with the real dafne-dl, in an environment of its own.

``scripts/interop`` makes that environment and runs these tests.
"""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_dante.federated.server import add_user, create_app, publish
from napari_dante.model.dafne import read_dafne, to_dafne, write_dafne
from napari_dante.model.merging import prove_files, simulate
from napari_dante.model.segmenter import Segmenter
from napari_dante.volume import Geometry
from tests.federated.conftest import running, until
from tests.federated.tiny import affine, tiny_model, volume
from tests.model.test_slices import seeded

INTERPRETER = os.environ.get("DANTE_INTEROP_PYTHON")
pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(
        INTERPRETER is None,
        reason="DANTE_INTEROP_PYTHON names no interpreter with dafne-dl; run scripts/interop",
    ),
]


def dafne_side(*arguments: object, **environment: str) -> str:
    assert INTERPRETER is not None
    result = subprocess.run(
        [INTERPRETER, str(Path(__file__).with_name("dafne_side.py")), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ | environment,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize("codes", ["LSA", "RAS", "PIR"])
def test_dafne_predicts_what_we_predict(tmp_path: Path, codes: str) -> None:
    model, image = tiny_model(), volume((18, 13, 21))
    matrix = affine(codes, (1.2, 0.9, 2.5))
    path, dumped = tmp_path / "tiny.model", tmp_path / "dumped.model"
    write_dafne(path, to_dafne(model))
    np.savez(tmp_path / "in.npz", image=image, affine=matrix, resolution=[1.2, 0.9, 2.5])
    dafne_side("apply", path, tmp_path / "in.npz", tmp_path / "out.npz", dumped)

    geometry = Geometry.from_affine(image.shape, matrix)
    segmenter = Segmenter(model, torch.device("cpu"))
    expected = geometry.to_stored(segmenter.predict(geometry.to_display(image), geometry.spacing))
    assert set(np.unique(expected)) == {0, 1, 2}
    with np.load(tmp_path / "out.npz") as out:
        assert list(out["names"]) == [label.name for label in model.spec.labels]
        for number, mask in enumerate(out["masks"], start=1):
            assert mask.dtype == np.uint8
            np.testing.assert_array_equal(mask, expected == number)

    first, second = read_dafne(path), read_dafne(dumped)
    assert second.model_id == first.model_id
    assert second.timestamp == first.timestamp
    assert second.metadata == first.metadata
    assert list(second.weights) == list(first.weights)
    for key, value in first.weights.items():
        assert torch.equal(second.weights[key], value)
    for name, text in first.sources.items():
        assert second.sources[name] == text


@pytest.mark.parametrize(("axis", "codes"), [(0, "RPI"), (1, "RIP"), (2, "PSR")])
def test_dafne_calls_a_flat_model_slice_by_slice(tmp_path: Path, axis: int, codes: str) -> None:
    patch = [16, 16, 16]
    patch[axis] = 1
    spec = replace(tiny_model().spec, patch=(patch[0], patch[1], patch[2]))
    model, image = seeded(spec), volume((18, 13, 6))
    geometry = Geometry.from_affine(image.shape, affine(codes, (1.2, 0.9, 2.5)))
    write_dafne(tmp_path / "flat.model", to_dafne(model, by_slice=True))
    np.savez(tmp_path / "in.npz", image=image, resolution=[1.2, 0.9, 2.5])
    dafne_side("slices", tmp_path / "flat.model", tmp_path / "in.npz", tmp_path / "out.npz")
    segmenter, shown = Segmenter(model, torch.device("cpu")), geometry.to_display(image)
    alone = [
        segmenter.predict(np.take(shown, [index], axis), geometry.spacing)
        for index in range(shown.shape[axis])
    ]
    expected = geometry.to_stored(np.concatenate(alone, axis))
    with np.load(tmp_path / "out.npz") as out:
        for number, mask in enumerate(out["masks"], start=1):
            np.testing.assert_array_equal(mask, expected == number)


@pytest.mark.parametrize("identity", [str, uuid.UUID])
def test_our_merge_is_dafnes_merge(tmp_path: Path, identity: type) -> None:
    data, key = tmp_path / "server", "x"
    first = to_dafne(tiny_model(0))
    first = replace(first, model_id=identity(str(first.model_id)))
    stamp = publish(data, "Tiny head", first)
    canonical = data / "models" / "Tiny head" / f"{stamp}.model"
    update, theirs = tmp_path / "update.model", tmp_path / "merged.model"
    write_dafne(update, to_dafne(tiny_model(1), read_dafne(canonical)))
    dafne_side("merge", canonical, update, theirs)

    key = add_user(data, "anna")
    with running(create_app(data)) as url:
        (tmp_path / "work").mkdir()
        dafne_side("remote", url, "Tiny head", update, tmp_path / "work", DAFNE_KEY=key)
        until(lambda: len(list(canonical.parent.glob("*.model"))) == 2)
    (newer,) = set(canonical.parent.glob("*.model")) - {canonical}
    facts = json.loads((tmp_path / "work" / "facts.json").read_text())
    assert facts["available"] == ["Tiny head"]
    assert facts["timestamp"] == int(stamp)
    assert facts["latest"] in (stamp, newer.stem)
    assert facts["left"] == [], "dafne-dl deletes what it has uploaded"
    ours, real = read_dafne(newer), read_dafne(theirs)
    foretold = simulate(read_dafne(canonical).weights, read_dafne(update).weights)
    assert prove_files(canonical, update, theirs) == (0.5, True)
    assert int(newer.stem) > int(stamp)
    assert list(ours.weights) == list(real.weights)
    for name, value in real.weights.items():
        assert ours.weights[name].dtype == value.dtype
        assert torch.equal(ours.weights[name], value), name
        assert torch.equal(foretold[name], value), name
