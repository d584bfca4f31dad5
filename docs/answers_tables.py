"""The page of methods after inference on recorded answers and live, from results/after-*.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markdown_tables import NOTE, code, table

from septet.bench import standings
from septet.bench.results import decode

COLUMNS = (
    "method",
    "quality [95 %]",
    "− best single [95 %]",
    "− plurality [95 %]",
    "− oracle",
    "answers (judgements)",
    "USD per 1,000",
    "ΔIBC %",
    "area (of single members)",
    "ECE",
    "Brier",
    "quality of the surest 80 %",
    "ms",
)

_LEAD = (
    "`make bench-after-tables` replays every method on answers that others have recorded; nobody is asked but the"
    " encoder. A method is fitted on the train questions and reported on the test questions; one that learns without"
    " labels is fitted on the test questions' own answers, which the record of its row says. The best single member is"
    " chosen on train. Differences are paired, intervals are 95 % bootstraps over questions. A method whose defaults"
    " want more than is recorded, as five samples where there is one, is played in the nearest way that is, and its"
    " name says which. –: the set does not record what it asks. A text that is nobody's answer, as of a method that"
    " writes anew, can only be marked live: live/TASK is `septet bench after --config examples/configs/after.toml"
    " --task TASK` on two small real models, one pool of answers for all methods of a table. ms: milliseconds of"
    " computing per question, members, judges and encoder apart."
)


def answers_page(folder: Path) -> str:
    """All methods on all sets at a glance, then set by set."""
    files = sorted((folder / "results").glob("after-*.json"))
    records = [json.loads(f.read_text(encoding="utf-8")) for f in files]
    text = f"{NOTE}# Methods on complete answers, recorded and live\n\n{_LEAD}\n"
    if records:
        text += f"\n## At a glance\n\n{_glance(records, folder)}"
    for record in records:
        text += f"\n## {record['table']}\n\n{_told(record)}\n\n{_bounds(record)}\n"
        text += f"{_table(record, folder)}\n{_said(record)}{_missing(record)}"
    return text


def _glance(records: Sequence[Mapping[str, Any]], folder: Path) -> str:
    """Quality less that of the best single member; bold where the interval is above 0, struck through where below."""
    names = sorted({_name(r) for record in records for part in ("routers", "missing") for r in record[part]})
    rows = [(_link(name, folder), *(_cell(record, name) for record in records)) for name in names]
    told = (
        "Quality less that of the best single member, in points. Bold: the whole interval is above 0; struck through:"
        " below 0; –: not played, for the reason given with each set; empty: not measured. Of"
        " several variants the one that differs least from the defaults. Of so many intervals about"
        " one in forty lies above 0 by chance.\n\n"
    )
    singles = [f"{100 * decode(_bound(r, 'best single (train)')['quality']['value']):.1f}" for r in records]
    return told + table(("method", *(r["table"] for r in records)), [("(best single)", *singles), *rows])


def _name(row: Mapping[str, Any]) -> str:
    """A method's name without its parameters."""
    return str(row["method"]).partition(":")[0]


def _cell(record: Mapping[str, Any], name: str) -> str:
    rows = [r for r in record["routers"] if _name(r) == name]
    if not rows:
        return "–" if any(_name(m) == name for m in record["missing"]) else ""
    row = min(rows, key=lambda r: len(str(r.get("variant", ""))))
    found = row["minus_best_single"]
    shown = f"{100 * decode(found['value']):+.1f}".replace("-", "−")
    if decode(found["low"]) > 0:
        return f"**{shown}**"
    return f"~~{shown}~~" if decode(found["high"]) < 0 else shown


def _bound(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = next(b for b in record["bounds"] if b["name"] == name)
    return found


def _told(record: Mapping[str, Any]) -> str:
    """What a table was made from, in a paragraph."""
    notes = "".join(f" {note[0].upper()}{note[1:]}." for note in record["notes"])
    n = record["bounds"][0]["n_test"]
    members = ", ".join(record["members"])
    return f"{n} test questions of {record['questions']}; members: {members}. sha256 {record['sha256'][:12]}.{notes}"


def _bounds(record: Mapping[str, Any]) -> str:
    said = [
        f"{b['name']} {standings.number(b['quality'])}"
        for b in record["bounds"]
        if b["quality"]["low"] is not None
    ]
    return f"Bounds: {', '.join(said)}.\n"


def _table(record: Mapping[str, Any], folder: Path) -> str:
    rows = sorted(record["routers"], key=lambda r: (-decode(r["quality"]["value"]), r["method"]))
    return table(COLUMNS, [_row(r, folder) for r in rows])


def _row(r: Mapping[str, Any], folder: Path) -> tuple[str, ...]:
    m = r["metrics"]
    judged = f" ({decode(m['judgements']['value']):.2f})" if "judgements" in m else ""
    area = ""
    if "AIQ" in m:
        area = f"{standings.number(m['AIQ'])} ({standings.number(m.get('AIQ of the zero router'))})"
    return (
        _link(r["method"], folder) + (f" {code(r['variant'])}" if r["variant"] else ""),
        standings.estimate(r["quality"]),
        standings.signed(r["minus_best_single"]),
        standings.signed(m["− plurality"]),
        f"{decode(m['− oracle']['value']):+.3f}".replace("-", "−"),
        f"{decode(m['answers']['value']):.2f}{judged}",
        standings.per_1k(r["usd"]),
        f"{decode(m['ΔIBC %']['value']):+.0f}".replace("-", "−") if "ΔIBC %" in m else "",
        area,
        standings.number(m.get("ECE")),
        standings.number(m.get("Brier")),
        standings.number(m.get("quality at 80 %")),
        f"{1000 * decode(m['s/question']['value']):.1f}",
    )


def _said(record: Mapping[str, Any]) -> str:
    """Which methods beat the best single member, and which do not, as far as the intervals tell."""
    rows = record["routers"]
    better = [r for r in rows if decode(r["minus_best_single"]["low"]) > 0]
    worse = [r for r in rows if decode(r["minus_best_single"]["high"]) < 0]
    unclear = [r for r in rows if r not in better and r not in worse]
    parts = [
        f"Better than the best single member: {_names(better)}."
        if better
        else "None beats the best single member.",
        f"Not told apart from it: {_names(unclear)}." if unclear else "",
        f"Worse than it: {_names(worse)}." if worse else "",
    ]
    return " ".join(p for p in parts if p) + "\n"


def _missing(record: Mapping[str, Any]) -> str:
    by: dict[str, list[str]] = {}
    for m in record["missing"]:
        by.setdefault(m["missing"], []).append(m["method"])
    if not by:
        return ""
    said = "; ".join(f"{', '.join(map(code, names))}: {ask}" for ask, names in by.items())
    return f"\n– Not played, for want of what is not recorded or for the reason given: {said}.\n"


def _names(rows: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(code(r["method"]) for r in rows)


def _link(name: str, folder: Path) -> str:
    """A method, linked to its note where there is one; a variant that was asked for stands behind it."""
    method, _, variant = name.partition(":")
    linked = f"[{method}]({method}.md)" if (folder / f"{method}.md").exists() else method
    return f"{linked} {code(variant)}" if variant else linked
