"""The report of a run as one HTML file: curves, a ranking with bounds, picks, calibration, the worst regrets.

Nothing is fetched: style, script and charts stand in the file, and its policy forbids the browser to ask anybody.
All texts that come from data are escaped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import get_args

from septet.bench import charts
from septet.bench.metrics import MEANING
from septet.bench.results import Results, Span
from septet.bench.sections import Operating, Row, Section, sections

SHOWN = 8
"""Curves shown when the page opens, those of the best routers; the legend shows the others."""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
_SHAPES: tuple[charts.Shape, ...] = get_args(charts.Shape)


@dataclass(frozen=True)
class Words:
    """What is compared: the `title`, what each is called, `at` which setting it is shown, and what a `point` of its
    curve is."""

    title: str
    noun: str
    at: str
    point: str


ROUTERS = Words("Routers on recorded outcomes", "router", "at λ = 0", "price of cost λ")
METHODS = Words(
    "Methods on recorded answers", "method", "as it is", "setting of its threshold, budget or price of cost"
)


def page(results: Results, words: Words = ROUTERS) -> str:
    """The whole file."""
    found, title = sections(results), words.title
    parts = [_overview(found, words), *(_section(s, f"t{i}", words) for i, s in enumerate(found))]
    parts += [_missing(results), _failures(results)]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title>\n<style>\n{_asset('page.css')}{_toggles(found)}</style></head>\n"
        f"<body><header><h1>{escape(title)}</h1>{_facts(results, found, words.noun)}</header>\n"
        f"<main>{''.join(parts)}</main>\n{_footer()}\n<script>\n{_asset('page.js')}</script></body></html>\n"
    )


def _asset(name: str) -> str:
    return files("septet.bench").joinpath(name).read_text(encoding="utf-8")


def _toggles(found: Sequence[Section]) -> str:
    """Rules by which an unchecked box of a legend hides its curve, and hovering over one lifts it out."""
    rules = []
    for i, s in enumerate(found):
        for css in (f"t{i}s{j}" for j in range(len(s.routers))):
            rules.append(f".chart:has(#{css}:not(:checked)) .{css}{{display:none}}")
            rules.append(f".chart:has(label[for={css}]:hover) .curves .{css}{{opacity:1}}")
    return "\n".join(rules) + "\n"


# --- the head --------------------------------------------------------------------------------------


def _facts(results: Results, found: Sequence[Section], noun: str) -> str:
    routers = {(r["router"], r["variant"]) for r in results["routers"]}
    said = [
        *([results["made"]] if results["made"] else []),
        _many(len({s.table for s in found}), "table"),
        _many(len(routers), noun),
        *(f"{name} {version}" for name, version in results["packages"].items()),
    ]
    return _facts_line(said)


def _facts_line(said: Sequence[str]) -> str:
    return f'<p class="facts">{"".join(f"<span>{escape(s)}</span>" for s in said)}</p>'


def _many(n: int, what: str) -> str:
    return f"{n:,} {what}" + ("" if n == 1 else "s")


def _overview(found: Sequence[Section], words: Words) -> str:
    """One row per table: the router that did best on test, beside what it had to beat."""
    heads = (
        "table",
        "questions",
        "best single (train)",
        f"best {words.noun}",
        "quality",
        "− best single",
        "oracle",
    )
    rows = []
    for i, s in enumerate(found):
        top = next(iter(s.routers), None)
        if top is None:
            continue
        ceiling = next((b.quality.value for b in s.bounds if b.label == "oracle"), math.nan)
        single = s.best_single.quality.value if s.best_single else math.nan
        cells = [
            f'<td><a href="#t{i}">{escape(s.table)}</a> <small>{escape(s.split)}</small></td>',
            f"<td>{s.n_test:,}</td><td>{_number(single)}</td>",
            f'<td class="left">{escape(top.label)}</td>',
            f"<td>{_spanned(top.quality)}</td>{_difference(top.minus_best)}<td>{_number(ceiling)}</td>",
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    marked = "".join(f"<th{' class=left' if h == f'best {words.noun}' else ''}>{h}</th>" for h in heads)
    return (
        '<section class="card"><h3>At a glance</h3><p class="soft">'
        f"Every {words.noun} {words.at}. The best {words.noun} is chosen on the test questions, so it flatters itself"
        " a little; the ranking of each table shows all.</p>"
        f'<div class="scroll"><table><thead><tr>{marked}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _missing(results: Results) -> str:
    """What was not played on which table, and why."""
    rows = results.get("missing", [])
    if not rows:
        return ""
    items = "".join(
        f"<dt>{escape(m['table'])} · {escape(m['method'])}</dt><dd>{escape(m['missing'])}</dd>" for m in rows
    )
    return f'<section><h2>Not played</h2><div class="card"><dl>{items}</dl></div></section>'


def _failures(results: Results) -> str:
    failed = results.get("failed", [])
    if not failed:
        return ""
    items = "".join(f"<dt>{escape(f['job'])}</dt><dd>{escape(f['error'])}</dd>" for f in failed)
    return f'<section><h2>Failed</h2><div class="card"><dl>{items}</dl></div></section>'


def _footer() -> str:
    meanings = "".join(f"<dt>{escape(name)}</dt><dd>{escape(said)}</dd>" for name, said in MEANING.items())
    return (
        "<footer><p>Intervals are 95 % percentile bootstraps over test questions; differences are paired.</p>"
        f"<details><summary>What the metrics mean</summary><dl>{meanings}</dl></details></footer>"
    )


# --- a table ---------------------------------------------------------------------------------------


def _section(s: Section, anchor: str, words: Words) -> str:
    said = [
        f"{s.n_test:,} test questions",
        f"{s.n_train:,} to train on",
        f"split: {s.split}",
        *([f"data {s.data_sha256[:12]}"] if s.data_sha256 else []),
        *s.notes,
    ]
    parts = [
        _curves(s, anchor, words),
        _ranking(s, words),
        _picks(s, words),
        _calibration(s),
        _regrets(s, words),
    ]
    return f'<section id="{anchor}"><h2>{escape(s.table)}</h2>{_facts_line(said)}{"".join(parts)}</section>\n'


def _card(title: str, caption: str, body: str) -> str:
    return f'<figure class="card"><h3>{title}</h3><figcaption>{caption}</figcaption>{body}</figure>'


def _curves(s: Section, anchor: str, words: Words) -> str:
    if not s.priced:
        return _card("Cost and quality", "No cost is recorded for this table, so there is no curve.", "")
    ordered = sorted(s.routers, key=_by_area)
    lines = [
        charts.Series(f"{anchor}s{j}", j, tuple(_vertex(p, row.label) for p in row.points))
        for j, row in enumerate(ordered)
    ]
    bounds = [b for b in s.bounds if math.isfinite(b.usd.value)]
    bounds.sort(
        key=lambda b: (b is not s.best_single, b.label)
    )  # so that a bound has one shape on all tables
    shapes = {b.label: _SHAPES[i % len(_SHAPES)] for i, b in enumerate(bounds)}
    single = s.best_single
    drawn = charts.cost_quality(
        lines[::-1],  # the best on top
        _marks(bounds, shapes),
        line=[_vertex(p, s.mixtures.label) for p in s.mixtures.points] if s.mixtures else (),
        level=(single.quality.value, single.label) if single else None,
        money=money,
    )
    boxes = "".join(
        f'<label for="{anchor}s{j}" title="{escape(row.label)}">'
        f'<input type="checkbox" id="{anchor}s{j}"{" checked" if j < SHOWN else ""}>'
        f'{charts.sample(j)}<span class="name">{escape(row.label)}</span></label>'
        for j, row in enumerate(ordered)
    )
    keys = "".join(
        f'<div class="entry" title="{escape(b.convention)}">{charts.sample(0, shapes[b.label])}'
        f'<span class="name">{escape(b.label)}</span></div>'
        for b in bounds
    )
    if s.mixtures:
        dash = '<svg class="sample zero" viewBox="0 0 24 10"><path d="M1 5H23"/></svg>'
        keys += f'<div class="entry" title="{escape(s.mixtures.convention)}">{dash}{escape(s.mixtures.label)}</div>'
    caption = (
        f"Each point is one {words.point}; the larger dot is the {words.noun} {words.at}. Hover for numbers, and over"
        f" a curve for its interval. The boxes show and hide curves; those of the best {words.noun}s are on."
    )
    legend = f'<div class="legend">{boxes}<hr>{keys}</div>'
    return _card("Cost and quality", caption, f'<div class="chart"><div>{drawn}</div>{legend}</div>')


def _by_area(row: Row) -> tuple[bool, float]:
    """Largest AIQ first, or largest quality where there is none."""
    area = row.metrics.get("AIQ", Span()).value
    value = row.quality.value if math.isnan(area) else area
    return math.isnan(value), -value


def _vertex(p: Operating, label: str) -> charts.Vertex:
    at = "" if math.isnan(p.prefer) else f" · λ = {'∞' if math.isinf(p.prefer) else f'{p.prefer:.3g}'}"
    cost = Span(*(1000 * v for v in (p.usd.value, p.usd.low, p.usd.high)))
    said = f"{label}{at}\nquality {_plain(p.quality)}\n{money(cost.value)} per 1,000 questions"
    return charts.Vertex(cost, p.quality, said)


def _marks(bounds: Sequence[Row], shapes: Mapping[str, charts.Shape]) -> list[charts.Mark]:
    """Bounds as marks; those at one place, as when train and test choose one member, are one mark."""
    places: dict[tuple[str, str], list[Row]] = {}
    for b in bounds:
        places.setdefault((f"{b.quality.value:.6g}", f"{b.usd.value:.6g}"), []).append(b)
    return [
        charts.Mark(
            "bound-mark",
            shapes[same[0].label],
            _vertex(Operating(math.nan, same[0].quality, same[0].usd), " = ".join(b.label for b in same)),
        )
        for same in places.values()
    ]


# --- the ranking -----------------------------------------------------------------------------------


def _ranking(s: Section, words: Words) -> str:
    names = [m for m in MEANING if any(m in r.metrics for r in s.routers)]
    names += sorted({m for r in s.routers for m in r.metrics} - set(names))
    timed = any(math.isfinite(r.seconds_fit) for r in s.routers)
    against = any(math.isfinite(r.minus_reference.value) for r in s.routers)
    heads = [
        f"<th>{words.noun} or bound</th>",
        _head("quality", f"mean over test questions, each {words.noun} {words.at}, with its 95 % interval"),
        "<th></th>",
        _head("− best single", "quality less that of the single member chosen on train; paired"),
        *(
            [_head("− kNN", "quality less that of the reference kNN of the data set; paired")]
            if against
            else []
        ),
        *(
            [_head("USD / 1,000", f"mean cost of 1,000 questions, each {words.noun} {words.at}")]
            if s.priced
            else []
        ),
        *(_head(m, MEANING.get(m, "")) for m in names),
        *([_head("fit s", "seconds"), _head("predict s", "seconds for all test questions")] if timed else []),
    ]
    single = s.best_single.quality.value if s.best_single else math.nan
    ends = [v for r in s.rows for v in (r.quality.value, r.quality.low, r.quality.high)]
    scale = charts.Scale.over([*ends, single], 4, 146)
    rows = []
    for r in s.rows:
        cells = [
            f"<td>{_who(r)}</td>",
            f'<td data-v="{_raw(r.quality.value)}">{_spanned(r.quality)}</td>',
            f"<td>{charts.interval_bar(r.quality, scale, single, strong=not r.bound)}</td>",
            _difference(r.minus_best),
            *([_difference(r.minus_reference)] if against else []),
            *([_cell(1000 * r.usd.value, money(1000 * r.usd.value))] if s.priced else []),
            *(_metric(r.metrics.get(m, Span())) for m in names),
            *([_cell(v, _seconds(v)) for v in (r.seconds_fit, r.seconds_predict)] if timed else []),
        ]
        rows.append(f"<tr{' class=bound' if r.bound else ''}>{''.join(cells)}</tr>")
    caption = (
        "Best quality first; click a heading to sort. The dotted line is the best single member on train. Green: "
        "the whole interval of the difference is above 0; red: below. Bounds are in italics."
    )
    table = f'<table class="ranking"><thead><tr>{"".join(heads)}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    return _card("Ranking", caption, f'<div class="scroll">{table}</div>')


def _head(name: str, meaning: str) -> str:
    return f'<th data-sort title="{escape(meaning)}">{escape(name)}</th>'


def _who(r: Row) -> str:
    if r.bound:
        return f'<span title="{escape(r.convention)}">{escape(r.label)}</span>'
    told = ", ".join(f"{k} = {v}" for k, v in r.parameters.items()) or "defaults"
    notes = "".join(f'<span class="note">{escape(n)}</span>' for n in r.notes)
    return f'<span title="{escape(told)}">{escape(r.label)}</span>{notes}'


def _cell(value: float, text: str) -> str:
    return f'<td data-v="{_raw(value)}">{text}</td>'


def _metric(found: Span) -> str:
    return _cell(found.value, _spanned(found))


def _difference(found: Span) -> str:
    kind = "good" if found.low > 0 else "bad" if found.high < 0 else ""
    text = _spanned(found, sign="+")
    return f'<td class="{kind}" data-v="{_raw(found.value)}">{text}</td>'


# --- picks, calibration, regrets -------------------------------------------------------------------


def _picks(s: Section, words: Words) -> str:
    """Bars of pick shares; the members asked most have colours, the rest is grey."""
    rows = [r for r in s.rows if r.picks]
    total: dict[str, float] = {}
    for r in rows:
        for member, share in r.picks:
            total[member] = total.get(member, 0.0) + share
    named = sorted(total, key=lambda m: -total[m])[: charts.N_COLOURS]
    colour = {m: i for i, m in enumerate(named)}
    keys = "".join(f'<span><i class="key c{i}"></i>{escape(m)}</span>' for m, i in colour.items())
    if rest := len(total) - len(named):
        keys += f'<span><i class="key rest"></i>{_many(rest, "other")}</span>'
    bars = "".join(
        f'<div class="{"bound" if r.bound else "router"}">{escape(r.label)}</div>{charts.shares(_parts(r, colour))}'
        for r in rows
    )
    caption = (
        f"Share of the test questions that each member gets, each {words.noun} {words.at}. Hover for numbers."
    )
    return _card("Picks", caption, f'<div class="keys">{keys}</div><div class="picks">{bars}</div>')


def _parts(r: Row, colour: Mapping[str, int]) -> list[tuple[str, float, int | None]]:
    parts = [(m, p, colour.get(m)) for m, p in r.picks]
    return sorted(parts, key=lambda part: (part[2] is None, part[2] or 0))


def _calibration(s: Section) -> str:
    shown = [r for r in s.routers if r.calibration]
    if not shown:
        return ""
    figures = "".join(
        f'<figure><div class="name" title="{escape(r.label)}">{escape(r.label)}</div>'
        f"{charts.reliability([(b['predicted'], b['observed'], b['count']) for b in r.calibration])}"
        f'<div class="soft">{_errors(r)}</div></figure>'
        for r in shown
    )
    caption = (
        "Observed quality (upwards) against predicted (to the right), over all members and test questions, in ten "
        "bins; a dot's area is the number of answers in it. On the diagonal a prediction means what it says."
    )
    return _card("Calibration", caption, f'<div class="grid">{figures}</div>')


def _errors(r: Row) -> str:
    known = [(m, r.metrics[m].value) for m in ("ECE", "Brier", "AUC") if m in r.metrics]
    return " · ".join(f"{m} {_number(v)}" for m, v in known)


def _regrets(s: Section, words: Words) -> str:
    shown = [r for r in s.routers if r.regrets]
    if not shown:
        return ""
    names = ("question", "task", "asked", "score", "best", "score")
    heads = "".join(f"<th{'' if n == 'score' else ' class=left'}>{n}</th>" for n in names)
    parts = []
    for r in shown:
        rows = "".join(
            f"<tr><td>{escape(g['question']) or '<i>text not kept</i>'}</td><td class=left>{escape(g['task'])}</td>"
            f"<td class=left>{escape(g['chosen'])}</td><td>{_number(g['score_chosen'])}</td>"
            f"<td class=left>{escape(g['best'])}</td><td>{_number(g['score_best'])}</td></tr>"
            for g in r.regrets
        )
        mean = r.metrics.get("regret", Span()).value
        told = "" if math.isnan(mean) else f' <span class="soft">mean regret {_number(mean)}</span>'
        parts.append(
            f"<details><summary>{escape(r.label)}{told}</summary>"
            f'<div class="scroll"><table class="regrets"><thead><tr>{heads}</tr></thead>'
            f"<tbody>{rows}</tbody></table></div>"
            "</details>"
        )
    caption = (
        f"Questions on which the chosen member did worst beside the best one, each {words.noun} {words.at}."
    )
    return _card("Worst regrets", caption, "".join(parts))


# --- numbers ---------------------------------------------------------------------------------------


def money(usd: float) -> str:
    """An amount to three digits.

    >>> money(0.02634), money(5.0), money(1234.5), money(math.nan)
    ('$0.0263', '$5', '$1,234', '—')
    """
    if not math.isfinite(usd):
        return _number(usd)
    if usd >= 1000 or usd == 0:
        return f"${usd:,.0f}"
    digits = max(0, 2 - math.floor(math.log10(abs(usd))))
    text = f"{usd:.{digits}f}"
    return "$" + (text.rstrip("0").rstrip(".") if "." in text else text)


def _number(x: float, sign: str = "") -> str:
    if math.isnan(x):
        return "—"
    if math.isinf(x):
        return "∞" if x > 0 else "−∞"
    return f"{x:{sign}.3f}".replace("-", "−")


def _seconds(x: float) -> str:
    return "—" if math.isnan(x) else f"{x:.3g}"


def _raw(x: float) -> str:
    """A number for sorting; "" where unknown."""
    return "" if math.isnan(x) else str(x).replace("inf", "Infinity")


def _spanned(found: Span, sign: str = "") -> str:
    """A value, and its interval in small print."""
    if math.isnan(found.low) or math.isnan(found.high):
        return _number(found.value, sign)
    ends = f"[{_number(found.low, sign)}, {_number(found.high, sign)}]"
    return f"{_number(found.value, sign)} <small>{ends}</small>"


def _plain(found: Span) -> str:
    if math.isnan(found.low) or math.isnan(found.high):
        return _number(found.value)
    return f"{_number(found.value)} [{_number(found.low)}, {_number(found.high)}]"
