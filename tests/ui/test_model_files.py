"""Model files from elsewhere: into the library, or after a person's word about their code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from platformdirs import user_data_path
from pytestqt.qtbot import QtBot

from napari_dante.errors import ModelError
from napari_dante.files import sha256
from napari_dante.model.dafne import DafneModel, to_dafne, write_dafne
from napari_dante.model.file import Model, read_model, write_model
from napari_dante.model.library import Library
from napari_dante.model.shelf import Shelf, shown
from napari_dante.model.trust import is_trusted
from napari_dante.ui.controller import Controller
from napari_dante.ui.states import SliceState, Step
from napari_dante.ui.taking import Foreign, allow
from tests.ui.conftest import SECONDS, Ball, correct
from tests.ui.test_flow import MakeDock, predicted

CODE = """def f(model_object, data):
    import numpy
    with open({canary!r}, "w"):
        pass
    bright = numpy.asarray(data["image"]) > {level}
    return {{"bright": bright.astype(numpy.uint8)}}
"""


def foreign(model: Model, canary: Path, level: float = 50.0) -> DafneModel:
    """A model that nobody can rebuild, and that tells when its code runs."""
    dafne = to_dafne(model)
    text = CODE.format(canary=str(canary), level=level)
    return replace(dafne, metadata={}, sources=dafne.sources | {"apply_model_function": text})


def taken(controller: Controller, qtbot: QtBot, path: Path) -> None:
    with qtbot.waitSignal(controller.taken, timeout=SECONDS):
        controller.open_model(path)
    qtbot.waitUntil(lambda: controller.engine.task is None)


@pytest.mark.gui
@pytest.mark.filterwarnings("ignore:System theme detection")
def test_a_model_that_can_be_rebuilt_goes_into_the_library(
    make_dock: MakeDock, qtbot: QtBot, model: Model, tmp_path: Path, library: Library
) -> None:
    dock = make_dock()
    controller = dock.controller
    other = replace(model, lineage=replace(model.lineage, name="other"))
    write_model(tmp_path / "Anna Maria.safetensors", other)
    taken(controller, qtbot, tmp_path / "Anna Maria.safetensors")
    assert controller.model == "other"
    third = replace(model, lineage=replace(model.lineage, name="third"))
    broken = dict.fromkeys(to_dafne(third).sources, "raise SystemExit")
    write_dafne(tmp_path / "Anna.model", replace(to_dafne(third), sources=broken))
    taken(controller, qtbot, tmp_path / "Anna.model")
    assert controller.model == "third"
    assert controller.foreign is None
    assert {"other", "third", "tiny"} <= set(library.names())
    with qtbot.waitSignal(controller.failed, timeout=SECONDS):
        controller.open_model(tmp_path / "gone.model")
    (tmp_path / "no.model").write_bytes(b"no model")
    qtbot.waitUntil(lambda: controller.engine.task is None)
    with qtbot.waitSignal(controller.failed, timeout=SECONDS):
        controller.open_model(tmp_path / "no.model")
    assert controller.model == "third"


@pytest.mark.gui
@pytest.mark.filterwarnings("ignore:System theme detection")
@pytest.mark.usefixtures("own_process")  # what is trusted is in the home that it began with
def test_foreign_code_waits_for_a_word_and_its_mask_can_be_corrected(
    make_dock: MakeDock, qtbot: QtBot, model: Model, tmp_path: Path, ball_file: Path, ball: Ball
) -> None:
    canary, path = tmp_path / "canary", tmp_path / "Anna Maria.model"
    write_dafne(path, foreign(model, canary))
    digest = sha256(path)
    dock = make_dock()
    controller, box = dock.controller, dock.predict.file
    taken(controller, qtbot, path)
    dock.refresh()
    assert not box.trust.isHidden()
    assert shown(digest) in box.question.text()
    assert controller.model == "tiny", "nothing is chosen yet"
    box.leave.click()
    dock.refresh()
    assert box.trust.isHidden()
    assert controller.models == controller.library.names()

    taken(controller, qtbot, path)
    dock.refresh()
    assert not is_trusted(digest)
    box.trust.click()
    assert is_trusted(digest)
    assert controller.runs_own_code
    path.unlink()
    assert not canary.exists(), "to trust it is not to run it"
    predicted(dock, qtbot, ball_file)
    assert canary.exists()
    session = controller.session
    assert session is not None
    assert session.names == {1: "bright"}
    np.testing.assert_array_equal(session.labels.data, np.asarray(session.image.data) > 50)
    correct(session.labels, (ball[1] == 2).astype(np.uint8), (9, 11))
    assert [session.states[index] for index in (9, 11)] == [SliceState.EDITED] * 2
    assert session.has_trusted
    dock.refresh()
    assert dock.teach.teach.isEnabled()
    assert not dock.share.check.isEnabled()
    assert dock.cards[Step.PREDICT].body.summary == controller.model
    kept = [one for one in user_data_path("napari-dante").rglob("*") if one.is_file()]
    assert any(digest in one.name for one in kept)
    assert not any("Anna" in str(one) or b"Anna" in one.read_bytes() for one in kept)
    controller.choose_model("tiny")
    assert not controller.runs_own_code


def test_a_word_is_for_the_file_that_was_asked_about(model: Model, tmp_path: Path) -> None:
    path, shelf = tmp_path / "a.model", Shelf(tmp_path / "shelf")
    write_dafne(path, foreign(model, tmp_path / "canary"))
    asked = Foreign(path, sha256(path))
    write_dafne(path, foreign(model, tmp_path / "canary", level=1.0))
    with pytest.raises(ModelError, match="changed"):
        allow(shelf, asked)
    assert not is_trusted(asked.digest)
    assert not is_trusted(sha256(path))
    path.unlink()
    with pytest.raises(ModelError, match="no longer there"):
        allow(shelf, asked)
    assert shelf.names() == ()
    assert shelf.find("Foreign model " + shown(asked.digest)) is None


def test_a_file_never_becomes_a_version_of_another_model(
    model: Model, library: Library, tmp_path: Path
) -> None:
    file = tmp_path / "given.safetensors"
    first = library.versions("tiny")
    taught = {key: value * 2 for key, value in model.weights.items()}
    write_model(file, replace(model, weights=taught))
    assert library.take(file) == "tiny"
    assert len(library.versions("tiny")) == len(first) + 1
    library.use("tiny", first[0])
    assert library.take(file) == "tiny"
    assert len(library.versions("tiny")) == len(first) + 1, "it was there already"
    assert library.resolve("tiny") != first[0]
    stranger = replace(model.lineage, model_id="00000000-0000-4000-8000-000000000000")
    write_model(file, replace(model, lineage=stranger))
    assert [library.take(file), library.take(file)] == ["tiny (2)", "tiny (2)"]
    assert len(library.versions("tiny")) == len(first) + 1
    back = read_model(library.resolve("tiny (2)"))
    assert back.lineage.model_id == stranger.model_id
    for key, value in back.weights.items():
        np.testing.assert_array_equal(value, read_model(file).weights[key])
