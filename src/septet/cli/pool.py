"""`septet pool`: which members go together, before an ensemble is made of them."""

from __future__ import annotations

import json as json_
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from septet.bench.advice import GAP, LONGER, STYLE, Advice, Limits, Pair, Seen, of_record, of_table
from septet.bench.tables import read
from septet.cli._options import AsJson
from septet.cli._terminal import new_table, print_json, print_table, waiting
from septet.core.errors import BadParameter, ConfigError, UnknownName
from septet.core.table import Table

SUBVERBS: Mapping[str, str] = {
    "advise": "Say which members may decode together: alike in quality, length and form of their answers.",
}

SEED = 0
"""Of the intervals' resampling: the same file gives the same numbers."""


def pool(name: Annotated[str, typer.Argument(metavar="[VERB]", help="One of the verbs below.")] = "") -> None:
    """Says which verbs there are."""
    if name:
        raise UnknownName("verb of pool", name, SUBVERBS)
    print("\n".join(f"septet pool {verb:<9}{sentence}" for verb, sentence in SUBVERBS.items()))


def advise(
    data: Annotated[
        Path | None, typer.Option("--data", "-d", help="Recorded outcomes: .jsonl, .parquet or a folder.")
    ] = None,
    record: Annotated[
        Path | None, typer.Option("--record", help="Instead: the file of septet bench --save.")
    ] = None,
    model: Annotated[
        list[str], typer.Option("--model", "-m", help="Only these models; may be repeated.")
    ] = [],  # noqa: B006  # typer reads the default and never changes it
    task: Annotated[list[str], typer.Option("--task", "-t", help="Only these tasks; may be repeated.")] = [],  # noqa: B006
    gap: Annotated[float, typer.Option(min=0, max=1, help="The largest difference in score.")] = GAP,
    longer: Annotated[float, typer.Option(min=1, help="The largest ratio of lengths.")] = LONGER,
    style: Annotated[
        float, typer.Option(min=0, max=1, help="The largest share of answers that differ in form.")
    ] = STYLE,
    json: AsJson = False,
) -> None:
    """Prints the members, each pair with its reason, and the pool."""
    if (data is None) == (record is None):
        raise ConfigError("say where the outcomes are: either --data FILE or --record FILE")
    limits = Limits(gap, longer, style)
    file = data or record
    assert file is not None
    with waiting(f"reading {file.name} …"):
        if data is not None:
            table = _only(read(data), model, task)
            found = of_table(table, limits, np.random.default_rng(SEED))
        else:
            found = of_record(_only_measured(_read(file), model, task), limits)
    if not found.pairs:
        rule = "must hold two models, each asked on its own, with scores on one task"
        raise BadParameter(str(file), sorted({s.member for s in found.seen}), rule)
    if json:
        print_json({"file": str(file), "limits": asdict(limits), **_as_json(found)})
    else:
        _print(found)


# --- what is read ------------------------------------------------------------------------------------------


def _only(table: Table, models: list[str], tasks: list[str]) -> Table:
    for name in models:
        if name not in table.members:
            raise UnknownName("model", name, table.members)
    for name in tasks:
        if name not in table.tasks:
            raise UnknownName("task", name, sorted(set(table.tasks)))
    if models:
        table = table.of_members(list(dict.fromkeys(models)))
    return table.of_queries(np.isin(table.tasks, tasks)) if tasks else table


def _read(file: Path) -> Any:
    try:
        return json_.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from None
    except ValueError:
        raise BadParameter(str(file), file.name, "must be a record of septet bench --save") from None


def _only_measured(record: Any, models: list[str], tasks: list[str]) -> Any:
    if not isinstance(record, dict) or not isinstance(record.get("measured"), list):
        raise BadParameter("record", type(record).__name__, "must be a record of septet bench --save")
    measured = [m for m in record["measured"] if isinstance(m, dict)]
    for kind, names, key in (("model", models, "ensemble"), ("task", tasks, "task")):
        known = sorted({str(m.get(key)) for m in measured})
        for name in names:
            if name not in known:
                raise UnknownName(kind, name, known)
        measured = [m for m in measured if not names or m.get(key) in names]
    return {**record, "measured": measured}


# --- what is shown -----------------------------------------------------------------------------------------


def _as_json(found: Advice) -> dict[str, Any]:
    return {
        "members": [asdict(s) for s in found.seen],
        "pairs": [{**asdict(p), "fits": p.fits} for p in found.pairs],
        "pool": list(found.pool),
    }


def _print(found: Advice) -> None:
    table = new_table("task", "model", "n", "score", "length", "one word", "one line", "more")
    for s in sorted(found.seen, key=lambda s: (s.task, -s.score, s.member)):
        table.add_row(s.task or "–", s.member, str(s.n), f"{s.score:.3f}", _length(s), *_forms(s))
    print_table(table)
    print()
    table = new_table("task", "pair", "gap", "95 % interval", "longer", "form", "together")
    for p in found.pairs:
        gap = f"{p.gap.value:.3f}", f"{p.gap.low:.3f} – {p.gap.high:.3f}"
        table.add_row(p.task or "–", f"{p.a}, {p.b}", *gap, _times(p), _share(p.style), _said(p))
    print_table(table)
    print()
    if len(found.pool) > 1:
        print(f"together: {', '.join(found.pool)}")
    else:
        print(f"no other member goes with the best one, {found.pool[0]}")


def _length(s: Seen) -> str:
    return "–" if s.length is None else f"{s.length:.0f} {s.unit}"


def _forms(s: Seen) -> tuple[str, ...]:
    return ("–",) * 3 if s.shares is None else tuple(f"{x:.0%}" for x in s.shares)


def _times(p: Pair) -> str:
    return "–" if p.longer is None else f"{p.longer:.2f}×"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def _said(p: Pair) -> str:
    """The decision, and what speaks against it or is not known."""
    said = "no: " + "; ".join(p.reasons) if p.reasons else "yes"
    notes = ["the gap may be on either side of the limit"] if p.unsure else []
    notes += [f"{name} not known" for name, v in (("length", p.longer), ("form", p.style)) if v is None]
    return said + (f" ({'; '.join(notes)})" if notes else "")
