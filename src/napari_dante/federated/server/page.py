"""What people see of the server: one page, without script and without anything from elsewhere.

Who sent an update is not shown; a person sees which were their own.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape

from napari_dante.federated.server.store import Store, Version
from napari_dante.federated.server.uploads import Upload, Uploads

__all__ = ["POLICY", "curve", "page"]

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1d2733; background: #f6f7f9; margin: 0 }
main { max-width: 60rem; margin: 0 auto; padding: 1.5rem }
h1 { font-size: 1.3rem; margin: 0 0 1rem } h2 { font-size: 1.1rem; margin: 0 }
section { background: #fff; border: 1px solid #dde2e8; border-radius: 8px; padding: 1.2rem;
  margin-bottom: 1.2rem; overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-size: .9rem }
th { text-align: left; font-weight: 600; color: #5a6775; border-bottom: 1px solid #dde2e8 }
th, td { padding: .3rem .6rem .3rem 0; vertical-align: top; white-space: nowrap }
td:last-child { white-space: normal }
h3 { font-size: .95rem; margin: 1.2rem 0 .3rem } p { margin: .3rem 0 .8rem; color: #5a6775 }
svg { display: block; max-width: 100%; height: auto }
.merged { color: #1a7f4b } .waiting { color: #8a6100 }
.rejected, .quarantined { color: #b3261e }
"""
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""Content-Security-Policy of the page: its own style and nothing else."""

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 640, 220, 46, 28
_LAST = 50


def page(store: Store, uploads: Uploads, names: Sequence[str], user: str) -> str:
    """Return the page about the models `names` as HTML, for one user."""
    sections = "".join(
        _section(name, store.rule(name), store.versions(name), uploads.of(name), user)
        for name in names
    )
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Models</title><style>{_STYLE}</style></head><body><main><h1>Models on this "
        f"server</h1>{sections or '<p>There are no models for you here.</p>'}</main></body></html>"
    )


def _section(
    name: str, rule: str, versions: Sequence[Version], uploads: Sequence[Upload], user: str
) -> str:
    waiting = sum(upload.state == "waiting" for upload in uploads)
    summary = (
        f"{len(versions)} versions, {len(uploads)} updates, {waiting} waiting; merged by the rule "
        f"“{rule}”."
    )
    return (
        f"<section><h2>{escape(name)}</h2><p>{escape(summary)}</p>{curve(versions)}"
        f"<h3>Versions</h3>{_versions(versions)}<h3>Updates</h3>{_updates(uploads, user)}</section>"
    )


def _versions(versions: Sequence[Version]) -> str:
    rows = (
        (
            str(one.timestamp),
            _time(one.timestamp),
            one.origin,
            "" if one.base is None else str(one.base),
            "" if one.share is None else f"{one.share:.2f}",
            _dice(one.dice),
            one.sha256[:8],
        )
        for one in reversed(versions[-_LAST:])
    )
    return _table(("version", "since (UTC)", "by", "from", "share", "Dice", "SHA-256"), rows)


def _updates(uploads: Sequence[Upload], user: str) -> str:
    if not uploads:
        return "<p>None yet.</p>"
    rows = (
        (
            _short(one.received),
            "you" if one.user == user else "",
            f"{one.size / 1e6:.1f} MB",
            one.state,
            "" if one.version is None else str(one.version),
            _dice(one.dice),
            one.reason,
        )
        for one in uploads[:_LAST]
    )
    return _table(("received (UTC)", "from", "size", "fate", "version", "Dice", "reason"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    body = "".join(f"<tr>{''.join(_cell(text) for text in row)}</tr>" for row in rows)
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"


def _cell(text: str) -> str:
    state = text in ("merged", "waiting", "rejected", "quarantined")
    return f'<td class="{text}">{text}</td>' if state else f"<td>{escape(text)}</td>"


def curve(versions: Sequence[Version]) -> str:
    """Return the Dice of the versions as an SVG drawing; a sentence where it was never measured."""
    found = [(number, one.dice) for number, one in enumerate(versions) if one.dice is not None]
    if not found:
        return "<p>No version was examined: the server has no validation cases for this model.</p>"
    low = max(0.0, min(dice for _, dice in found) - 0.02)
    high = min(1.0, max(dice for _, dice in found) + 0.02)
    last = max(1, len(versions) - 1)

    def place(number: int, dice: float) -> tuple[float, float]:
        x = _LEFT + (_WIDTH - _LEFT - 12) * number / last
        return x, 12 + (_HEIGHT - _BOTTOM - 12) * (high - dice) / (high - low)

    points = [(*place(number, dice), number, dice) for number, dice in found]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _, _ in points)
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="#1f6feb">'
        f"<title>version {versions[number].timestamp}: {dice:.3f}</title></circle>"
        for x, y, number, dice in points
    )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" role="img" '
        f'aria-label="Mean Dice from {found[0][1]:.3f} to {found[-1][1]:.3f}" '
        f'font-family="sans-serif" font-size="11" fill="#5a6775">{_grid(low, high)}'
        f'<text x="{_LEFT}" y="{_HEIGHT - 6}">mean Dice in the exam of this server, by generation'
        f'</text><text x="{_WIDTH - 12}" y="{_HEIGHT - 6}" text-anchor="end">0 to '
        f"{len(versions) - 1}</text>"
        f'<polyline points="{line}" fill="none" stroke="#1f6feb" stroke-width="2"/>{dots}</svg>'
    )


def _grid(low: float, high: float) -> str:
    lines = []
    for step in range(5):
        dice = low + (high - low) * step / 4
        y = 12 + (_HEIGHT - _BOTTOM - 12) * (1 - step / 4)
        lines.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - 12}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dde2e8"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{dice:.3f}</text>'
        )
    return "".join(lines)


def _dice(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _time(timestamp: int) -> str:
    return _short(datetime.fromtimestamp(timestamp, UTC).isoformat())


def _short(time: str) -> str:
    """Return an ISO time to the minute."""
    return time[:16].replace("T", " ")
