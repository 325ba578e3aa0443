"""What people see of the server."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import httpx

from napari_dante.federated.server.page import POLICY, curve
from napari_dante.federated.server.store import Version
from tests.federated.conftest import Site, until
from tests.federated.test_round_trip import my_uploads, update_file
from tests.federated.tiny import tiny_model


class Tags(HTMLParser):
    """Checks that tags are closed in order, and keeps their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def page(site: Site, key: str) -> httpx.Response:
    code = base64.b64encode(f"anybody:{key}".encode()).decode()
    return httpx.get(f"{site.url}/", headers={"authorization": f"Basic {code}"})


def test_the_page_tells_versions_and_the_fate_of_updates(site: Site, tmp_path: Path) -> None:
    with site.client() as client:
        client.upload("Tiny head", update_file(site, tmp_path / "up.model", tiny_model(1)))
        (tmp_path / "bad.model").write_bytes(b"<script>alert(1)</script>")
        client.upload("Tiny head", tmp_path / "bad.model")
    until(lambda: {one["state"] for one in my_uploads(site)} == {"merged", "quarantined"})
    answer = page(site, site.key)
    assert answer.status_code == 200
    tags = Tags(answer.text)
    for words in ("Tiny head", "2 versions, 2 updates, 0 waiting", "quarantined", "not a Dafne"):
        assert words in answer.text
    assert site.first in answer.text
    assert "anna" not in answer.text
    assert not [one for one in tags.attributes if one[1] in ("src", "href", "onload", "style")]
    assert "<script" not in answer.text


def test_nothing_but_its_own_style_may_be_loaded(site: Site) -> None:
    answer = page(site, site.key)
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    style = re.search("<style>(.*?)</style>", answer.text, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"'sha256-{digest}'" in POLICY
    assert POLICY.startswith("default-src 'none';")


def version(number: int, dice: float | None) -> Version:
    return Version(1000 + number, "0" * 64, 1, "merged", dice=dice)


def test_the_curve_rises_where_dice_rises_and_leaves_out_what_was_not_examined() -> None:
    text = curve([version(n, dice) for n, dice in enumerate((0.5, None, 0.6, 0.7))])
    Tags(text)
    points = re.search('points="([^"]+)"', text)
    assert points is not None
    places = [tuple(map(float, point.split(","))) for point in points[1].split()]
    assert len(places) == 3
    across, down = zip(*places, strict=True)
    assert list(across) == sorted(across)
    assert list(down) == sorted(down, reverse=True), "up is better"
    assert across[1] - across[0] > across[2] - across[1], "a gap stays a gap"
    assert all(0 < x < 640 and 0 < y < 220 for x, y in places)
    assert "no validation cases" in curve([version(0, None)])
    Tags(curve([version(0, 1.0)]))
