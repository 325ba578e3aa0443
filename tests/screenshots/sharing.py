"""Sharing the model that was kept, with a real server on this computer."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from unittest.mock import patch

from napari_dante.errors import Unreachable
from napari_dante.federated.credentials import ENVIRONMENT
from napari_dante.federated.outbox import Outbox, outbox_path
from napari_dante.federated.server import add_user, create_app, publish
from napari_dante.model.dafne import to_dafne
from napari_dante.model.file import read_model
from napari_dante.ui.demo import MODEL
from napari_dante.ui.states import Step
from tests.federated.conftest import running
from tests.screenshots.stage import Stage, state


@state()
def share(stage: Stage) -> None:
    """A model that is fit to be shared: green lights, and what leaves."""
    data = Path(stage.ends.enter_context(tempfile.TemporaryDirectory()))
    os.environ[ENVIRONMENT] = add_user(data, "anna")
    first = stage.controller.library.versions(MODEL)[0]
    publish(data, MODEL, to_dafne(read_model(first)))
    url = stage.ends.enter_context(running(create_app(data)))
    stage.dock.history.open(False)
    stage.dock.cards[Step.SHARE].open(True)
    stage.dock.share.url.setText(url)
    stage.wait(stage.controller.checked, stage.dock.share.check.click)
    stage.scroll_to(stage.dock.share)


@state()
def share_waiting(stage: Stage) -> None:
    """The connection broke while the weights were on their way."""
    broken = Unreachable("The server at 127.0.0.1 does not answer; nothing was sent.")
    with (
        patch("napari_dante.federated.sharing.SEND_PAUSES", ()),
        patch("napari_dante.federated.client.DafneClient.upload", side_effect=broken),
    ):
        stage.try_to(stage.controller.pushed, stage.controller.push)
    stage.scroll_to(stage.dock.share.outbox)


@state()
def share_receipt(stage: Stage) -> None:
    """The weights were sent and merged."""
    shutil.rmtree(outbox_path())
    stage.controller.outbox = Outbox().items()
    stage.dock.message.clear()
    stage.dock.share.push.click()
    stage.wait(stage.controller.pushed, stage.dock.share.sure.click)
    stage.scroll_to(stage.dock.share)


@state()
def share_newer(stage: Stage) -> None:
    """The server has a newer version, which was examined here."""
    stage.wait(stage.controller.looked, stage.dock.share.look.click)
    stage.scroll_to(stage.dock.share.news)


@state()
def share_unfit(stage: Stage) -> None:
    """A model that was never examined is not shared."""
    controller = stage.controller
    stage.dock.share.news.leave.click()
    controller.go_back(controller.library.versions(MODEL)[0])
    stage.wait(controller.checked, stage.dock.share.check.click)
    stage.scroll_to(stage.dock.share)


@state()
def unreachable(stage: Stage) -> None:
    """A server that is not there."""
    share = stage.dock.share
    share.url.setText("http://127.0.0.1:9/")
    share.key.setText("not-a-real-key")
    stage.try_to(stage.controller.checked, share.check.click)
