"""What is wrong with a table of outcomes, before anything is fitted on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from septet.bench.tables import Source, open_parquet, read_source
from septet.core.errors import ConfigError, MissingExtra
from septet.core.money import Price
from septet.core.table import IN_FILES, Table
from septet.core.types import Battle, Floats

PLAUSIBLE = (1e-4, 2e3)
"""USD per million tokens: list prices lie between about .01 and 600, free models (0) aside."""

UNITS: Mapping[int, str] = {
    6: "tokens × price was not divided by a million",
    3: "a price per million tokens was read as one per thousand",
    -3: "a price per thousand tokens was read as one per million",
    -6: "a price per token was read as one per million",
}
"""What a cost is taken for that is ten to this power times the expected one."""

_LOOKED_AT = 2000
"""Rows of a member by which the unit of its cost is judged."""

_CHARACTERS = 4
"""Of one token, where tokens were not counted; within a factor of three, which a wrong unit exceeds."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: an error forbids a fit, a warning is to be known. `place` names row or column."""

    level: Literal["error", "warning"]
    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.level}: {self.place}: {self.message}"


def check(
    path: Path, *, models: Sequence[str] = (), prices: Mapping[str, Price] | None = None
) -> list[Problem]:
    """What is wrong with a file or folder; nothing where it is sound.

    `models`: the only names that may occur, and those that must. `prices` of the models, by name; without
    them those of models.parquet where the folder has one.
    """
    try:
        source = read_source(path)
        stated = prices if prices is not None else prices_of(path)
    except MissingExtra:
        raise
    except ConfigError as error:
        return [Problem("error", getattr(error, "parameter", path.name), str(error))]
    return problems(source, models=models, prices=stated)


def problems(
    source: Source, *, models: Sequence[str] = (), prices: Mapping[str, Price] | None = None
) -> list[Problem]:
    """What is wrong with what was read."""
    if source.table is None:
        return list(_battles(source.battles, models))
    table = source.table
    if not len(table):
        return [Problem("error", source.name, "holds no outcomes")]
    found = [
        *_names(table, models),
        *_scores(table),
        *_ranges(table),
        *_costs(table, source.columns),
        *_duplicates(table),
        *_splits(table),
        *_units(table, prices or {}),
    ]
    return sorted(found, key=lambda problem: problem.level)


def row_name(table: Table, row: int) -> str:
    """How a message names a row.

    >>> row_name(Table.of([{"query_id": "q7", "model": "ada"}]), 0)
    'row 1 (q7, ada)'
    """
    return f"row {row + 1} ({table.queries[table.query[row]]}, {table.members[table.member[row]]})"


