"""One request as one HTML file: the answer piece by piece, who supported what, what each piece cost, every call.

Nothing is fetched: style and script stand in the file, and its policy forbids the browser to ask anybody. Texts of
the request are escaped, or put in by the script as text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from septet.cli._pieces import agreed, quoted, shares
from septet.cli._terminal import short
from septet.cli.trace import member_of, written
from septet.core.money import dollars
from septet.core.trace import PieceEvent
from septet.engine.wire import query_of

COLOURS = 8
"""Colours of members, in the order of the pool; they repeat."""

STRIP = (960, 64)
"""Width and height of the strip of milliseconds, in its own units."""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def page(request: Mapping[str, Any], calls: Sequence[Mapping[str, Any]], pieces: Sequence[PieceEvent]) -> str:
    """The whole file."""
    names = list(dict.fromkeys([*(c["member"] for c in calls), *(n for e in pieces for n in e.support)]))
    colour = {name: i % COLOURS for i, name in enumerate(names)}
    title = f"{request['ensemble']}: {short(query_of(request['query']).text, 80)}"
    parts = [
        _answer(request, path, [e for e in pieces if e.path == path], colour)
        for path in dict.fromkeys(e.path for e in pieces)
    ]
    if not parts and request["answer"]:
        parts = [
            f'<section class="card"><h2>Answer</h2><p class="text">{escape(request["answer"])}</p></section>'
        ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title>\n<style>\n{_asset('pieces.css')}</style></head>\n"
        f"<body><header><h1>{escape(query_of(request['query']).text)}</h1>{_facts(request)}</header>\n"
        f"<main>{''.join(parts)}{_calls(request, calls, colour)}</main>\n"
        f"<script>\n{_asset('pieces.js')}</script></body></html>\n"
    )


def _asset(name: str) -> str:
    return files("septet.cli").joinpath(name).read_text(encoding="utf-8")


def _facts(request: Mapping[str, Any]) -> str:
    usage = request["usage"]
    said = [
        f"{request['ensemble']} ({request['method']})",
        request["status"],
        f"{request['seconds']:.2f} s",
        f"{usage['prompt_tokens']}→{usage['completion_tokens']} tokens",
        dollars(request["usd"]),
        f"trace {request['id']}",
    ]
    lines = "".join(
        f'<p class="soft"><b>{what}:</b> {escape(text)}</p>'
        for what, text in [
            ("why", request["reason"]),
            ("error", request["error"]),
            *(("note", n) for n in request["notes"]),
        ]
        if text
    )
    return f'<p class="facts">{"".join(f"<span>{escape(s)}</span>" for s in said)}</p>{lines}'


# --- the answer ------------------------------------------------------------------------------------


def _answer(
    request: Mapping[str, Any], path: str, events: Sequence[PieceEvent], colour: Mapping[str, int]
) -> str:
    names = list(dict.fromkeys(n for e in events for n in e.support))
    what = "piece" if any(e.candidates for e in events) else "span"
    text = "".join(_piece(i, e, colour) for i, e in enumerate(events))
    facts = [_detail(e) for e in events]
    data = json.dumps(facts, ensure_ascii=True).replace("<", "\\u003c")
    title = "Answer" if path == request["ensemble"] else f"Answer of {escape(path)}"
    drafted = " Those in italics stood in a draft." if any(e.drafted for e in events) else ""
    caption = (
        f"{len(events)} {what}{'' if len(events) == 1 else 's'}. The bar under each shows every member's share in it; "
        f"the tint is that of the largest.{drafted} Point at one, or use the arrow keys."
    )
    return (
        f'<section class="card answer"><h2>{title}</h2><p class="soft">{caption}</p>'
        f'<div class="keys">{"".join(_key(n, events, colour) for n in names)}</div>'
        f'<div class="two"><div><p class="text" tabindex="0">{text}</p>{_strip(events, colour, what)}</div>'
        f'<aside class="detail" aria-live="polite"></aside></div>'
        f'<script type="application/json">{data}</script></section>\n'
    )


def _key(name: str, events: Sequence[PieceEvent], colour: Mapping[str, int]) -> str:
    share = sum(e.support.get(name, 0.0) for e in events) / max(
        sum(sum(e.support.values()) for e in events), 1e-9
    )
    said = [f"{share:.0%} of the support"]
    if any(e.candidates for e in events):
        said.append(f"first choice of {sum(name in agreed(e) for e in events)}")
        said.append(f"{sum(e.fed.get(name, 0) for e in events)} tokens fed")
        said.append(f"{1000 * sum(e.forward_seconds.get(name, 0.0) for e in events):.0f} ms in forwards")
    return f'<span><i class="key c{colour[name]}"></i><b>{escape(name)}</b> {" · ".join(said)}</span>'


def _piece(i: int, e: PieceEvent, colour: Mapping[str, int]) -> str:
    """A piece of the text, with a bar of shares under it and the tint of the largest."""
    stops, reached = [], 0.0
    total = sum(e.support.values())
    for name, share in e.support.items():
        start, reached = reached, reached + 100 * share / total if total > 0 else 0.0
        stops.append(f"var(--c{colour[name]}) {start:.1f}% {reached:.1f}%")
    top = max(e.support, key=lambda n: e.support[n], default=None)
    tint = f"--bar:linear-gradient(90deg,{','.join(stops)})" if stops and total > 0 else "--bar:none"
    tint += (
        f";--top:var(--c{colour[top]});--share:{25 * e.support[top] / total:.0f}%"
        if top and total > 0
        else ""
    )
    shown, kind = e.piece.decode("utf-8", "replace"), "piece"
    if not e.piece:
        shown, kind = "END", "piece end"
    elif shown.encode() != e.piece:
        shown, kind = quoted(e.piece)[1:-1], "piece bytes"  # it ends or begins within a character
    whole = escape(shown).replace("\n", '<span class="nl">⏎</span>\n')
    kind += " drafted" if e.drafted else ""
    return (
        f'<span class="{kind}" data-i="{i}" style="{tint}" title="{escape(shares(e.support))}">{whole}</span>'
    )


def _detail(e: PieceEvent) -> dict[str, Any]:
    """What is shown of a piece that is pointed at."""
    return {
        "piece": quoted(e.piece),
        "number": e.number,
        "at": e.at,
        "p": None if math.isnan(e.logp) else round(math.exp(e.logp), 4),
        "ms": round(1000 * e.seconds, 1),
        "support": [[n, round(share, 4)] for n, share in e.support.items()],
        "candidates": [
            [quoted(piece), p, [owns.get(n) for n in e.asked], piece == e.piece]
            for piece, p, owns in e.candidates
        ],
        "asked": list(e.asked),
        "agreed": agreed(e),
        "fed": [[n, k, round(1000 * e.forward_seconds.get(n, 0.0), 1)] for n, k in e.fed.items()],
        "drafted": e.drafted,
    }


def _strip(events: Sequence[PieceEvent], colour: Mapping[str, int], what: str) -> str:
    """Milliseconds per piece as bars, each in the colour of the member with the largest share."""
    width, height = STRIP
    most = max((e.seconds for e in events), default=0.0)
    if most <= 0:
        return ""
    step = width / len(events)
    bars = []
    for i, e in enumerate(events):
        tall = max(height * e.seconds / most, 1.0)
        top = max(e.support, key=lambda n: e.support[n], default=None)
        css = f"c{colour[top]}" if top is not None else "rest"
        bars.append(
            f'<g data-i="{i}"><rect class="hit" x="{i * step:.1f}" y="0" width="{step:.1f}" height="{height}"/>'
            f'<rect class="ms {css}" x="{i * step + 0.08 * step:.1f}" y="{height - tall:.1f}" '
            f'width="{0.84 * step:.1f}" height="{tall:.1f}"/></g>'
        )
    return (
        f'<figure class="strip"><figcaption>Milliseconds per {what}, at most {1000 * most:.0f}</figcaption>'
        f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none">{"".join(bars)}</svg></figure>'
    )


# --- the calls -------------------------------------------------------------------------------------


def _calls(request: Mapping[str, Any], calls: Sequence[Mapping[str, Any]], colour: Mapping[str, int]) -> str:
    total = max([request["seconds"], *(c["finished"] for c in calls)], default=0.0) or 1.0
    rows = []
    for c in calls:
        does = c["do"] if c["purpose"] == c["do"] else f"{c['do']} ({c['purpose']})"
        steps = ", ".join(f"{n:g} {step}" for step, n in c["steps"].items() if step != "forward_seconds")
        texts = " ".join(short(t, 160) for t in written(c))
        said = "; ".join(s for s in (steps, *c["retries"], c["error"], texts) if s)
        left, wide = 100 * c["queued"] / total, max(100 * (c["finished"] - c["queued"]) / total, 0.5)
        rows.append(
            f'<tr><td><i class="key c{colour[c["member"]]}"></i>{escape(member_of(c, request["ensemble"]))}</td>'
            f"<td>{escape(does)}</td><td class=num>{c['finished'] - c['queued']:.2f} s</td>"
            f'<td class="when"><i class="c{colour[c["member"]]}" style="left:{left:.1f}%;width:{wide:.1f}%"></i></td>'
            f"<td class=num>{c['usage']['prompt_tokens']}→{c['usage']['completion_tokens']}</td>"
            f"<td class=num>{dollars(c['usd'])}</td><td class=said>{escape(said)}</td></tr>"
        )
    heads = "".join(
        f"<th{' class=num' if h in ('time', 'tokens', 'USD') else ''}>{h}</th>"
        for h in ("member", "call", "time", "when", "tokens", "USD", "")
    )
    return (
        f'<section class="card"><h2>Calls</h2><div class="scroll"><table><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )
