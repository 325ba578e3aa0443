"""The manifest says what is there, and all of it can be imported."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
from npe2 import PluginManifest

from napari_dante.ui.samples import SAMPLES, sample_path
from napari_dante.ui.settings import Settings, read_settings, remember_server

MANIFEST = PluginManifest.from_distribution("napari-dante")


def test_npe2_accepts_it_and_every_name_in_it() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "npe2", "validate", "napari-dante", "--imports"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_link_at_the_top_is_the_file_that_ships() -> None:
    link = Path(__file__).parents[2] / "napari.yaml"
    if not link.exists():
        pytest.skip("not in a checkout of the repository")
    assert link.resolve() == Path(str(files("napari_dante") / "napari.yaml")).resolve()


@pytest.mark.parametrize("name", [*SAMPLES, "mni152_tissue"])
def test_samples_are_shipped(name: str) -> None:
    assert sample_path(name).is_file()
    assert name in {sample.key for sample in MANIFEST.contributions.sample_data or ()}


def test_readers_writers_and_samples_import_no_qt() -> None:
    code = """
import sys
import napari_dante.ui.readers, napari_dante.ui.writers, napari_dante.ui.samples
import napari_dante.ui.tracker, napari_dante.ui.session
print(sorted(name for name in sys.modules if name.split(".")[0] in
             {"qtpy", "PyQt5", "PyQt6", "PySide6", "superqt", "torch", "monai"}))
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.usefixtures("plugin")
def test_settings_have_defaults_and_remember_the_server() -> None:
    assert read_settings() == Settings(server="", device="auto", threads=None, executor="")
    remember_server("https://dafne.example.org/api")
    assert read_settings().server == "https://dafne.example.org/api"
