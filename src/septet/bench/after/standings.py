"""How methods after inference stand: rows for a terminal, and a record per part, numbers without texts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from septet.bench import standings
from septet.bench.results import Results, decode

COLUMNS = (
    "set",
    "method",
    "n",
    "quality",
    "95 %",
    "− best single",
    "− plurality",
    "answers",
    "USD/1k",
    "ECE",
    "ΔIBC %",
    "ms/question",
)
"""The columns of `rows`."""

PREFIX = "after-"
"""Of the records' names."""


def rows(results: Results) -> list[tuple[str, ...]]:
    """One row per bound and per method, set by set: bounds as they come, methods by falling quality."""
    found: list[tuple[str, ...]] = []
    for table in _tables(results):
        for b in results["bounds"]:
            if b["table"] == table and "points" not in b:
                head = (table, f"({b['name']})", str(b["n_test"]), standings.number(b["quality"]))
                found.append(
                    (*head, standings.ends(b["quality"]), "", "", "", standings.per_1k(b["usd"]), "", "", "")
                )
        mine = [r for r in results["routers"] if r["table"] == table]
        found += [_row(r) for r in sorted(mine, key=lambda r: -decode(r["at_zero"]["quality"]["value"]))]
        lacking = [m["method"] for m in results.get("missing", []) if m["table"] == table]
        found += [(table, name, "", "–", *("",) * (len(COLUMNS) - 4)) for name in lacking]
    return found


def _tables(results: Results) -> list[str]:
    missing = [m["table"] for m in results.get("missing", [])]
    return list(dict.fromkeys([*standings.tables(results), *missing]))


def _row(r: Any) -> tuple[str, ...]:
    at, metrics = r["at_zero"], r["metrics"]
    lift = metrics.get("ΔIBC %")
    return (
        r["table"],
        standings.title(r),
        str(r["n_test"]),
        standings.number(at["quality"]),
        standings.ends(at["quality"]),
        standings.signed(at["minus_best_single"]),
        standings.signed(metrics["− plurality"]),
        f"{decode(metrics['answers']['value']):.2f}",
        standings.per_1k(at["usd"]),
        standings.number(metrics.get("ECE")),
        "" if lift is None else f"{decode(lift['value']):+.0f}",
        f"{1000 * decode(metrics['s/question']['value']):.2f}",
    )


def notes(results: Results) -> Iterator[str]:
    """What a reader has to know, of each set and method; last what was not played, and why."""
    yield from standings.notes(results)
    for m in results.get("missing", []):
        yield f"– {m['table']}, {m['method']}: not played: {m['missing']}"


# --- the record -------------------------------------------------------------------------------------


def save(results: Results, folder: Path, facts: Mapping[str, Mapping[str, Any]]) -> list[Path]:
    """Writes `after-<set>.json` for every part; `facts` by part: n of questions, sha256, notes.

    Rows that an earlier run measured on the same data stay; those measured again are replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for table in _tables(results):
        file = folder / f"{PREFIX}{table.replace('/', '-')}.json"
        new = record(results, table, facts[table])
        old = _earlier(file, new)
        for part in ("routers", "missing"):
            again = {r["method"] for r in (*new["routers"], *new["missing"])}
            kept = [r for r in old.get(part, []) if r["method"] not in again] + new[part]
            new[part] = sorted(kept, key=lambda r: (r["method"], r.get("variant", "")))
        unfinished = file.with_name(file.name + ".part")
        text = json.dumps(new, indent=1, ensure_ascii=False, sort_keys=True, allow_nan=False)
        unfinished.write_text(text + "\n", encoding="utf-8")
        os.replace(unfinished, file)
        written.append(file)
    return written


def record(results: Results, table: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers, n, seeds and hashes of one part; no questions and no answers. `method` is what was asked for."""
    made = standings.record(results, table, facts)
    rows = [r for r in results["routers"] if r["table"] == table]
    made["routers"] = [
        {**kept, "method": r["router"], "curve": r.get("curve")}
        for kept, r in zip(made["routers"], rows, strict=True)
    ]
    made["missing"] = [
        {"method": m["method"], "missing": m["missing"]}
        for m in results.get("missing", [])
        if m["table"] == table
    ]
    return made


def _earlier(file: Path, new: Mapping[str, Any]) -> Mapping[str, Sequence[Any]]:
    """The rows of an older record of the same data and form."""
    try:
        old = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    same = all(old.get(k) == new[k] for k in ("form", "sha256", "questions"))
    return old if same else {}
