"""The page of a request in a real browser without network: its pieces are coloured, and say how they came about."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import numpy as np
import pytest
from test_report_page import BLUE, ORANGE, Browser, browser, chromium, n_like

from septet.cli._piece_page import page
from septet.engine.config import parse
from septet.engine.house import House

__all__ = ["browser", "chromium"]  # fixtures

pytestmark = pytest.mark.local

CONFIG = """
[members]
ada = { backend = "toy", tokenizer = "words", answers = { "France" = "Paris it is." } }
bob = { backend = "toy", tokenizer = "bytes", answers = { "France" = "Paris it is." } }

[ensembles.fused]
method = "unite"
members = ["ada", "bob"]

[store]
path = "s.db"
"""

PLACE = """<script>
const r = document.querySelector(".answer .text").getBoundingClientRect();
document.body.dataset.place = JSON.stringify([r.left, r.top, r.right, r.bottom]);
</script>"""
POINT = """<script>
document.querySelector('.piece[data-i="1"]').dispatchEvent(new PointerEvent("pointerover", {bubbles: true}));
</script>"""
WALK = """<script>
const text = document.querySelector(".answer .text");
for (let i = 0; i < 99; i++) text.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight", bubbles: true}));
</script>"""


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a real request of two toys."""

    async def made() -> str:
        async with House(parse(CONFIG, str(tmp_path_factory.mktemp("page") / "septet.toml"))) as house:
            answer = await house["fused"].ask("What is the capital of France?")
            request, calls = house.store.trace(answer.trace_id)
            return page(request, calls, house.store.pieces(answer.trace_id))

    return asyncio.run(made())


def after(html: str, script: str) -> str:
    return html.replace("</body>", script + "</body>")


def detail(dom: str) -> str:
    """The text of the panel beside the answer."""
    found = re.search(r'<aside class="detail"[^>]*>(.*?)</aside>', dom, re.DOTALL)
    assert found is not None
    return re.sub(r"<[^>]+>", " ", found[1])


def test_the_pieces_are_painted_in_the_colours_of_their_members(html: str, browser: Browser) -> None:
    dom = browser.ask(after(html, PLACE), "--dump-dom")
    place = re.search(r'data-place="(\[[^"]*\])"', dom)
    assert place is not None
    left, top, right, bottom = (round(v) for v in json.loads(place[1]))
    shot = browser.screenshot(html)[top:bottom, left:right]
    assert n_like(shot, BLUE) > 100  # the bars under the pieces, both members' shares
    assert n_like(shot, ORANGE) > 50
    bare = browser.screenshot(re.sub(r' style="--bar[^"]*"', "", html))[top:bottom, left:right]
    assert n_like(bare, BLUE) == n_like(bare, ORANGE) == 0
    assert len(np.unique(bare.reshape(-1, 3), axis=0)) > 10  # the text is still there


def test_the_dark_page_has_light_text_on_a_dark_ground(html: str, browser: Browser, tmp_path: Path) -> None:
    dark = html.replace("@media (prefers-color-scheme: dark)", "@media all")
    grounds = [browser.screenshot(text)[2, 2].astype(int).sum() for text in (html, dark)]
    assert grounds[0] > 600
    assert grounds[1] < 120


def test_the_piece_that_is_pointed_at_shows_its_candidates_and_what_it_cost(
    html: str, browser: Browser
) -> None:
    facts = json.loads(re.findall(r'<script type="application/json">(.*?)</script>', html)[0])
    at_first = detail(browser.ask(html, "--dump-dom"))
    assert '"Paris"' in at_first
    pointed = detail(browser.ask(after(html, POINT), "--dump-dom"))
    assert facts[1]["piece"] in pointed
    assert f"{facts[1]['ms']:g} ms" in pointed  # a script writes 4.0 as 4
    for text, fused, _, _ in facts[1]["candidates"][:2]:
        assert text in pointed
        assert f"{fused:.3f}" in pointed
    assert "fed" in pointed


def test_the_arrow_keys_walk_to_the_last_piece_and_no_further(html: str, browser: Browser) -> None:
    dom = browser.ask(after(html, WALK), "--dump-dom")
    assert "END" in detail(dom)
    assert dom.count('class="piece end on"') == 1
