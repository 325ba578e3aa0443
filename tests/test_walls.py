"""The walls of the house: who may import whom."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import napari_dante

PACKAGE = Path(napari_dante.__file__).parent
ROOMS = ("volume", "corrections", "model", "evaluate", "adapt", "jobs", "federated", "ui", "cli")
FOUNDATIONS = {"errors", "files"}
SCREEN = {"napari", "qtpy", "magicgui", "superqt", "PyQt5", "PyQt6", "PySide6"}
HEAVY = {"torch", "monai"}
MODULES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Return the dotted names that a file imports anywhere in its text."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
    return found


def room(path: Path) -> str:
    name = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "cli" if name == "__main__" else name


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_rooms_before_it(path: Path) -> None:
    here = room(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "napari_dante" or len(parts) == 1:
            continue
        target = parts[1]
        if target in FOUNDATIONS:
            continue
        assert here not in FOUNDATIONS, f"a foundation imports {name}"
        assert ROOMS.index(target) <= ROOMS.index(here), f"{here} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_ui_knows_the_screen_and_never_torch(path: Path) -> None:
    tops = {name.split(".")[0] for name in imports(path)}
    if room(path) != "ui":
        assert not tops & SCREEN
    if room(path) in {"ui", "volume", "corrections"}:
        assert not tops & HEAVY


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_pickle_is_opened_by_the_allow_list_reader_only(path: Path) -> None:
    tops = {name.split(".")[0] for name in imports(path)}
    if not path.name.startswith("dafne"):
        assert not tops & {"pickle", "dill", "cloudpickle", "joblib", "shelve"}


def test_what_the_viewer_needs_imports_neither_torch_nor_monai() -> None:
    code = """
import sys
import napari_dante.volume, napari_dante.corrections.record
import napari_dante.model.library, napari_dante.model.file
import napari_dante.adapt.recipe, napari_dante.evaluate.report, napari_dante.evaluate.split
import napari_dante.evaluate.uncertainty
import napari_dante.jobs.client, napari_dante.jobs.folder, napari_dante.jobs.reporting
import napari_dante.federated.client, napari_dante.federated.gate
import napari_dante.federated.sharing
print(sorted({"torch", "monai", "napari", "qtpy"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
