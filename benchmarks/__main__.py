"""``python -m benchmarks [--quick] [--only NAME ...] [--out FILE]``.

Every benchmark runs in a process of its own; then come the figures as JSON, and a table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.pairs import Row, benchmark, fresh

BENCHMARKS = (
    "start",
    "strokes",
    "window",
    "steps",
    "prediction",
    "adapter",
    "teaching",
    "forgetting",
    "volumes",
    "server",
    "federation",
)
SHARING = ("server", "federation")
"""What the quick run leaves out unless it is named: it takes longer than all the others."""


def main() -> None:
    """Run the benchmarks in a home of their own."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, seeds and steps")
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS)
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    arguments = parser.parse_args()
    figures: dict[str, Any] = {"machine": _machine()}
    rows: list[tuple[str, Row]] = []
    with tempfile.TemporaryDirectory() as home:
        for variable in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
            os.environ[variable] = home
        left_out = SHARING if arguments.quick else ()
        for name in arguments.only or [name for name in BENCHMARKS if name not in left_out]:
            load, begin = os.getloadavg()[0], time.monotonic()
            result = fresh(benchmark, name, quick=arguments.quick)
            took = time.monotonic() - begin
            figures[name] = {**result.data, "load before": load, "took": took}
            rows += [(name, row) for row in result.rows]
    text = json.dumps(figures, indent=1, ensure_ascii=False)
    print(text)
    print(_table(rows))
    if arguments.out:
        arguments.out.write_text(text + "\n")


def _machine() -> dict[str, Any]:
    return {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        **{name: version(name) for name in ("torch", "monai", "napari-dante")},
    }


def _table(rows: list[tuple[str, Row]]) -> str:
    lines = ["| benchmark | case | variant | figures |", "|---|---|---|---|"]
    lines += [f"| {name} | {' | '.join(row)} |" for name, row in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