def _first(table: Table, column: str, wrong: NDArray[np.bool_], rule: str) -> Iterator[Problem]:
    """One problem for all wrong rows of a column, with the first of them."""
    rows = np.flatnonzero(wrong)
    if len(rows):
        value = float(table.numbers[column][rows[0]])
        more = f", and so {len(rows) - 1} more" if len(rows) > 1 else ""
        place = IN_FILES.get(column, column)
        yield Problem("error", place, f"{rule}; {row_name(table, int(rows[0]))} has {value:g}{more}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _names(table: Table, models: Sequence[str]) -> Iterator[Problem]:
    if models:
        if unknown := [m for m in table.members if m not in models]:
            rows = np.flatnonzero(table.member == table.members.index(unknown[0]))
            said = f"{_listed(unknown)} is not among {_listed(models)}; first in row {int(rows[0]) + 1}"
            yield Problem("error", "model", said)
        if absent := [m for m in models if m not in table.members]:
            yield Problem("error", "model", f"{_listed(absent)} never occurs")
    scored = np.bincount(table.member[~np.isnan(table.score)], minlength=len(table.members))
    if scored.any() and (never := [m for m, n in zip(table.members, scored, strict=True) if not n]):
        yield Problem("error", "model", f"{_listed(never)} has no score in any row")


def _scores(table: Table) -> Iterator[Problem]:
    score = table.score
    known = score[~np.isnan(score)]
    if not len(known):
        yield Problem("error", "score", "no row has one")
        return
    yield from _first(table, "score", (score < 0) | (score > 1), "must be from 0 to 1")
    if known.min() == known.max():
        yield Problem("error", "score", f"has one class only: it is {known[0]:g} in all {len(known)} rows")
        return
    low, high = np.full(len(table.members), np.inf), np.full(len(table.members), -np.inf)
    of = table.member[~np.isnan(score)]
    np.minimum.at(low, of, known)
    np.maximum.at(high, of, known)
    for i in np.flatnonzero((low == high) & (np.bincount(of, minlength=len(low)) > 1)).tolist():
        said = f"{table.members[i]} has one class only: it is {low[i]:g} in all its rows"
        yield Problem("warning", "score", said)


def _ranges(table: Table) -> Iterator[Problem]:
    for name in ("prompt_tokens", "completion_tokens", "seconds"):
        values = table.numbers[name]
        yield from _first(table, name, (values < 0) | np.isinf(values), "must be finite and not negative")
    confidence, logp, p = table.confidence, table.logp, table.propensity
    yield from _first(table, "confidence", (confidence < 0) | (confidence > 1), "must be from 0 to 1")
    yield from _first(table, "logp", logp > 0, "must not be above 0, being the logarithm of a probability")
    yield from _first(table, "propensity", (p <= 0) | (p > 1), "must be above 0 and at most 1")


def _costs(table: Table, columns: Sequence[str]) -> Iterator[Problem]:
    usd = table.usd
    unknown = np.isnan(usd)
    yield from _first(table, "usd", (usd < 0) | np.isinf(usd), "must be finite and not negative")
    if unknown.all():
        if "cost_usd" in columns:
            yield Problem("error", "cost_usd", "is a column of the file and has no value in any row")
    elif unknown.any():
        row = row_name(table, int(np.flatnonzero(unknown)[0]))
        share = f"{unknown.mean():.1%} of the rows"
        yield Problem("warning", "cost_usd", f"is missing in {share}, first in {row}")


def _duplicates(table: Table) -> Iterator[Problem]:
    cell = table.query.astype(np.int64) * len(table.members) + table.member
    width = int(table.sample.max()) - int(table.sample.min()) + 1
    key = cell * width + (table.sample - int(table.sample.min()))
    order = np.argsort(key, kind="stable")
    again = order[1:][key[order[1:]] == key[order[:-1]]]
    if len(again):
        row = int(again.min())
        earlier = int(np.flatnonzero(key == key[row])[0])
        said = (
            f"{len(again)} rows repeat a query, model and sample; {row_name(table, row)}, sample "
            f"{int(table.sample[row])}, stands in row {earlier + 1} already"
        )
        yield Problem("error", "query_id, model, sample_id", said)


def _splits(table: Table) -> Iterator[Problem]:
    splits = np.array(table.splits, dtype=object)
    named = sorted(set(table.splits) - {""})
    if not named:
        return
    scored = np.zeros(len(table.queries), dtype=np.bool_)
    scored[table.query[~np.isnan(table.score)]] = True
    for name in named:
        if scored.any() and not scored[splits == name].any():
            yield Problem("error", "split", f"{name!r} is empty: no question of it has a score")
    for name in sorted({"train", "test"} - set(named)):
        yield Problem("warning", "split", f"{name!r} is empty: the file has only {_listed(named)}")
    if unmarked := int((splits == "").sum()):
        yield Problem("warning", "split", f"{unmarked} of {len(splits)} questions are in no split")
    first: dict[str, str] = {}
    both = [
        q
        for q, s in zip(table.questions, table.splits, strict=True)
        if q and s and first.setdefault(q, s) != s
    ]
    if both:
        said = f"{len(both)} questions stand in two splits with the same text, such as {both[0][:60]!r}"
        yield Problem("warning", "query", said)


# --- the unit of cost --------------------------------------------------------------------------------------


def prices_of(path: Path) -> dict[str, Price]:
    """The prices that models.parquet of a folder states, by model."""
    file = path / "models.parquet"
    if not file.is_file():
        return {}
    opened, columns = open_parquet(file)
    asked = ["model", "usd_per_m_input", "usd_per_m_output"]
    if not set(asked) <= set(columns):
        return {}
    rows = opened.read(columns=asked).to_pylist()
    return {row["model"]: Price(row[asked[1]], row[asked[2]]) for row in rows if None not in row.values()}


def price_problem(name: str, price: Price) -> Problem | None:
    """A stated price per million tokens that can only be one of another unit.

    >>> str(price_problem("ada", Price(usd_per_mtok_in=1.5e-7)))
    'error: ada: usd_per_mtok_in is 1.5e-07: that is a price per token; per million tokens it is 0.15'
    """
    for field in ("usd_per_mtok_in", "usd_per_mtok_out"):
        value = float(getattr(price, field))
        if 0 < value < PLAUSIBLE[0]:
            said = (
                f"{field} is {value:g}: that is a price per token; per million tokens it is {value * 1e6:g}"
            )
            return Problem("error", name, said)
        if value > PLAUSIBLE[1]:
            return Problem(
                "error", name, f"{field} is {value:g}, more than any model costs per million tokens"
            )
    return None


def _units(table: Table, prices: Mapping[str, Price]) -> Iterator[Problem]:
    """A cost that no price gives, or that the stated price gives only in another unit."""
    for name, price in prices.items():
        if name in table.members and (wrong := price_problem(name, price)) is not None:
            yield wrong
    if np.isnan(table.usd).all():
        return
    for i, name in enumerate(table.members):
        rows = np.flatnonzero((table.member == i) & (table.usd > 0))[:_LOOKED_AT]
        prompt, completion = _tokens(table, rows)
        usd = table.usd[rows]
        known = (prompt + completion > 0) & np.isfinite(usd)  # NaN compares as false
        if not known.any():
            continue
        stated = prices.get(name)
        if stated is None or price_problem(name, stated) is not None:
            yield from _implied(name, usd[known] / (prompt + completion)[known] * 1e6)
        else:
            expected = prompt * stated.usd_per_mtok_in / 1e6 + completion * stated.usd_per_mtok_out / 1e6
            yield from _against(name, usd[known & (expected > 0)] / expected[known & (expected > 0)])


def _tokens(table: Table, rows: NDArray[Any]) -> tuple[Floats, Floats]:
    """Prompt and completion tokens of rows, from the lengths of the texts where nobody counted."""
    prompt, completion = table.prompt_tokens[rows].copy(), table.completion_tokens[rows].copy()
    for k, row in enumerate(rows.tolist()):
        if np.isnan(prompt[k]):
            prompt[k] = len(table.questions[table.query[row]]) / _CHARACTERS
        if np.isnan(completion[k]) and table.text[row] is not None:
            completion[k] = len(str(table.text[row])) / _CHARACTERS
    return prompt, completion


def _implied(name: str, per_mtok: Floats) -> Iterator[Problem]:
    """A cost without a stated price: judged by what it comes to per million tokens."""
    middle = float(np.median(per_mtok))
    if not PLAUSIBLE[0] <= middle <= PLAUSIBLE[1]:
        unit = UNITS[6] if middle > PLAUSIBLE[1] else UNITS[-6]
        said = f"{name} comes to {middle:.3g} USD per million tokens, which no model costs; perhaps {unit}"
        yield Problem("error", "cost_usd", said)


def _against(name: str, ratio: Floats) -> Iterator[Problem]:
    """A cost beside the stated price: `ratio` (r,) of the recorded to the expected one."""
    if not len(ratio):
        return
    middle = float(np.median(ratio))
    power = np.log10(middle)
    near = min(UNITS, key=lambda p: abs(p - power))
    said = f"{name} costs {middle:.3g} times what its stated price gives"
    if abs(near - power) < 0.7:
        yield Problem("error", "cost_usd", f"{said}: {UNITS[near]}")
    elif abs(power) > 1:
        yield Problem("warning", "cost_usd", said)


# --- battles -----------------------------------------------------------------------------------------------


def _battles(battles: Sequence[Battle], models: Sequence[str]) -> Iterator[Problem]:
    if not battles:
        yield Problem("error", "battles", "there is none")
        return
    fought = list(dict.fromkeys(name for b in battles for name in (b.a, b.b)))
    if models and (unknown := [m for m in fought if m not in models]):
        yield Problem("error", "a, b", f"{_listed(unknown)} is not among {_listed(models)}")
    if absent := [m for m in models if m not in fought]:
        yield Problem("error", "a, b", f"{_listed(absent)} never fights")
    if len({b.winner == "tie" for b in battles}) == 1 and battles[0].winner == "tie":
        yield Problem("error", "winner", f"has one class only: all {len(battles)} battles are ties")
