"""The wheel holds everything, and napari finds the plugin in it."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("wheel")  # what they share is made once

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and install it alone into a folder."""
    wheels, target = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(wheels)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = wheels.glob("*.whl")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, "--target", str(target), str(wheel)], check=True)
    return target


def run(installed: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_napari_finds_the_plugin_in_the_installed_wheel(installed: Path) -> None:
    where = run(installed, "-c", "import napari_dante; print(napari_dante.__file__)")
    assert where.startswith(str(installed))
    assert "valid" in run(installed, "-m", "npe2", "validate", "napari-dante", "--imports")


def test_the_wheel_predicts_with_the_shipped_model(installed: Path, tmp_path: Path) -> None:
    sample = installed / "napari_dante" / "resources" / "samples" / "mni152_t1.nii.gz"
    out = tmp_path / "mask.nii.gz"
    command = ("-m", "napari_dante", "predict", str(sample), "--model", "brain-tissue-t1")
    run(installed, *command, "--out", str(out))
    assert out.stat().st_size > 10_000


def test_what_ships_stays_small_and_has_its_notices() -> None:
    resources = ROOT / "src" / "napari_dante" / "resources"
    files = [path for path in resources.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 12e6
    notices = (resources / "NOTICES.md").read_text()
    for path in files:
        if path.suffix in {".gz", ".safetensors"}:
            assert path.name in notices, f"{path.name} has no notice"


def test_torch_stays_at_the_exact_pin() -> None:
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text().splitlines()


def test_no_binding_of_qt_is_a_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert not [name for name in project["dependencies"] if "qt5" in name or "side" in name]
