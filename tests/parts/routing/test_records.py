"""Tables in the shapes that fits want."""

from __future__ import annotations

import numpy as np
import pytest

from septet.core.errors import BadParameter
from septet.core.table import Table
from septet.parts.routing.records import answered, scored_questions, task_mean, unit_cost


def row(query: str, model: str, **more: object) -> dict[str, object]:
    return {"query_id": query + str(more.pop("id", "")), "query": query, "model": model, **more}


def test_a_question_without_any_score_and_a_repeated_text_are_left_out() -> None:
    table = Table.of(
        [
            row("unscored", "a", task="s"),
            row("twice", "a", id=1, score=1.0, task="s"),
            row("twice", "a", id=2, score=0.0, task="t"),
            row("once", "a", score=0.5, task="t"),
        ]
    )
    questions, scores, tasks = scored_questions(table)
    assert (questions, tasks) == (["twice", "once"], ["s", "t"])
    assert scores.tolist() == [[1.0], [0.5]]


def test_a_table_without_scores_is_refused() -> None:
    with pytest.raises(BadParameter, match="at least one question with a score"):
        scored_questions(Table.of([row("q", "a")]))


def test_every_task_weighs_the_same_in_the_mean() -> None:
    # task s: (1 + 0)/2 and (1)/1; task t: 1 and unknown
    scores = np.array([[1.0, 1.0], [0.0, np.nan], [1.0, np.nan]])
    assert task_mean(scores, ["s", "s", "t"]).tolist() == [0.75, 1.0]


def test_the_first_sample_with_text_and_score_counts() -> None:
    table = Table.of(
        [
            row("q", "a", sample_id=1, response="later", score=0.0),
            row("q", "a", sample_id=0, response="first", score=1.0),
            row("q", "b", response=None, score=1.0),
            row("q", "b", sample_id=1, response="unscored"),
        ]
    )
    assert answered(table).text.tolist() == ["first"]


def test_cost_is_in_usd_where_every_answer_has_it_then_seconds_then_tokens_then_calls() -> None:
    full = {"response": "x", "score": 1.0, "prompt_tokens": 3, "completion_tokens": 4}
    billed = Table.of([row("q", "a", cost_usd=0.5, **full), row("q", "b", cost_usd=0.0, **full)])
    timed = Table.of([row("q", "a", cost_usd=0.5, seconds=1.0, **full), row("q", "b", seconds=2.0, **full)])
    counted = Table.of([row("q", "a", cost_usd=0.0, **full), row("q", "b", cost_usd=0.0, **full)])
    bare = Table.of([row("q", "a"), row("q", "b")])
    found = [unit_cost(t) for t in (billed, timed, counted, bare)]
    assert [(unit, cost.tolist()) for unit, cost in found] == [
        ("usd", [0.5, 0.0]),
        ("seconds", [1.0, 2.0]),
        ("tokens", [7.0, 7.0]),
        ("calls", [1.0, 1.0]),
    ]
