"""How routers stand: rows for a terminal, and a record per table, numbers without texts, from which docs are made."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from septet.bench.results import BoundResult, Interval, Results, RouterResult, decode

COLUMNS = ("table", "router", "n", "quality", "95 %", "USD/1k", "− best single", "− kNN", "AIQ", "QNC")
"""The columns of `rows`. Quality and cost are those at λ = 0; AIQ and QNC are over the sweep of λ."""

FORM = 1
"""Of the record; a change of its keys raises it."""


def rows(results: Results) -> list[tuple[str, ...]]:
    """One row per bound and per router, table by table, under `COLUMNS`; the routers by falling quality."""
    found = []
    for table in tables(results):
        found += [_bound_row(b) for b in results["bounds"] if b["table"] == table]
        mine = [r for r in results["routers"] if r["table"] == table]
        mine.sort(key=lambda r: -decode(r["at_zero"]["quality"]["value"]))
        found += [_router_row(r) for r in mine]
    return found


def tables(results: Results) -> list[str]:
    """The names of the tables, as they come."""
    return list(
        dict.fromkeys([b["table"] for b in results["bounds"]] + [r["table"] for r in results["routers"]])
    )


def notes(results: Results) -> Iterator[str]:
    """What a reader has to know: once per table what holds for all its routers, then what is one router's own."""
    conventions = {b["name"]: b["convention"] for b in results["bounds"]}
    yield from (f"({name}): {told}" for name, told in conventions.items())
    for table in tables(results):
        mine = [r for r in results["routers"] if r["table"] == table]
        said = {title(r): r.get("note", "").split("; ") for r in mine}
        common = [s for s in next(iter(said.values()), []) if all(s in parts for parts in said.values())]
        if common:
            yield f"{table}: {'; '.join(common)}"
        for name, parts in said.items():
            if own := [s for s in parts if s not in common]:
                yield f"{table}, {name}: {'; '.join(own)}"


def title(result: RouterResult) -> str:
    """A router with its variant.

    >>> title({"router": "eagle", "variant": "k=16"})
    'eagle:k=16'
    """
    return ":".join(filter(None, (result["router"], result["variant"])))


def _bound_row(b: BoundResult) -> tuple[str, ...]:
    """A bound that is a curve has no quality of its own, but an area under it."""
    head = (b["table"], f"({b['name']})", str(b["n_test"]))
    if "points" in b:
        return (*head, "", "", "", "", "", number(b["quality"]), "")
    return (*head, number(b["quality"]), ends(b["quality"]), per_1k(b["usd"]), "", "", "", "")


def _router_row(r: RouterResult) -> tuple[str, ...]:
    at, metrics = r["at_zero"], r["metrics"]
    return (
        r["table"],
        title(r),
        str(r["n_test"]),
        number(at["quality"]),
        ends(at["quality"]),
        per_1k(at["usd"]),
        signed(at["minus_best_single"]),
        signed(at["minus_reference"]),
        number(metrics.get("AIQ")),
        number(metrics.get("QNC")),
    )


def number(x: Interval | None) -> str:
    """A value to three decimals; nothing where it is unknown.

    >>> number({"value": 0.25, "low": None, "high": None}), number(None)
    ('0.250', '')
    """
    return "" if x is None or x["value"] is None else f"{decode(x['value']):.3f}".replace("inf", "∞")


def ends(x: Interval) -> str:
    """The two ends of an interval."""
    return (
        "" if x["low"] is None or x["high"] is None else f"{decode(x['low']):.3f} – {decode(x['high']):.3f}"
    )


def estimate(x: Mapping[str, Any], form: str = ".3f") -> str:
    """A value, with its interval where it has one.

    >>> estimate({"value": 0.25, "low": 0.2, "high": 0.3}), estimate({"value": None, "low": None, "high": None})
    ('0.250 [0.200, 0.300]', '')
    """
    if x["value"] is None:
        return ""
    value, low, high = (format(decode(x[k]), form).replace("inf", "∞") for k in ("value", "low", "high"))
    return value if x["low"] is None else f"{value} [{low}, {high}]"


def signed(x: Interval | None) -> str:
    """A difference with its interval.

    >>> signed({"value": 0.01, "low": -0.002, "high": 0.022})
    '+0.010 [−0.002, +0.022]'
    """
    if x is None or x["value"] is None:
        return ""
    value, low, high = (f"{decode(x[k]):+.3f}".replace("-", "−") for k in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def per_1k(x: Interval) -> str:
    """USD per 1,000 questions, to three digits."""
    return "" if x["value"] is None else f"{1000 * decode(x['value']):.3g}"


# --- the record ---------------------------------------------------------------------------------------


def save(results: Results, folder: Path, facts: Mapping[str, Mapping[str, Any]]) -> list[Path]:
    """Writes `routers-<table>.json` for every table; `facts` by table: n of questions, sha256, notes.

    Rows of routers that an earlier run measured on the same data and split stay; those measured again are replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for table in tables(results):
        file = folder / f"routers-{table}.json"
        new = record(results, table, facts[table])
        old = _earlier(file, new)
        kept = {_row_key(r): r for r in old} | {_row_key(r): r for r in new["routers"]}
        new["routers"] = [kept[key] for key in sorted(kept)]
        unfinished = file.with_name(file.name + ".part")
        text = json.dumps(new, indent=1, ensure_ascii=False, sort_keys=True, allow_nan=False)
        unfinished.write_text(text + "\n", encoding="utf-8")
        os.replace(unfinished, file)
        written.append(file)
    return written


def record(results: Results, table: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers, n, seeds and hashes of one table; no questions and no answers."""
    mine = [r for r in results["routers"] if r["table"] == table]
    return {
        "form": FORM,
        "made": results["made"],
        "packages": results["packages"],
        "table": table,
        **facts,
        "bounds": [
            {k: b[k] for k in ("name", "convention", "split", "n_test", "quality", "usd")}
            for b in results["bounds"]
            if b["table"] == table
        ],
        "routers": [
            {k: dict(r)[k] for k in _KEPT} | dict(r["at_zero"]) | {"note": r.get("note", "")} for r in mine
        ],
    }


_KEPT = (
    "router",
    "variant",
    "parameters",
    "seed",
    "split",
    "n_train",
    "n_test",
    "metrics",
    "seconds_fit",
    "seconds_predict",
)


def _row_key(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["split"], row["router"], row["variant"]


def _earlier(file: Path, new: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The rows of an older record of the same data; their split must be that of the bounds that stand beside them."""
    try:
        old = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return []
    if (old.get("form"), old.get("sha256")) != (FORM, new["sha256"]):
        return []
    held = {b["split"] for b in new["bounds"]}
    return [row for row in old["routers"] if row["split"] in held]
