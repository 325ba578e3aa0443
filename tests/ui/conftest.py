"""A napari that knows our plugin and nothing else, and a head that is a ball."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from napari.layers import Labels
from npe2 import PluginManifest
from numpy.typing import NDArray
from pytestqt.qtbot import QtBot

from napari_dante.jobs.client import Worker
from napari_dante.model.library import Library
from napari_dante.volume import Geometry, write_nifti
from tests.ui.lending import LentWorker, end_of_lending

Ball = tuple[NDArray[np.float32], NDArray[np.uint8]]
SECONDS = 60_000


@pytest.fixture
def plugin(npe2pm, plugin_settings) -> Iterator[None]:  # noqa: ANN001
    """Only our plugin is there, and its settings are this test's own."""
    with npe2pm.tmp_plugin(manifest=PluginManifest.from_distribution("napari-dante")):
        yield


@pytest.fixture
def geometry() -> Geometry:
    """The ball's grid: stored SLA, so that axes turn and flip on the way."""
    affine = np.array(
        [[0.0, -2.0, 0.0, -10.0], [0.0, 0.0, 2.0, 20.0], [2.0, 0.0, 0.0, -30.0], [0, 0, 0, 1]]
    )
    return Geometry.from_affine((24, 22, 20), affine)


@pytest.fixture
def ball_file(tmp_path: Path, ball: Ball, geometry: Geometry) -> Path:
    """The ball's image as a person has it on disk."""
    path = tmp_path / "ball.nii.gz"
    write_nifti(path, ball[0], geometry)
    return path


@pytest.fixture
def library(tmp_path: Path, model_file: Path) -> Library:
    """A library with version 1 of the model ``tiny``."""
    library = Library(tmp_path / "library")
    library.keep(model_file)
    return library


@pytest.fixture(scope="session")
def _lending() -> Iterator[None]:
    """End the process that the windows lend each other."""
    yield
    end_of_lending()


@pytest.fixture
def worker_class(_lending: None, monkeypatch: pytest.MonkeyPatch) -> type[Worker]:
    """Let the panel take the process that the test before it has warmed."""
    monkeypatch.setattr("napari_dante.ui.engine.Worker", LentWorker)
    return LentWorker


@pytest.fixture
def own_process(worker_class: type[Worker], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the panel start a process and end it, as in real life."""
    monkeypatch.setattr("napari_dante.ui.engine.Worker", Worker)


@pytest.fixture
def make_dock(
    plugin: None,
    make_napari_viewer,  # noqa: ANN001
    qtbot: QtBot,
    library: Library,
    worker_class: type[Worker],
) -> Callable:
    """Open the panel in a real window."""
    from napari_dante.ui.dock import DanteDock

    def make(show: bool = False) -> DanteDock:
        viewer = make_napari_viewer(show=show)
        dock = DanteDock(viewer, library)
        dock.controller.choose_model("tiny")
        viewer.window.add_dock_widget(dock, name="Dante", area="right")
        return dock

    return make


def correct(layer: Labels, truth: NDArray[np.uint8], slices: tuple[int, ...]) -> None:
    """Bring whole slices to the truth as one stroke each."""
    for index in slices:
        where = np.nonzero(truth[index] != layer.data[index])
        full = (np.full(len(where[0]), index), *where)
        layer.data_setitem(full, truth[full])
