"""The page of what methods that decode together came to on the two real models, from results/decoding-*.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markdown_tables import NOTE, code, table

SECTIONS: Mapping[str, tuple[str, str]] = {
    "options": (
        "Multiple choice by score",
        "The likeliest option per byte after `Question: …\\nAnswer:`, through the token loop's score; methods whose"
        " fused distribution covers all strings.",
    ),
    "short": (
        "Multiple choice by a short answer",
        "The same questions, but a letter or an option has to be written (16 tokens); methods that score only one"
        " path, or nothing.",
    ),
    "spans": (
        "Short answers and translation",
        "TriviaQA by exact match with an alias, FLORES German to English by chrF.",
    ),
    "steps": ("Grade-school arithmetic in steps", "GSM8K, the number that the answer ends in."),
}
"""Kind of record → its heading and what was done."""

COLUMNS = ("", "method", "n", "score [95 %]", "− best member [95 %]", "failed")


def decoding_page(folder: Path) -> str:
    """Sections in their order; of each the tables that there are records of."""
    text = f"{NOTE}# Decoding together, measured\n\n{_LEAD}\n"
    for kind, (heading, told) in SECTIONS.items():
        files = sorted((folder / "results").glob(f"decoding-{kind}*.json"))
        if files:
            text += f"\n## {heading}\n\n{told}\n"
            for record in _by_task([json.loads(f.read_text(encoding="utf-8")) for f in files]):
                text += f"\n{_table(record)}"
    return text


_LEAD = (
    "SmolLM2-135M-Instruct Q4_1 and Gemma 3 270M Q4_K_M, as [the example](../../examples/configs/during.toml) has them."
    " The best member is the one that scores best on these very questions, which favours it. Differences are paired by"
    " question, intervals from 2,000 resamples of questions; shares have Wilson intervals. The oracle takes the best"
    " member's score on each question."
)


def _by_task(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One record per task, of all its runs; a member that was asked in several stands once."""
    found: dict[str, dict[str, Any]] = {}
    for record in records:
        for task in record["tasks"]:
            one = found.setdefault(task["name"], {"task": task, "rows": {}})
            for row in record["measured"]:
                if row["task"] == task["name"]:
                    one["rows"].setdefault(row.get("ensemble") or row["name"], row)
    return list(found.values())


def _table(record: Mapping[str, Any]) -> str:
    task, rows = record["task"], list(record["rows"].values())
    members = [r for r in rows if r["minus_best"] is None]
    ensembles = sorted(
        (r for r in rows if r["minus_best"] is not None), key=lambda r: -r["accuracy"]["value"]
    )
    shown = [_row(r) for r in members]
    if "oracle" in task:
        shown.append(("(oracle of members)", "", str(task["oracle"]["n"]), _estimate(task["oracle"]), "", ""))
    shown += [_row(r) for r in ensembles]
    data = f"Data {task['data']}, {task['licence']}."
    return f"### {task['name']}\n\n{table(COLUMNS, shown)}\n{_said(ensembles)} {data}\n"


def _row(row: Mapping[str, Any]) -> tuple[str, ...]:
    name = row.get("ensemble") or row["name"]
    minus = "" if row["minus_best"] is None else _estimate(row["minus_best"], signed=True)
    method = "" if row["minus_best"] is None else f"[{row['method']}]({row['method']}.md)"
    share = row["accuracy"]
    return (code(name), method, str(share["n"]), _estimate(share), minus, str(row["failed"] or ""))


def _said(ensembles: Sequence[Mapping[str, Any]]) -> str:
    """Where ensembles win, and where they lose, as far as the intervals tell."""
    better = [r for r in ensembles if r["minus_best"]["low"] > 0]
    worse = [r for r in ensembles if r["minus_best"]["high"] < 0]
    unclear = len(ensembles) - len(better) - len(worse)
    parts = [
        f"{_names(better)} {'is' if len(better) == 1 else 'are'} better than the best member"
        if better
        else "",
        f"{_names(worse)} {'is' if len(worse) == 1 else 'are'} worse" if worse else "",
        f"of {unclear} the interval holds 0" if unclear else "",
    ]
    said = "; ".join(p for p in parts if p)
    return f"{said[0].upper()}{said[1:]}." if said else ""


def _names(rows: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(code(r.get("ensemble") or r["name"]) for r in rows)


def _estimate(e: Mapping[str, float], *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    return f"{e['value']:{sign}.3f} [{e['low']:{sign}.3f}, {e['high']:{sign}.3f}]"
