"""Opening napari, and the demo."""

from __future__ import annotations

import os
import tempfile
import warnings
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_dante.cli.console import say

__all__ = ["demo", "open_viewer"]


def open_viewer(options: Namespace) -> None:
    """Open napari with the Dante panel."""
    from napari_dante.ui.app import open_viewer

    open_viewer()


def demo(options: Namespace) -> None:
    """Open the demo ready to be tried, or drive it to its end."""
    if not options.headless:
        from napari_dante.ui.app import open_demo

        open_demo()
        return
    out = options.out or Path("demo-out")
    with tempfile.TemporaryDirectory(prefix="napari-dante-demo-") as home:
        # The demo must not change the settings, the library or the outbox of its user.
        for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
            os.environ[name] = home
        warnings.filterwarnings("ignore", "System theme detection")  # nobody looks at it
        from napari_dante.ui.demo import run_headless

        _print_table(run_headless(out.resolve()))


def _print_table(figures: Mapping[str, Any]) -> None:
    before, after = figures["dice"]["before"], figures["dice"]["after"]
    say("Dice on the slices that were not corrected")
    for name in before:
        say(f"  {name:14s} {before[name]:.3f} → {after[name]:.3f}")
    say(figures["exam"]["sentence"])
    say("  ".join(f"{name} {seconds:.1f} s" for name, seconds in figures["seconds"].items()))
    gaps = figures["event_loop_gap_ms"]
    say(
        f"longest pause of the window: {gaps['idle']['max']:.0f} ms idle, "
        f"{gaps['teaching']['max']:.0f} ms while teaching"
    )
    say(f"server version {figures['server']['before']} → {figures['server']['after']}")
