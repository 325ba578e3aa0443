"""Go through the states and take the pictures."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.screenshots.stage import State

PARTS = ("states", "sharing", "correcting", "odd")
"""The modules that tell the states, in this order."""

SERVER_PAGE = "server-page"


def main() -> None:
    """Take pictures of all states, or of some."""
    parser = argparse.ArgumentParser(prog="scripts/screenshots", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--only", nargs="+", default=[], metavar="STATE")
    parser.add_argument("--steps", type=int, help="a shorter lesson, for a first look")
    parser.add_argument("--large", action="store_true", help="on a 4K screen, with QT_SCALE_FACTOR")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    os.environ["PYTHON_KEYRING_BACKEND"] = "keyring.backends.null.Keyring"
    with tempfile.TemporaryDirectory() as home:
        # What the person who runs this has taught and kept stays out of the pictures.
        for name in ("XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
            os.environ[name] = home
        walks = list(_walks(options.only, options.large))
        for number, walk in enumerate(walks):
            os.environ["XDG_DATA_HOME"] = f"{home}/{number}"
            run(walk, options.out, options.only, options.steps, options.large)
    if options.large:
        return
    if SERVER_PAGE in (options.only or [SERVER_PAGE]):
        from tests.screenshots import server_page

        server_page.draw(options.out / f"{SERVER_PAGE}.png")
    if any(_wanted(one, options.only, large=True) for walk in walks for one in walk):
        # Qt takes the factor once, when it starts.
        command = [sys.executable, "-W", "ignore", "-m", "tests.screenshots", *sys.argv[1:]]
        subprocess.run([*command, "--large"], env=os.environ | {"QT_SCALE_FACTOR": "2"}, check=True)


def _walks(only: Collection[str], large: bool) -> Iterator[list[State]]:
    """Give the states to go through in one window, up to the last one that is wanted."""
    from tests.screenshots.stage import STATES

    for part in PARTS:
        import_module(f"tests.screenshots.{part}")
    walk: list[State] = []
    last = 0
    for one in STATES.values():
        if one.fresh:
            yield from [walk[:last]] if last else []
            walk, last = [], 0
        walk.append(one)
        last = len(walk) if _wanted(one, only, large) else last
    yield from [walk[:last]] if last else []


def _wanted(one: State, only: Collection[str], large: bool) -> bool:
    return (not only or one.name in only) and (one.large or not large)


def run(
    walk: list[State], out: Path, only: Collection[str], steps: int | None, large: bool
) -> None:
    """Open the window and go through the states."""
    from napari._qt import qt_main_window

    from napari_dante.ui.app import window_with_panel
    from tests.screenshots.stage import LARGE, SMALL, Stage

    # A notice of napari's about its own future would cover the pictures.
    qt_main_window.SHOW_QT_WARNING = False
    viewer, dock = window_with_panel()
    viewer.window.resize(*(LARGE if large else SMALL))
    stage = Stage(viewer, dock, out, steps, large)
    with stage.ends:
        for one in walk:
            one.reach(stage)
            if _wanted(one, only, large):
                stage.take(one)
        viewer.close()


if __name__ == "__main__":
    main()
