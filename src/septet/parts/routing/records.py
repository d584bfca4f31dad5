"""What a table of outcomes says, in the shapes that fits want."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from septet.core.errors import BadParameter
from septet.core.table import Table
from septet.core.types import Floats
from septet.parts.learning.features import Featurizer
from septet.parts.routing.cost import Spending

UNITS: Mapping[str, tuple[str, ...]] = {
    "usd": ("usd",),
    "seconds": ("seconds",),
    "tokens": ("prompt_tokens", "completion_tokens"),
}
"""What cost is measured in: the first of these that the outcomes give for every answer, and not as zero."""


@dataclass(frozen=True)
class Known:
    """What a fit knows: every question with a score once, and what each member made of it.

    `questions`, `tasks`, `groups` (r,); `scores`, `usd`, `prompt_tokens`, `completion_tokens` and `seconds`
    (r, m), means over samples, NaN unknown; `spending`: means per member over all rows; `table`: all rows.
    """

    members: tuple[str, ...]
    questions: tuple[str, ...]
    tasks: tuple[str, ...]
    groups: tuple[str, ...]
    scores: Floats
    usd: Floats
    prompt_tokens: Floats
    completion_tokens: Floats
    seconds: Floats
    spending: Spending
    table: Table

    def __len__(self) -> int:
        return len(self.questions)

    @classmethod
    def of(cls, table: Table) -> Known:
        """The questions of a table that have a score of any member; a repeated text counts once."""
        index = _scored(table)

        def cells(column: str) -> Floats:
            values: Floats = table.matrix(column)[index]
            return values

        return cls(
            table.members,
            tuple(table.questions[i] for i in index),
            tuple(table.tasks[i] for i in index),
            tuple(table.groups[i] for i in index),
            cells("score"),
            cells("usd"),
            cells("prompt_tokens"),
            cells("completion_tokens"),
            cells("seconds"),
            Spending.of(table),
            table,
        )

    def only(self, index: Sequence[int]) -> Known:
        """Some of the questions; `spending` and `table` stay those of all."""
        kept = list(index)
        some: dict[str, Any] = {name: tuple(getattr(self, name)[i] for i in kept) for name in _PER_QUESTION}
        some |= {name: getattr(self, name)[kept] for name in _PER_CELL}
        return replace(self, **some)


_PER_QUESTION = ("questions", "tasks", "groups")
_PER_CELL = ("scores", "usd", "prompt_tokens", "completion_tokens", "seconds")


@dataclass(frozen=True)
class Fitted:
    """What every fitted router keeps beside what it learned.

    `prefer`: the price of cost λ, in quality units per USD, of a request that states none; calibrated to a
    budget by `septet fit --budget-usd-per-1k`, else 0.
    """

    featurizer: Featurizer
    spending: Spending
    prefer: float


def _scored(table: Table) -> list[int]:
    """The queries with any known score, each text once."""
    scores = table.matrix("score")
    first: dict[str, int] = {}
    for i in np.flatnonzero(~np.isnan(scores).all(axis=1)).tolist():
        first.setdefault(table.questions[i], i)
    if not first:
        raise BadParameter("table", len(table), "must hold at least one question with a score")
    return list(first.values())


def scored_questions(table: Table) -> tuple[list[str], Floats, list[str]]:
    """The questions with any known score, each text once, with scores (r, m) and tasks (r,)."""
    scores, index = table.matrix("score"), _scored(table)
    return [table.questions[i] for i in index], scores[index], [table.tasks[i] for i in index]


def task_mean(scores: Floats, tasks: Sequence[str]) -> Floats:
    """(m,) mean over tasks of the mean score on each; NaN for a member that has no score."""
    of = np.array(tasks)
    means = []
    for task in dict.fromkeys(tasks):
        rows = scores[of == task]
        known = ~np.isnan(rows)
        with np.errstate(invalid="ignore"):
            means.append(np.where(known, rows, 0).sum(axis=0) / known.sum(axis=0))
    per_task = np.array(means)  # (tasks, m)
    with np.errstate(invalid="ignore"):
        mean: Floats = np.nansum(per_task, axis=0) / (~np.isnan(per_task)).sum(axis=0)
    return mean


def answered(table: Table) -> Table:
    """The rows with a text and a score, the first sample of each query and member."""
    usable = np.array([t is not None for t in table.text], dtype=bool) & ~np.isnan(table.score)
    rows = table.rows(usable)
    cell = rows.query.astype(np.int64) * len(rows.members) + rows.member
    order = np.lexsort((rows.sample, cell))
    first = np.zeros(len(rows), dtype=bool)
    first[order[np.unique(cell[order], return_index=True)[1]]] = True
    if not first.any():
        raise BadParameter("table", len(table), "must hold answers with their text and score")
    return rows.rows(first)


def unit_cost(rows: Table) -> tuple[str, Floats]:
    """What cost is measured in, and the cost (r,) of each answer; one per call where nothing is recorded."""
    for unit, columns in UNITS.items():
        cost = np.sum([rows.numbers[c] for c in columns], axis=0)
        if not np.isnan(cost).any() and (cost > 0).any():
            return unit, cost
    return "calls", np.ones(len(rows))
