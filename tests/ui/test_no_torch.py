"""The process that holds the pictures never loads torch or monai."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import sys, time
from pathlib import Path
from napari import Viewer
from qtpy.QtWidgets import QApplication
from napari_dante.model.library import Library
from napari_dante.ui.dock import DanteDock
from napari_dante.ui.samples import sample_path

viewer = Viewer(show=False)
dock = DanteDock(viewer, Library(Path(sys.argv[1])))
viewer.window.add_dock_widget(dock)
done = []
dock.controller.opened.connect(lambda: done.append(1))
dock.controller.open_volume(sample_path("itk_head_t1"))
end = time.monotonic() + 60
while not (done and dock.controller.engine.ready) and time.monotonic() < end:
    QApplication.processEvents()
    time.sleep(0.01)
assert done and dock.controller.engine.ready
print(sorted({"torch", "monai"} & {name.split(".")[0] for name in sys.modules}))
viewer.close()
"""


@pytest.mark.gui
def test_an_open_panel_has_loaded_neither(tmp_path) -> None:  # noqa: ANN001
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CODE, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
