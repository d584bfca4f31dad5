"""What a table of outcomes says, in the shapes that fits want."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from septet.core.errors import BadParameter
from septet.core.table import Table
from septet.core.types import Floats

UNITS: Mapping[str, tuple[str, ...]] = {
    "usd": ("usd",),
    "seconds": ("seconds",),
    "tokens": ("prompt_tokens", "completion_tokens"),
}
"""What cost is measured in: the first of these that the outcomes give for every answer, and not as zero."""


def scored_questions(table: Table) -> tuple[list[str], Floats, list[str]]:
    """The questions with any known score, each text once, with scores (r, m) and tasks (r,)."""
    scores = table.matrix("score")
    first = {
        text: i for i, text in reversed(list(enumerate(table.questions))) if not np.isnan(scores[i]).all()
    }
    index = sorted(first.values())
    if not index:
        raise BadParameter("table", len(table), "must hold at least one question with a score")
    return [table.questions[i] for i in index], scores[index], [table.tasks[i] for i in index]


def task_mean(scores: Floats, tasks: list[str]) -> Floats:
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
