"""``python -m benchmarks [--quick] [--out FILE]``: run everything, print JSON and a table."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path


def main() -> None:
    """Run the benchmarks in a home of their own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three rounds instead of nine")
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
            os.environ[name] = home
        from benchmarks import window

        figures = {"window": window.run(Path(home) / "library", 3 if arguments.quick else 9, 4.0)}
    print(json.dumps(figures, indent=1))
    print(_table(figures["window"]))
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=1) + "\n")


def _table(found: dict[str, dict[str, float]]) -> str:
    lines = ["| pauses of the window | p95 | max | worst |", "|---|---|---|---|"]
    for state in ("paused", "training"):
        row = found[state]
        lines.append(
            f"| lesson {state} | {row['p95_ms']:.0f} ms | {row['max_ms']:.0f} ms "
            f"| {row['worst_ms']:.0f} ms |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
