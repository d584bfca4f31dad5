"""Outcomes: what members answered, what it cost, how good it was; one row per query, member and sample."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from septet.core.errors import BadParameter
from septet.core.types import Battle, Floats

Ints = NDArray[np.int32]
Objects = NDArray[np.object_]

NUMBERS = ("score", "usd", "prompt_tokens", "completion_tokens", "seconds", "confidence", "logp")
"""The numeric columns, by the noun's name; NaN is unknown."""

IN_FILES = {"usd": "cost_usd", "text": "response"}
"""Columns whose name in files differs from the noun's."""


@dataclass(frozen=True)
class Table:
    """Outcomes, columnar.

    Per query (q): `queries` ids, `questions` texts, `tasks`, `groups` and `splits`. Per row (r): `query`
    and `member`, indices into `queries` and `members`; `sample`; `text` and `answer` (None: unknown); and
    the numbers: `score` in 0..1 (higher is better), `usd`, `prompt_tokens`, `completion_tokens`,
    `seconds`, `confidence`, and `logp`, the mean log-probability per token.
    """

    queries: tuple[str, ...]
    questions: tuple[str, ...]
    tasks: tuple[str, ...]
    groups: tuple[str, ...]
    splits: tuple[str, ...]
    members: tuple[str, ...]
    query: Ints
    member: Ints
    sample: Ints
    text: Objects
    answer: Objects
    numbers: Mapping[str, Floats]

    def __len__(self) -> int:
        return len(self.query)

    def __getattr__(self, name: str) -> Floats:
        if name in NUMBERS:
            return self.numbers[name]
        raise AttributeError(name)

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]], place: str = "rows") -> Table:
        """A table from records with the file columns: query_id, query, task, group, split, model, sample_id,
        answer, response, score, cost_usd, prompt_tokens, completion_tokens, seconds, confidence, logp."""
        queries: dict[str, tuple[Any, ...]] = {}
        members: dict[str, int] = {}
        query, member, sample, text, answer = [], [], [], [], []
        numbers: dict[str, list[float]] = {name: [] for name in NUMBERS}
        for number, row in enumerate(rows, start=1):
            if "model" not in row or not ("query_id" in row or "query" in row):
                raise BadParameter(f"{place}:{number}", sorted(row), "must have model and query_id or query")
            key = str(row.get("query_id", row.get("query")))
            facts = (str(row.get(f) or "") for f in ("query", "task", "group", "split"))
            query.append(queries.setdefault(key, (len(queries), *facts))[0])
            member.append(members.setdefault(str(row["model"]), len(members)))
            sample.append(int(row.get("sample_id") or 0))
            text.append(row.get("response"))
            answer.append(row.get("answer"))
            for name, column in numbers.items():
                value = row.get(IN_FILES.get(name, name))
                try:
                    column.append(float("nan") if value is None else float(value))
                except (TypeError, ValueError):
                    raise BadParameter(f"{place}:{number}.{name}", value, "must be a number") from None
        facts_of = list(zip(*queries.values(), strict=True)) or [()] * 5
        return cls(
            queries=tuple(queries),
            questions=facts_of[1],
            tasks=facts_of[2],
            groups=facts_of[3],
            splits=facts_of[4],
            members=tuple(members),
            query=np.array(query, dtype=np.int32),
            member=np.array(member, dtype=np.int32),
            sample=np.array(sample, dtype=np.int32),
            text=np.array([*text, None], dtype=object)[:-1],
            answer=np.array([*answer, None], dtype=object)[:-1],
            numbers={name: np.array(column, dtype=np.float64) for name, column in numbers.items()},
        )

    @classmethod
    def of_lines(cls, lines: Iterable[str], place: str = "lines") -> Table:
        """A table from JSON lines; a line without a model is a note about how the file was made."""
        return cls.of((row for row in _records(lines, place) if "model" in row or "query_id" in row), place)

    def rows(self, keep: NDArray[np.bool_]) -> Table:
        """The rows where `keep` (r,) is true; queries and members stay as they are."""
        return replace(
            self,
            query=self.query[keep],
            member=self.member[keep],
            sample=self.sample[keep],
            text=self.text[keep],
            answer=self.answer[keep],
            numbers={name: column[keep] for name, column in self.numbers.items()},
        )

    def of_members(self, members: Sequence[str]) -> Table:
        """The rows of these members, in this order."""
        missing = [m for m in members if m not in self.members]
        if missing:
            raise BadParameter("members", missing, f"must be among the table's members {list(self.members)}")
        place = np.full(len(self.members), -1, dtype=np.int32)
        place[[self.members.index(m) for m in members]] = np.arange(len(members))
        kept = self.rows(place[self.member] >= 0)
        return replace(kept, members=tuple(members), member=place[kept.member])

    def of_queries(self, keep: NDArray[np.bool_]) -> Table:
        """The rows of the queries where `keep` (q,) is true, renumbered."""
        place = np.full(len(self.queries), -1, dtype=np.int32)
        place[keep] = np.arange(int(keep.sum()))
        kept = self.rows(keep[self.query])

        def pick(facts: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(f for f, k in zip(facts, keep, strict=True) if k)

        return replace(
            kept,
            queries=pick(self.queries),
            questions=pick(self.questions),
            tasks=pick(self.tasks),
            groups=pick(self.groups),
            splits=pick(self.splits),
            query=place[kept.query],
        )

    def matrix(self, column: str) -> Floats:
        """(q, m) mean over samples of a numeric column; NaN where there is no value."""
        values = self.numbers[column]
        known = ~np.isnan(values)
        cell = self.query[known].astype(np.int64) * len(self.members) + self.member[known]
        n_cells = len(self.queries) * len(self.members)
        total = np.bincount(cell, weights=values[known], minlength=n_cells)
        count = np.bincount(cell, minlength=n_cells)
        with np.errstate(invalid="ignore"):
            return (total / count).reshape(len(self.queries), len(self.members))

    def battles(self) -> list[Battle]:
        """Every pair of members on every query, decided by the mean score: the higher one wins."""
        found = []
        for question, scores in zip(self.questions, self.matrix("score"), strict=True):
            for i in range(len(self.members)):
                for j in range(i + 1, len(self.members)):
                    if np.isnan(scores[i]) or np.isnan(scores[j]):
                        continue
                    a, b = self.members[i], self.members[j]
                    winner = "tie" if scores[i] == scores[j] else a if scores[i] > scores[j] else b
                    found.append(Battle(question, a, b, winner))
        return found


def _records(lines: Iterable[str], place: str) -> Iterable[Mapping[str, Any]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise BadParameter(f"{place}:{number}", line[:60], f"must be JSON ({error.msg})") from None
        if not isinstance(row, dict):
            raise BadParameter(f"{place}:{number}", line[:60], "must be a JSON object")
        yield row
