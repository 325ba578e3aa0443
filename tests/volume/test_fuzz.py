"""Mutated files are refused or opened; never a crash, a hang or a memory bomb."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.volume.fuzzing import KINDS

pytest.importorskip("resource", reason="limits on memory need a Unix")

pytestmark = pytest.mark.xdist_group("fuzzing")  # what they share is made once

ROOT = Path(__file__).parents[2]


def opened(folder: Path, seeds: range, *kinds: str) -> dict[str, int]:
    """Return how many mutations of each kind open, told by a process with limits."""
    arguments = [str(folder), str(seeds.start), str(seeds.stop), *kinds]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.volume.fuzzing", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, int] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    return opened(tmp_path_factory.mktemp("fuzz"), range(60), *KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_mutated_files_are_refused_or_opened(quick: dict[str, int], kind: str) -> None:
    assert quick[kind] < 60
    assert quick[kind] > 0 or kind == "archive"  # its checksum notices nearly everything


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", KINDS)
def test_thousands_of_mutated_files_are_refused_or_opened(tmp_path: Path, kind: str) -> None:
    assert 0 < opened(tmp_path, range(1000, 3000), kind)[kind] < 2000
