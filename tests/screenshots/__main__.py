"""Go through the states and take the pictures."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path


def main() -> None:
    """Take pictures of all states, or of some."""
    parser = argparse.ArgumentParser(prog="scripts/screenshots", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--only", nargs="+", default=[], metavar="STATE")
    parser.add_argument("--steps", type=int, help="a shorter lesson, for a first look")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        # What the person who runs this has taught and kept stays out of the pictures.
        for name in ("XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
            os.environ[name] = home
        os.environ["PYTHON_KEYRING_BACKEND"] = "keyring.backends.null.Keyring"
        run(options.out, tuple(options.only), options.steps)


def run(out: Path, only: tuple[str, ...], steps: int | None) -> None:
    """Open the window and go through the states."""
    from napari._qt import qt_main_window

    from napari_dante.ui.app import window_with_panel
    from tests.screenshots import states  # noqa: F401
    from tests.screenshots.stage import SMALL, STATES, Stage

    # A notice of napari's about its own future would cover the pictures.
    qt_main_window.SHOW_QT_WARNING = False
    viewer, dock = window_with_panel()
    viewer.window.resize(*SMALL)
    stage = Stage(viewer, dock, out, only, steps)
    for one in STATES.values():
        one.reach(stage)
        stage.take(one)
    viewer.close()


if __name__ == "__main__":
    main()
