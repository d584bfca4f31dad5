"""Recorded outcomes by name: a folder or file of outcomes, and what is particular to each of the shared sets."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from septet.bench import tables
from septet.core.errors import ConfigError, MissingExtra, UnknownName
from septet.core.table import Table
from septet.core.types import Floats

Facts = Mapping[str, Sequence[Any]]
"""Columns of queries.parquet, in the order of a table's queries."""


@dataclass(frozen=True, eq=False)
class Recorded:
    """A table of outcomes by the name it is reported under, with the hash of its files and what was done to it.

    `notes`: one plain sentence per thing that a reader of its numbers has to know.
    """

    name: str
    table: Table
    sha256: str
    notes: tuple[str, ...] = ()

    @property
    def priced(self) -> bool:
        """Whether the cost of every answer is known."""
        usd = self.table.numbers["usd"]
        return bool(len(usd)) and not np.isnan(usd).any()

    @property
    def facts(self) -> dict[str, Any]:
        """What a record says about the data."""
        return {
            "sha256": self.sha256,
            "questions": len(self.table.queries),
            "members": list(self.table.members),
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Particular:
    """What is particular to a set: the column that routers read, what is left out, what a call costs."""

    question: str = "query"
    without: Mapping[str, Any] | None = None
    usd: Callable[[Path, Table, Facts], Floats] | None = None
    columns: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def _by_input_price(folder: Path, table: Table, facts: Facts) -> Floats:
    """(r,) list price of input × estimated tokens of the question."""
    rows = _parquet(folder / "models.parquet", ["model", "usd_per_m_input"])
    price = dict(zip(rows["model"], rows["usd_per_m_input"], strict=True))
    per_token = np.array([price[m] for m in table.members]) / 1e6
    tokens = np.array(facts["prompt_tokens"], dtype=np.float64)
    usd: Floats = per_token[table.member] * tokens[table.query]
    return usd


_PAPER_PRICES = {"gpt-4-1106-preview": 24.7, "mistralai/Mixtral-8x7B-Instruct-v0.1": 0.24}
"""USD per million tokens, as RouteLLM's paper has them (arXiv 2406.18665)."""


def _by_paper_price(folder: Path, table: Table, facts: Facts) -> Floats:
    """(r,) the paper's price × estimated tokens of the question."""
    per_token = np.array([_PAPER_PRICES[m] for m in table.members]) / 1e6
    tokens = np.array([max(1, round(len(text) / 4)) for text in table.questions], dtype=np.float64)
    usd: Floats = per_token[table.member] * tokens[table.query]
    return usd


PARTICULAR: Mapping[str, Particular] = {
    "routerbench3": Particular(
        question="question",
        columns=("question",),
        notes=("routers read the question alone, not the examples that were sent before it",),
    ),
    "llmrouter9": Particular(
        usd=_by_input_price,
        columns=("prompt_tokens",),
        notes=("cost is a proxy: list price of input × a quarter of the question's characters",),
    ),
    "routellm": Particular(
        without={"task": "mt_bench", "contaminated": True},
        usd=_by_paper_price,
        columns=("contaminated",),
        notes=(
            "cost is a proxy: the paper's price per token × a quarter of the question's characters",
            "without MT-Bench, whose scores are not in 0..1, and without what the authors call contaminated",
        ),
    ),
}
"""The shared sets that need more than reading."""


def data_folder() -> Path:
    """Where sets are looked for by name: SEPTET_DATA, else ../shared/data."""
    return Path(os.environ.get("SEPTET_DATA") or "../shared/data")


def open_set(of: str) -> Recorded:
    """The outcomes at a path, or of a set by name; its scores are checked."""
    path = Path(of)
    if not path.exists():
        path = data_folder() / of
    if not path.exists():
        known = sorted(p.parent.name for p in data_folder().glob("*/outcomes.parquet"))
        if os.sep in of or "." in of or not known:
            raise ConfigError(f"no outcomes at {of}, and none at {path} (SEPTET_DATA says where sets are)")
        raise UnknownName("set of outcomes", of, known)
    if path.is_dir() and not (path / "outcomes.parquet").is_file():
        raise ConfigError(f"{path} holds no outcomes.parquet")
    table = tables.read(path, texts=False)
    particular = PARTICULAR.get(path.resolve().name, Particular()) if path.is_dir() else Particular()
    if particular.columns:
        table = _particular(particular, path, table)
    name = path.resolve().name if path.is_dir() else path.stem
    return _usable(Recorded(name, table, _sha256(path), particular.notes))


def _particular(particular: Particular, folder: Path, table: Table) -> Table:
    """The table with the texts, the rows and the costs that its set asks for."""
    columns = [*particular.columns, *(particular.without or ())]
    held = _parquet(folder / "queries.parquet", ["query_id", *dict.fromkeys(columns)])
    place = {str(key): i for i, key in enumerate(held["query_id"])}
    order = [place[key] for key in table.queries]
    facts = {name: [values[i] for i in order] for name, values in held.items()}
    if particular.question != "query":
        table = replace(table, questions=tuple(map(str, facts[particular.question])))
    if particular.usd is not None:
        usd = particular.usd(folder, table, facts)
        table = replace(table, numbers={**table.numbers, "usd": usd})
    if particular.without:
        out = [np.array([v == value for v in facts[c]]) for c, value in particular.without.items()]
        table = table.of_queries(~np.any(out, axis=0))
    return table


def _usable(recorded: Recorded) -> Recorded:
    """Refuses a table that no router can be measured on, before anything is fitted."""
    name, table = recorded.name, recorded.table
    score = table.numbers["score"]
    if not len(table) or np.isnan(score).all():
        raise ConfigError(f"{name} holds no scores: routers need the column score")
    if np.nanmin(score) < 0 or np.nanmax(score) > 1:
        raise ConfigError(f"{name} has scores outside 0..1")
    if not any(table.questions):
        raise ConfigError(f"{name} holds no questions: routers need the column query")
    if len(table.members) < 2:
        raise ConfigError(f"{name} holds the outcomes of one member: a router needs two or more")
    return recorded


def _parquet(path: Path, columns: Sequence[str]) -> dict[str, list[Any]]:
    """Columns of a parquet file."""
    try:
        from pyarrow.parquet import read_table
    except ImportError:
        raise MissingExtra("pyarrow", "data") from None
    found: dict[str, list[Any]] = read_table(path, columns=list(columns)).to_pydict()
    return found


def _sha256(path: Path) -> str:
    """Of a file; of a folder, over its queries and outcomes."""
    files = [path] if path.is_file() else [path / "queries.parquet", path / "outcomes.parquet"]
    digest = hashlib.sha256()
    for file in files:
        if file.is_file():
            digest.update(file.read_bytes())
    return digest.hexdigest()
