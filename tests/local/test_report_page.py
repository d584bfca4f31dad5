"""The report of a run of routers in a real browser without network: it is painted, curves and all."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from routed import results
from septet.bench.html import page

pytestmark = pytest.mark.local

SIZE = (1000, 900)
BLUE, ORANGE = (0x3A, 0x6F, 0xE0), (0xE4, 0x76, 0x2B)  # --c0 and --c1 of the light style
PLACE = """<script>
const r = document.querySelector("svg.curves").getBoundingClientRect();
document.body.dataset.place = JSON.stringify([r.left, r.top, r.right, r.bottom]);
</script>"""


@pytest.fixture(scope="module")
def chromium() -> str:
    """The browser; where it must be there (SEPTET_CHROMIUM=required), its absence is a failure."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None and os.environ.get("SEPTET_CHROMIUM") == "required":
        pytest.fail("chromium is not installed (Debian: apt-get install chromium)")
    if found is None:
        pytest.skip("chromium is not installed (Debian: apt-get install chromium)")
    return found


@dataclass(frozen=True)
class Browser:
    """A headless browser that resolves no name, so that whatever a page asked for would be missing."""

    program: str
    folder: Path

    def ask(self, html: str, *options: str) -> str:
        """Opens a page and returns what the browser prints."""
        file = self.folder / "page.html"
        file.write_text(html, encoding="utf-8")
        fixed = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
        offline = "--host-resolver-rules=MAP * ~NOTFOUND"
        profile = f"--user-data-dir={self.folder / 'profile'}"
        size = f"--window-size={SIZE[0]},{SIZE[1]}"
        command = [self.program, *fixed, offline, profile, size, *options, file.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return done.stdout

    def screenshot(self, html: str) -> np.ndarray:
        """(h, w, 3) pixels."""
        shot = self.folder / "shot.png"
        self.ask(html, f"--screenshot={shot}")
        return pixels(shot.read_bytes())


@pytest.fixture
def browser(chromium: str, tmp_path: Path) -> Browser:
    return Browser(chromium, tmp_path)


def pixels(png: bytes) -> np.ndarray:
    """(h, w, 3) colours of a PNG of eight bits, undoing its row filters (PNG 1.2, section 6)."""
    at, data, size, channels = 8, b"", (0, 0), 0
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at : at + 8])
        body = png[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack(">IIBB", body[:10])
            assert (depth, colour) in ((8, 2), (8, 6))
            size, channels = (height, width), 3 if colour == 2 else 4
        data += body if kind == b"IDAT" else b""
        at += 12 + length
    height, width = size
    rows = np.frombuffer(zlib.decompress(data), np.uint8).reshape(height, 1 + width * channels)
    found = np.zeros((height, width, channels), np.uint8)
    above = np.zeros((width, channels), np.uint8)
    for y, row in enumerate(rows):
        above = found[y] = unfiltered(int(row[0]), row[1:].reshape(width, channels), above)
    return found[..., :3]


def unfiltered(kind: int, row: np.ndarray, above: np.ndarray) -> np.ndarray:
    """One row (w, channels) of a PNG from its filtered form and the row above."""
    if kind == 0:
        return row
    if kind == 1:
        return np.cumsum(row, axis=0, dtype=np.uint8)
    if kind == 2:
        return row + above
    left, upper_left, done = [0] * row.shape[1], [0] * row.shape[1], []
    for now, up in zip(row.tolist(), above.tolist(), strict=True):
        if kind == 3:
            left = [(x + (a + b) // 2) % 256 for x, a, b in zip(now, left, up, strict=True)]
        else:
            left = [(x + paeth(a, b, c)) % 256 for x, a, b, c in zip(now, left, up, upper_left, strict=True)]
        upper_left = up
        done.append(left)
    return np.array(done, np.uint8)


def paeth(a: int, b: int, c: int) -> int:
    """Whichever of left, above and upper left is nearest to left + above − upper left."""
    p = a + b - c
    return min((a, b, c), key=lambda v: abs(p - v))


def n_like(area: np.ndarray, colour: tuple[int, int, int]) -> int:
    """How many pixels of an area have nearly this colour."""
    return int((np.abs(area.astype(int) - colour).max(axis=-1) < 24).sum())


def test_the_page_is_painted_with_its_curves_and_without_network(browser: Browser) -> None:
    text = page(results())
    dom = browser.ask(text.replace("</body>", PLACE + "</body>"), "--dump-dom")
    place = re.search(r'data-place="(\[[^"]*\])"', dom)
    assert place is not None
    left, top, right, bottom = (round(v) for v in json.loads(place[1]))
    assert right - left > 400
    assert bottom - top > 200
    assert bottom <= SIZE[1]

    shot = browser.screenshot(text)
    assert len(np.unique(shot.reshape(-1, 3), axis=0)) > 100
    curves = shot[top:bottom, left:right]
    assert n_like(curves, BLUE) > 300
    assert n_like(curves, ORANGE) > 300

    # the boxes of the legend hide the curves, by style alone
    hidden = browser.screenshot(text.replace(" checked>", ">"))[top:bottom, left:right]
    assert n_like(hidden, BLUE) == n_like(hidden, ORANGE) == 0
    assert len(np.unique(hidden.reshape(-1, 3), axis=0)) > 10  # the axes and the bounds are still there


def test_a_heading_sorts_the_ranking(browser: Browser) -> None:
    click = "<script>document.querySelectorAll('th[data-sort]')[2].click();</script>"  # USD / 1,000
    dom = browser.ask(page(results()).replace("</body>", click + "</body>"), "--dump-dom")
    ranking = dom[dom.index('<table class="ranking"') :]
    costs = re.findall(r'<td data-v="([\d.]*)">(?:\$[\d.]+|—)</td>', ranking[: ranking.index("</table>")])
    known = [float(v) for v in costs if v]
    assert known == sorted(known, reverse=True)
    assert known[0] == 10.0  # the best single member
