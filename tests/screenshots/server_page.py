"""The page that people see of a server, with a history of weeks."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import which
from typing import Any

from napari_dante.federated.server.page import page
from napari_dante.federated.server.store import Version
from napari_dante.federated.server.uploads import Upload

BEGIN = datetime(2026, 9, 1, 8, 12, tzinfo=UTC)
UPDATES: tuple[tuple[str, str, float | None, str], ...] = (
    ("berta", "merged", 0.846, ""),
    ("anna", "merged", 0.852, ""),
    (
        "carl",
        "rejected",
        0.791,
        "It would make the model worse on the server's own cases (4): mean Dice 0.852 → 0.791.",
    ),
    ("berta", "merged", 0.859, ""),
    ("dora", "quarantined", None, "The update holds numbers that are not finite."),
    ("anna", "merged", 0.864, ""),
    ("carl", "merged", 0.863, ""),
    ("anna", "waiting", None, ""),
)
"""Sender, fate, Dice in the server's exam and reason of each update, oldest first."""


class Told:
    """A store and its uploads with a history that is told, not lived."""

    def __init__(self) -> None:
        self._versions = [_version(BEGIN, None, 0.831, 0)]
        self._uploads: list[Upload] = []
        time = BEGIN
        for number, (user, state, dice, reason) in enumerate(UPDATES, start=1):
            time += timedelta(days=5, hours=number, minutes=7 * number)
            if state == "merged":
                last = self._versions[-1].timestamp
                self._versions.append(_version(time, last, dice or 0.0, number))
            version = self._versions[-1].timestamp if state == "merged" else None
            self._uploads.append(
                Upload(
                    *(number, "brain-tissue", user, "", "", 2_390_000 + number),
                    *(time.isoformat(), 1, 1, state, reason, version, dice),  # type: ignore[arg-type]
                )
            )

    def rule(self, _: str) -> str:
        return "half"

    def versions(self, _: str) -> list[Version]:
        return self._versions

    def of(self, _: str) -> list[Upload]:
        return self._uploads[::-1]


def draw(target: Path) -> None:
    """Draw the page as PNG; where the programs for it are missing, say so and go on."""
    missing = [name for name in ("weasyprint", "pdftoppm") if which(name) is None]
    if missing:
        sys.stderr.write(f"No picture of the server's page: install {' and '.join(missing)}.\n")
        return
    told: Any = Told()
    with tempfile.TemporaryDirectory() as folder:
        html, pdf = Path(folder) / "page.html", Path(folder) / "page.pdf"
        screen = "<style>@page { size: 1000px 1010px; margin: 0 }</style></head>"
        html.write_text(page(told, told, ["brain-tissue"], "anna").replace("</head>", screen))
        subprocess.run(["weasyprint", "-q", html, pdf], check=True)
        shape = ("-png", "-singlefile", "-scale-to-x", "1000", "-scale-to-y", "-1")
        subprocess.run(["pdftoppm", *shape, pdf, target.with_suffix("")], check=True)


def _version(time: datetime, base: int | None, dice: float, upload: int) -> Version:
    stamp = int(time.timestamp())
    origin = "published" if base is None else "merged"
    share = None if base is None else 0.5
    digest = hashlib.sha256(str(stamp).encode()).hexdigest()
    return Version(stamp, digest, 2_390_000, origin, base, upload or None, share, dice)
