"""Versions as a timeline, with a way back that loses nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt

from napari_dante.files import sha256
from napari_dante.model.file import Lineage, Model, read_header, write_model
from napari_dante.model.library import Library
from napari_dante.ui.dock import DanteDock
from tests.ui.results import finished, idle, ready

__all__ = ["finished", "idle", "ready"]

pytestmark = [pytest.mark.gui, pytest.mark.filterwarnings("ignore:System theme detection")]


def shown(dock: DanteDock) -> list[str]:
    return [row.words.text() for row in dock.history.rows]


def test_going_back_is_one_click_and_loses_nothing(
    ready: DanteDock, qtbot: QtBot, library: Library
) -> None:
    controller, history = ready.controller, ready.history
    history.handle.click()
    assert [row.use.isEnabled() for row in history.rows] == [False], "not during a decision"
    with qtbot.waitSignal(controller.kept):
        controller.keep()
    qtbot.waitUntil(lambda: len(history.rows) == 2, timeout=5000)
    newest, oldest = shown(ready)
    assert newest.startswith("Version 2, in use")
    assert "LoRA, from version\N{NO-BREAK SPACE}1" in newest
    assert "Exam: Dice" in newest
    assert oldest.startswith("Version 1 ·")
    assert "1 case taught" in history.cases.text()
    assert "ball" not in history.cases.text()
    button = history.rows[1].use
    assert button.isEnabled()
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: "rolled back" in shown(ready)[0], timeout=5000)
    assert "in use" in shown(ready)[1]
    assert library.resolve("tiny").name == "0001.safetensors"
    assert len(library.versions("tiny")) == 2
    qtbot.mouseClick(history.rows[0].use, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: "in use" in shown(ready)[0], timeout=5000)


def test_a_version_knows_where_it_came_from(
    library: Library, model: Model, model_file: Path, tmp_path: Path
) -> None:
    parent = sha256(library.resolve("tiny"))
    child = tmp_path / "child.safetensors"
    lineage = Lineage("tiny", model.lineage.model_id, parent, {"method": "lora"})
    write_model(child, Model(model.spec, model.weights, lineage))
    library.keep(child)
    library.use("tiny", library.versions("tiny")[0])
    library.keep(child)
    library.versions("tiny")[1].write_bytes(b"damaged")
    found = library.history("tiny")
    assert [one.number for one in found] == [1, 2, 3]
    assert [one.parent for one in found] == [None, None, 1]
    assert [one.current for one in found] == [False, False, True]
    assert found[1].lineage is None
    assert found[2].lineage == read_header(found[2].path)[1]
    assert library.history("unknown") == ()
