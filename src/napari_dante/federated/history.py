"""What left this computer, and what became of it: two append-only logs. Torch-free.

``shared.jsonl`` has one line for each time that weights left; ``receipts.jsonl`` one for
each finding about them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from platformdirs import user_data_path

from napari_dante.federated.outbox import Item
from napari_dante.files import append_json, read_json_lines

__all__ = [
    "Outcome",
    "Receipt",
    "Shared",
    "note_receipt",
    "note_share",
    "receipt_log",
    "share_log",
    "shares",
]

Outcome = Literal["merged", "not merged", "refused", "unknown"]


@dataclass(frozen=True)
class Receipt:
    """What is known after a file was sent.

    Attributes
    ----------
    before_timestamp
        The server's version that the file was checked against.
    after_timestamp
        The version that is proven to hold the weights; where nothing is proven, the
        newest one that was searched, or None when there was no newer one yet: a server
        may merge later, or a person may do it.
    outcome
        ``merged``: proven by arithmetic. ``not merged``: there are newer versions and the
        weights are in none of them. ``refused``: the server says so. ``unknown``: no newer
        version yet, or nothing can be said.
    share
        Of the weights in that version; 0.5 is Dafne's usual average.
    exact
        Whether the proof holds to the last bit.
    time
        When this was found, ISO 8601, UTC.
    reason
        What the server says of a refusal.
    """

    before_timestamp: str
    after_timestamp: str | None
    outcome: Outcome = "unknown"
    share: float | None = None
    exact: bool = False
    time: str = ""
    reason: str = ""

    @property
    def sentence(self) -> str:
        """The finding in words."""
        before, after = self.before_timestamp, self.after_timestamp
        if self.outcome == "merged" and self.share is not None:
            return (
                f"Merged: version {before} → {after}, proven by arithmetic; "
                f"{100 * self.share:.0f} % of it is yours."
            )
        if self.outcome == "refused":
            return f"The server did not merge it: {self.reason or 'it gives no reason.'}"
        if self.outcome == "not merged":
            return f"Not merged so far: your weights are not in the versions up to {after}."
        if after is not None:
            return f"Version {after} is newer, but whether your weights are in it is unknown."
        return f"The server has made no new version since {before}; it may do so later."


@dataclass(frozen=True)
class Shared:
    """One time that weights left, and the last finding about them, None where there is none."""

    time: str
    server: str
    model: str
    sha256: str
    source: str
    answer: str
    base: str
    dice: float | None
    cases: int | None
    receipt: Receipt | None


def share_log() -> Path:
    """Return the append-only log of what left this computer, one JSON line for each time."""
    return user_data_path("napari-dante") / "shared.jsonl"


def receipt_log() -> Path:
    """Return the append-only log of what became of it, one JSON line for each finding."""
    return user_data_path("napari-dante") / "receipts.jsonl"


def note_share(item: Item, answer: str) -> None:
    """Write down that weights left, and what the server answered."""
    sent = {"dice": item.dice, "cases": item.cases, "answer": answer}
    append_json(share_log(), _about(item) | sent)


def note_receipt(item: Item, receipt: Receipt) -> None:
    """Write down what was found."""
    append_json(receipt_log(), asdict(receipt) | _about(item))


def shares() -> list[Shared]:
    """Return what left this computer, oldest first, with what became of it."""
    found = {(line["server"], line["sha256"]): line for line in read_json_lines(receipt_log())}
    return [
        Shared(
            time=line["time"],
            server=line["server"],
            model=line["model"],
            sha256=line["sha256"],
            source=line.get("source", ""),
            answer=line.get("answer", "received"),
            base=line["base"],
            dice=line.get("dice"),
            cases=line.get("cases"),
            receipt=_receipt(found.get((line["server"], line["sha256"]))),
        )
        for line in read_json_lines(share_log())
    ]


def _receipt(line: dict[str, Any] | None) -> Receipt | None:
    if line is None:
        return None
    names = ("before_timestamp", "after_timestamp", "outcome", "share", "exact", "time")
    return Receipt(**{name: line[name] for name in names}, reason=line.get("reason", ""))


def _about(item: Item) -> dict[str, Any]:
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "server": item.server,
        "model": item.name,
        "sha256": item.sha256,
        "source": item.source,
        "base": item.base,
    }
