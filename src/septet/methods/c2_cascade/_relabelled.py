"""What a fit on class probabilities needs: the members' probabilities on the questions of a table, and who is right.

A table keeps answers and scores but no alternatives of tokens, so the members are asked its questions once more.
What a fresh answer scores is read off the recorded ones: a label that scored before scores again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from septet.core.errors import BadParameter
from septet.core.method import Asking, Seat
from septet.core.table import Table
from septet.core.types import Completion, Floats, Query
from septet.methods.c2_cascade._labels import class_probabilities, labels_in, named
from septet.methods.c2_cascade._pair import raise_if_all_failed
from septet.parts.answers.extract import final_answer
from septet.parts.routing.records import unit_cost

MOST_LABELS = 10
"""Where questions have no options, their recorded answers are the labels, if there are at most this many."""


@dataclass(frozen=True)
class Relabelled:
    """q questions with labels, m members. `p` (q, m, k): probabilities of the k labels, 0 beyond a question's own;
    `n_labels` (q,); `score` (q, m) of the fresh answers, NaN where nobody knows; `right` (q,): the place of the right
    label, −1 unknown; `cost` (q, m) in `unit`; `labels`: those of all questions, () where each has its own."""

    p: Floats
    n_labels: NDArray[np.int64]
    score: Floats
    right: NDArray[np.int64]
    cost: Floats
    unit: str
    labels: tuple[str, ...]


def relabelled(
    table: Table, members: Sequence[Seat], labels: Sequence[str], alternatives: int
) -> Asking[Relabelled]:
    """Asks every member every question that has labels and a recorded score; one call each, all at once."""
    recorded = _recorded(table)
    common = tuple(labels) or _common(table, recorded)
    own = {q: common or labels_in(table.questions[q]) for q in recorded}
    asked = [q for q in recorded if own[q]]
    if not asked:
        raise BadParameter(
            "table",
            len(table.queries),
            "must hold scored questions with options A, B, … or few different answers",
        )
    replies = yield [
        seat.complete(Query.of(table.questions[q], task=table.tasks[q]), logprobs=alternatives)
        for q in asked
        for seat in members
    ]
    for j in range(len(members)):
        raise_if_all_failed(replies[j :: len(members)])
    n, m, k = len(asked), len(members), max(len(own[q]) for q in asked)
    p, score, right = np.zeros((n, m, k)), np.full((n, m), np.nan), np.full(n, -1)
    for i, q in enumerate(asked):
        marks = _marks(recorded[q], own[q])
        best = max(marks, key=lambda label: marks[label], default="")
        if best and marks[best] >= 0.5:
            right[i] = own[q].index(best)
        for j in range(m):
            reply = replies[i * m + j]
            answer: Completion | None = reply.value[0] if reply.ok else None
            found = None if answer is None else class_probabilities(answer, own[q])
            p[i, j, : len(own[q])] = 1 / len(own[q]) if found is None else found
            if answer is not None:
                score[i, j] = _score(named(answer.text, own[q]), marks, known=right[i] >= 0)
    unit, cost = unit_cost(table)
    return Relabelled(
        p, np.array([len(own[q]) for q in asked]), score, right, _cells(table, cost)[asked], unit, common
    )


def _recorded(table: Table) -> dict[int, list[tuple[str, float]]]:
    """Per question with a score: what was answered, and what it scored."""
    found: dict[int, list[tuple[str, float]]] = {}
    for row in np.flatnonzero(~np.isnan(table.score)).tolist():
        said = table.answer[row] or table.text[row]
        if said:
            found.setdefault(int(table.query[row]), []).append((str(said), float(table.score[row])))
    return found


def _common(table: Table, recorded: dict[int, list[tuple[str, float]]]) -> tuple[str, ...]:
    """The recorded answers as labels, where they are few and the questions have no options of their own."""
    if any(labels_in(table.questions[q]) for q in recorded):
        return ()
    said = {final_answer(text) for answers in recorded.values() for text, _ in answers}
    labels = sorted(label for label in said if label)
    return tuple(labels) if 2 <= len(labels) <= MOST_LABELS else ()


def _marks(answers: Sequence[tuple[str, float]], labels: Sequence[str]) -> dict[str, float]:
    """The mean score of each label that was answered."""
    scores: dict[str, list[float]] = {}
    for text, score in answers:
        label = named(text, labels)
        if label is not None:
            scores.setdefault(label, []).append(score)
    return {label: float(np.mean(found)) for label, found in scores.items()}


def _score(label: str | None, marks: dict[str, float], *, known: bool) -> float:
    """What an answer scores: as recorded; 0 where another label is right, or none was named; else unknown."""
    if label in marks:
        return marks[label]
    return 0.0 if known or label is None else float("nan")


def _cells(table: Table, values: Floats) -> Floats:
    """(q, m) the mean of a column (r,) over samples."""
    cell = table.query.astype(np.int64) * len(table.members) + table.member
    size = len(table.queries) * len(table.members)
    with np.errstate(invalid="ignore"):
        mean: Floats = np.bincount(cell, values, size) / np.bincount(cell, minlength=size)
    return mean.reshape(len(table.queries), len(table.members))
