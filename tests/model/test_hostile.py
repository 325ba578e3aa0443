"""Nothing of a hostile file runs, none is accepted, none takes the memory of the machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from napari_dante.model.dafne import from_dafne, read_dafne
from tests.model.hostile import GALLERY, harmless

pytestmark = pytest.mark.xdist_group("hostile files")  # what they share is made once

BOUND = 300e6
"""Bytes that refusing a file may take; the largest of them has ten million."""

PROGRAM = """
import json, resource, sys, time
from pathlib import Path
from napari_dante.errors import ModelError
from napari_dante.model.dafne import from_dafne, read_dafne

def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 3 * 2**30,) * 2)
for path in sorted(Path(sys.argv[1]).glob("*.model"), key=lambda path: path.stat().st_size):
    before, begin = peak(), time.monotonic()
    try:
        from_dafne(read_dafne(path), "A")
        outcome = "accepted"
    except ModelError as error:
        outcome = error.sentence
    found = {"name": path.stem, "outcome": outcome, "bytes": peak() - before}
    print(json.dumps(found | {"seconds": time.monotonic() - begin}), flush=True)
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All of them read by one process that may take only so much memory."""
    folder = tmp_path_factory.mktemp("hostile")
    for name, build in GALLERY.items():
        (folder / f"{name}.model").write_bytes(build(f"touch '{folder}/canary'"))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder)], capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert not (folder / "canary").exists()
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {one["name"]: one for one in found}


def test_the_gallery_is_large() -> None:
    assert len(GALLERY) >= 50


@pytest.mark.parametrize("name", GALLERY)
def test_a_hostile_file_is_refused(outcomes: dict[str, Any], name: str) -> None:
    one = outcomes[name]
    assert one["outcome"] != "accepted"
    assert one["outcome"].endswith(".")
    assert "Traceback" not in one["outcome"]
    assert one["bytes"] < BOUND
    assert one["seconds"] < 60


def test_without_the_evil_the_file_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "good.model"
    path.write_bytes(harmless())
    assert from_dafne(read_dafne(path), "A").lineage.name == "A"
