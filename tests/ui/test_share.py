"""Sharing from the panel with a real server on this computer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pytestqt.qtbot import QtBot

from napari_dante.errors import Unreachable
from napari_dante.federated.credentials import ENVIRONMENT
from napari_dante.federated.history import Receipt, shares
from napari_dante.federated.outbox import outbox_path
from napari_dante.federated.server import add_user, app, create_app, publish
from napari_dante.model.dafne import to_dafne
from napari_dante.model.file import Model, read_model, write_model
from napari_dante.model.library import Library
from napari_dante.ui.states import Step, Task
from tests.federated.conftest import ThreadMerging, running
from tests.ui.conftest import SECONDS
from tests.ui.test_flow import MakeDock

pytestmark = [pytest.mark.gui, pytest.mark.filterwarnings("ignore:System theme detection")]


@pytest.fixture
def site(tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(app, "Merging", ThreadMerging)
    data = tmp_path / "server"
    data.mkdir()
    monkeypatch.setenv(ENVIRONMENT, add_user(data, "anna"))
    publish(data, "tiny", to_dafne(model))
    with running(create_app(data)) as url:
        yield url


def keep_examined(library: Library, folder: Path, verdict: str) -> Path:
    """Add a version that its exam found `verdict`."""
    first = read_model(library.resolve("tiny"))
    exam = {"before": 0.5, "after": 0.8, "slices": 5, "verdict": verdict}
    weights = {key: value * 0.9 for key, value in first.weights.items()}
    path = folder / "candidate.safetensors"
    write_model(path, Model(first.spec, weights, first.lineage.child("0" * 64, {}, exam, 4)))
    return library.keep(path)


def test_lights_question_push_receipt(
    make_dock: MakeDock, qtbot: QtBot, library: Library, tmp_path: Path, site: str
) -> None:
    keep_examined(library, tmp_path, "better")
    dock = make_dock()
    controller, share = dock.controller, dock.share
    dock.cards[Step.SHARE].open(True)
    share.url.setText(site)
    with qtbot.waitSignal(controller.checked, timeout=SECONDS):
        share.check.click()
    dock.refresh()
    assert share.lights.text().count("✔") == 3
    assert "0.80" in share.leaves.text()
    assert "images it learned from (4)" in share.leaves.text()
    assert share.push.isEnabled()
    assert share.sure.isHidden()
    share.push.click()
    assert not share.sure.isHidden()
    share.not_now.click()
    assert share.sure.isHidden()
    assert controller.receipt is None
    share.push.click()
    with qtbot.waitSignal(controller.pushed, timeout=SECONDS) as pushed:
        share.sure.click()
    receipt = pushed.args[0]
    assert receipt.after_timestamp is not None
    dock.refresh()
    assert f"{receipt.before_timestamp} → {receipt.after_timestamp}" in share.receipt.text()
    assert not list(outbox_path().glob("*"))
    assert [shared.cases for shared in shares()] == [4]
    refused = Receipt("1", None, "refused", reason="It would make the model worse.")
    controller.receipt = refused
    dock.refresh()
    assert share.receipt.text() == f"✘ {refused.sentence}"
    assert "worse" in refused.sentence
    assert controller.settings.server == site
    assert dock.cards[Step.SHARE].body is share


@pytest.mark.parametrize("verdict", ["worse", "no difference", "not enough data"])
def test_what_is_not_better_cannot_be_pushed(
    make_dock: MakeDock, qtbot: QtBot, library: Library, tmp_path: Path, site: str, verdict: str
) -> None:
    keep_examined(library, tmp_path, verdict)
    dock = make_dock()
    controller, share = dock.controller, dock.share
    with qtbot.waitSignal(controller.checked, timeout=SECONDS):
        controller.check(site)
    dock.refresh()
    assert share.lights.text().count("✘") == 1
    assert not share.push.isEnabled()
    controller.push()
    assert "not fit to be shared" in dock.message.sentence
    assert controller.engine.task is None


def test_a_server_that_is_not_there_is_one_sentence(
    make_dock: MakeDock, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT, "secret-key")
    dock = make_dock()
    with qtbot.waitSignal(dock.controller.failed, timeout=SECONDS):
        dock.controller.check("http://127.0.0.1:9/api")
    assert "does not answer" in dock.message.sentence
    assert "secret-key" not in dock.message.sentence
    assert dock.controller.engine.task is not Task.CHECK


def test_a_missing_key_is_asked_for(
    make_dock: MakeDock, qtbot: QtBot, site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = os.environ[ENVIRONMENT]
    monkeypatch.delenv(ENVIRONMENT)
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    dock = make_dock()
    with qtbot.waitSignal(dock.controller.failed, timeout=SECONDS):
        dock.controller.check(site)
    assert "API key" in dock.message.sentence
    qtbot.waitUntil(dock.share.check.isEnabled, timeout=5000)
    dock.share.url.setText(site)
    dock.share.key.setText(key)
    with qtbot.waitSignal(dock.controller.checked, timeout=SECONDS):
        dock.share.check.click()
    assert dock.share.key.text() == ""
    assert key not in repr(dock.controller.offer)


def test_what_could_not_be_sent_waits_and_is_retried(
    make_dock: MakeDock,
    qtbot: QtBot,
    library: Library,
    tmp_path: Path,
    site: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keep_examined(library, tmp_path, "better")
    dock = make_dock()
    controller, share = dock.controller, dock.share
    with qtbot.waitSignal(controller.checked, timeout=SECONDS):
        controller.check(site)

    def refuse(*_: object) -> None:
        raise Unreachable("The connection broke.")

    with monkeypatch.context() as patched:
        patched.setattr("napari_dante.federated.sharing.SEND_PAUSES", ())
        patched.setattr("napari_dante.federated.client.DafneClient.upload", refuse)
        with qtbot.waitSignal(controller.failed, timeout=SECONDS):
            controller.push()
    dock.refresh()
    assert controller.receipt is None
    assert "waits to be sent to 127.0.0.1: The connection broke." in share.outbox.text.text()
    assert dock.cards[Step.SHARE].body.summary == "1 in the outbox"
    qtbot.waitUntil(lambda: controller.engine.task is None)
    with qtbot.waitSignal(controller.retried, timeout=SECONDS):
        share.outbox.retry.click()
    qtbot.waitUntil(lambda: controller.engine.task is None)
    if controller.outbox:
        assert controller.outbox[0].state == "sent"
        versions = tmp_path / "server" / "models" / "tiny"
        qtbot.waitUntil(lambda: len(list(versions.glob("*.model"))) == 2, timeout=SECONDS)
        with qtbot.waitSignal(controller.retried, timeout=SECONDS):
            controller.retry()
    assert controller.outbox == []
    assert "Merged" in dock.message.sentence
    dock.refresh()
    assert share.outbox.isHidden()


def test_a_newer_version_is_examined_before_it_is_used(
    make_dock: MakeDock, qtbot: QtBot, library: Library, ball_file: Path, site: str
) -> None:
    dock = make_dock()
    controller, share = dock.controller, dock.share
    share.url.setText(site)
    before = library.versions("tiny")
    with qtbot.waitSignal(controller.looked, timeout=SECONDS):
        share.look.click()
    dock.refresh()
    news = controller.news
    assert news is not None
    assert news.report is None
    assert "not examined" in share.news.text.text()
    assert library.versions("tiny") == before
    share.news.leave.click()
    dock.refresh()
    assert share.news.isHidden()
    assert not news.file.exists()

    with qtbot.waitSignal(controller.opened, timeout=SECONDS):
        controller.open_volume(ball_file)
    with qtbot.waitSignal(controller.predicted, timeout=SECONDS):
        controller.predict()
    session = controller.session
    assert session is not None
    tracker = session.tracker
    assert tracker is not None
    for index in range(4, 16):
        tracker.layer.data_setitem((np.array([index]), np.array([9]), np.array([9])), 1)
    qtbot.waitUntil(lambda: controller.split is not None)
    with qtbot.waitSignal(controller.looked, timeout=SECONDS):
        share.look.click()
    dock.refresh()
    assert controller.news is not None
    assert controller.news.report is not None
    assert controller.news.report.verdict == "no difference"
    assert controller.news.report.sentence in share.news.text.text()
    assert library.versions("tiny") == before
    share.news.use.click()
    assert len(library.versions("tiny")) == len(before) + 1
    assert library.header("tiny")[1].server_timestamp == news.version
    with qtbot.waitSignal(controller.looked, timeout=SECONDS):
        share.look.click()
    assert controller.news is None
    assert "nothing newer" in dock.message.sentence


def test_the_merge_is_examined_on_the_corrected_slices(
    make_dock: MakeDock, qtbot: QtBot, library: Library, tmp_path: Path, ball_file: Path, site: str
) -> None:
    keep_examined(library, tmp_path, "better")
    dock = make_dock()
    controller = dock.controller
    with qtbot.waitSignal(controller.opened, timeout=SECONDS):
        controller.open_volume(ball_file)
    with qtbot.waitSignal(controller.predicted, timeout=SECONDS):
        controller.predict()
    assert controller.session is not None
    tracker = controller.session.tracker
    assert tracker is not None
    for index in range(4, 16):
        tracker.layer.data_setitem((np.array([index]), np.array([9]), np.array([9])), 1)
    qtbot.waitUntil(lambda: controller.split is not None)
    with qtbot.waitSignal(controller.checked, timeout=SECONDS):
        controller.check(site)
    assert controller.offer is not None
    light = controller.offer.lights[-1]
    assert light.name == "merged"
    assert light.ok is not None
    assert "mean Dice" in light.sentence
