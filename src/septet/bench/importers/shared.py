"""A folder of parquet files: queries and outcomes, and where the texts are apart, responses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from septet.bench.tables import open_parquet, read_source
from septet.core.errors import BadParameter
from septet.core.table import Ints, Objects, Table
from septet.core.types import Battle

SENTENCE = (
    "A folder with queries.parquet and outcomes.parquet, and perhaps responses.parquet; or battles.parquet."
)

ARMS = ("prompt", "sampling")
"""Columns that tell arms of one model apart."""


def read(path: Path) -> Table | list[Battle]:
    """The outcomes of a folder; a folder with battles.parquet only, its battles.

    A model with several prompts or ways of sampling is as many members ("gpt-4/cot1/t=0.4"). The turns of a
    conversation are samples. Texts that lie in responses.parquet are put to their rows.
    """
    if (path / "battles.parquet").is_file() and not (path / "outcomes.parquet").is_file():
        from septet.bench.importers.routellm_battles import read as read_battles

        return read_battles(path / "battles.parquet")
    table = read_source(path).table
    if table is None:
        raise BadParameter(path.name, "battles", "must hold outcomes")
    opened, columns = open_parquet(path / "outcomes.parquet")
    extra = [c for c in (*ARMS, "turn") if c in columns]
    values = opened.read(columns=extra).to_pydict() if extra else {}
    if arms := [c for c in ARMS if c in values]:
        table = by_arm(table, [values[c] for c in arms])
    if "turn" in values and "sample_id" not in columns:
        turns = np.array([1 if t is None else t for t in values["turn"]], dtype=np.int32)
        table = replace(table, sample=turns - 1)
    if (path / "responses.parquet").is_file() and table.text.strides == (0,):
        table = replace(table, text=_texts(path / "responses.parquet", table))
    return table


def by_arm(table: Table, values: list[list[Any]]) -> Table:
    """The table with a member for each model and combination of values (columns, each (r,))."""
    known: dict[str, int] = {}
    member = np.empty(len(table), dtype=np.int32)
    for row, (model, *said) in enumerate(zip(table.member.tolist(), *values, strict=True)):
        name = "/".join([table.members[model], *(str(v) for v in said if v is not None)])
        member[row] = known.setdefault(name, len(known))
    return replace(table, members=tuple(known), member=member)


def _texts(file: Path, table: Table) -> Objects:
    """(r,) the text of each row, None where there is none."""
    opened, columns = open_parquet(file)
    queries = {name: i for i, name in enumerate(table.queries)}
    members = {name: i for i, name in enumerate(table.members)}
    key = _key(table.query, table.member, table.sample, len(table.members))
    row_of: Mapping[tuple[int, int], int] = {k: row for row, k in enumerate(key)}
    texts = np.empty(len(table), dtype=object)
    arms = [c for c in ARMS if c in columns]
    named: dict[tuple[Any, ...], int] = {}  # the member of each combination of model and arm
    asked = ["query_id", *(["sample_id"] if "sample_id" in columns else []), "response", "model", *arms]
    for batch in opened.iter_batches(columns=asked):
        columns_of = {name: batch.column(name).to_pylist() for name in asked}
        samples = columns_of.get("sample_id", [0] * len(batch))
        told = zip(columns_of["model"], *(columns_of[c] for c in arms), strict=True)
        for query, sample, text, said in zip(
            columns_of["query_id"], samples, columns_of["response"], told, strict=True
        ):
            if said not in named:
                named[said] = members.get("/".join(str(v) for v in said if v is not None), -1)
            q, m = queries.get(query, -1), named[said]
            row = row_of.get((q * len(members) + m, sample or 0), -1)
            if min(q, m, row) >= 0:
                texts[row] = text
    return texts


def _key(query: Ints, member: Ints, sample: Ints, n_members: int) -> list[tuple[int, int]]:
    cell = query.astype(np.int64) * n_members + member
    return list(zip(cell.tolist(), sample.tolist(), strict=True))
