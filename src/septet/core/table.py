"""Outcomes: what members answered, what it cost, how good it was; one row per query, member and sample."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from septet.core.errors import BadParameter
from septet.core.types import Battle, Floats

Ints = NDArray[np.int32]
Objects = NDArray[np.object_]

NUMBERS = (
    "score",
    "usd",
    "prompt_tokens",
    "completion_tokens",
    "seconds",
    "confidence",
    "logp",
    "propensity",
)
"""The numeric columns, by the noun's name; NaN is unknown."""

IN_FILES = {"usd": "cost_usd", "text": "response"}
"""Columns whose name in files differs from the noun's."""

FACTS = ("query", "task", "group", "split")
"""What is known of a question beside its id, by the name in files."""

_UNKNOWN = float("nan")

_SHARED = 64
"""Answers of at most this many characters are kept once, however many rows give them."""


@dataclass(frozen=True)
class Table:
    """Outcomes, columnar.

    Per query (q): `queries` ids, `questions` texts, `tasks`, `groups` and `splits`. Per row (r): `query`
    and `member`, indices into `queries` and `members`; `sample`; `text` and `answer` (None: unknown); and
    the numbers: `score` in 0..1 (higher is better), `usd`, `prompt_tokens`, `completion_tokens`,
    `seconds`, `confidence`, `logp`, the mean log-probability per token, and `propensity`, the probability
    with which this member was asked (1 where all were).

    A column that nobody recorded takes no memory: it is one unknown value, seen r times. Two million rows
    with score, cost and tokens take about 100 MB; a text takes what its characters take.
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
        answer, response, score, cost_usd, prompt_tokens, completion_tokens, seconds, confidence, logp,
        propensity. A question's facts are those of its first row."""
        return cls._of(enumerate(rows, start=1), place)

    @classmethod
    def _of(cls, numbered: Iterable[tuple[int, Mapping[str, Any]]], place: str) -> Table:
        """The table of records with the numbers by which errors name them."""
        queries: dict[str, int] = {}
        members: dict[str, int] = {}
        facts: dict[str, list[str]] = {name: [] for name in FACTS}
        query, member, sample = array("i"), array("i"), array("i")
        texts: list[str | None] = []
        answers: list[str | None] = []
        numbers = {name: array("d") for name in NUMBERS}
        words: dict[Any, Any] = {}  # short words that many rows say, once each
        for number, row in numbered:
            key, model = row.get("query_id", row.get("query")), row.get("model")
            if key is None or model is None:
                raise BadParameter(f"{place}:{number}", sorted(row), "must have model and query_id or query")
            key = str(key)
            if key not in queries:
                for name, known in facts.items():
                    fact = str(row.get(name) or "")
                    known.append(words.setdefault(fact, fact) if len(fact) <= _SHARED else fact)
            query.append(queries.setdefault(key, len(queries)))
            member.append(members.setdefault(str(model), len(members)))
            texts.append(row.get("response"))
            answer = row.get("answer")
            short = isinstance(answer, str) and len(answer) <= _SHARED
            answers.append(words.setdefault(answer, answer) if short else answer)
            column, value = "sample_id", row.get("sample_id")
            try:
                sample.append(0 if value is None else int(value))
                for name, values in numbers.items():
                    column = IN_FILES.get(name, name)
                    value = row.get(column)
                    values.append(_UNKNOWN if value is None else float(value))
            except (TypeError, ValueError, OverflowError):
                rule = "must be a whole number" if column == "sample_id" else "must be a number"
                raise BadParameter(f"{place}:{number}.{column}", value, rule) from None
        return cls.of_arrays(
            queries=tuple(queries),
            questions=facts["query"],
            tasks=facts["task"],
            groups=facts["group"],
            splits=facts["split"],
            members=tuple(members),
            query=np.array(query, dtype=np.int32),
            member=np.array(member, dtype=np.int32),
            sample=np.array(sample, dtype=np.int32),
            text=texts,
            answer=answers,
            numbers={name: np.array(values, dtype=np.float64) for name, values in numbers.items()},
        )

    @classmethod
    def of_arrays(
        cls,
        *,
        queries: Sequence[str],
        members: Sequence[str],
        query: Ints,
        member: Ints,
        questions: Sequence[str] = (),
        tasks: Sequence[str] = (),
        groups: Sequence[str] = (),
        splits: Sequence[str] = (),
        sample: Ints | None = None,
        text: Sequence[Any] | Objects | None = None,
        answer: Sequence[Any] | Objects | None = None,
        numbers: Mapping[str, Floats] | None = None,
    ) -> Table:
        """A table from columns, which are kept and not copied where their types are right.

        `query` and `member` (r,) index `queries` and `members`. What is not given, or holds nothing but
        unknown values, is unknown and takes no memory; an empty fact of a question is "".

        >>> table = Table.of_arrays(queries=["q"], members=["ada", "bob"], query=np.array([0, 0]),
        ...     member=np.array([0, 1]), numbers={"score": np.array([1.0, 0.0])})
        >>> table.matrix("score").tolist(), table.text.tolist(), table.usd.strides
        ([[1.0, 0.0]], [None, None], (0,))
        """
        n, n_queries = len(query), len(queries)
        given = numbers or {}
        if unknown := sorted(set(given) - set(NUMBERS)):
            raise BadParameter("numbers", unknown, f"must be among {', '.join(NUMBERS)}")
        lengths = {"member": member, "sample": sample, "text": text, "answer": answer, **given}
        for name, column in lengths.items():
            if column is not None and len(column) != n:
                raise BadParameter(name, len(column), f"must have a value for each of the {n} rows")
        facts = {"questions": questions, "tasks": tasks, "groups": groups, "splits": splits}
        for name, values in facts.items():
            if len(values) not in (0, n_queries):
                raise BadParameter(
                    name, len(values), f"must have a value for each of the {n_queries} queries"
                )
        for name, index, size in (("query", query, n_queries), ("member", member, len(members))):
            if n and (index.min() < 0 or index.max() >= size):
                raise BadParameter(name, int(index.max()), f"must be indices from 0 to {size - 1}")
        return cls(
            queries=tuple(queries),
            **{name: tuple(values) or ("",) * n_queries for name, values in facts.items()},
            members=tuple(members),
            query=np.asarray(query, dtype=np.int32),
            member=np.asarray(member, dtype=np.int32),
            sample=_same(np.int32(0), n)
            if sample is None or not np.any(sample)
            else np.asarray(sample, np.int32),
            text=_objects(text, n),
            answer=_objects(answer, n),
            numbers={name: _floats(given.get(name), n) for name in NUMBERS},
        )

    @classmethod
    def of_lines(cls, lines: Iterable[str], place: str = "lines") -> Table:
        """A table from JSON lines; a line without a model is a note about how the file was made."""
        found = _records(lines, place)
        return cls._of(((n, row) for n, row in found if "model" in row or "query_id" in row), place)

    def rows(self, keep: NDArray[np.bool_]) -> Table:
        """The rows where `keep` (r,) is true; queries and members stay as they are."""
        query = self.query[keep]

        def kept(column: NDArray[Any]) -> NDArray[Any]:
            # a column that is one value seen r times stays so
            one = column.strides == (0,) and len(column) > 0
            return np.broadcast_to(column[:1].reshape(()), query.shape) if one else column[keep]

        return replace(
            self,
            query=query,
            member=self.member[keep],
            sample=kept(self.sample),
            text=kept(self.text),
            answer=kept(self.answer),
            numbers={name: kept(column) for name, column in self.numbers.items()},
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


def _same(value: Any, n: int) -> NDArray[Any]:
    """(n,) one value seen n times: a view that takes no memory."""
    return np.broadcast_to(np.array(value), (n,))


def _objects(values: Sequence[Any] | Objects | None, n: int) -> Objects:
    """(n,) a column of texts."""
    if values is None or all(value is None for value in values):
        return _same(np.array(None, dtype=object), n)
    if isinstance(values, np.ndarray):
        return values
    column = np.empty(n, dtype=object)
    column[:] = values  # not np.array(values): equally long lists would become a second axis
    return column


def _floats(values: Floats | None, n: int) -> Floats:
    """(n,) a column of numbers."""
    if values is None or bool(np.isnan(values).all()):
        return _same(np.float64("nan"), n)
    return np.asarray(values, dtype=np.float64)


def _records(lines: Iterable[str], place: str) -> Iterable[tuple[int, Mapping[str, Any]]]:
    """The JSON objects of lines that are not empty, with the numbers of the lines."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise BadParameter(f"{place}:{number}", line[:60], f"must be JSON ({error.msg})") from None
        if not isinstance(row, dict):
            raise BadParameter(f"{place}:{number}", line[:60], "must be a JSON object")
        yield number, row
