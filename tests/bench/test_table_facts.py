"""What a table holds and what the trivial choices are worth on it, worked by hand."""

from __future__ import annotations

import json

import pytest

from septet.bench.table_facts import describe, describe_battles
from septet.core.table import Table
from septet.core.types import Battle

SCORES = {  # question: (split, task, ada, bob)
    "q1": ("train", "sums", 1.0, 0.0),
    "q2": ("train", "sums", 1.0, 0.5),
    "q3": ("test", "jokes", 0.0, 1.0),
    "q4": ("test", "jokes", None, 0.5),
}


@pytest.fixture
def table() -> Table:
    return Table.of(
        {"query_id": q, "split": split, "task": task, "model": m, "score": s, "cost_usd": usd, "group": task}
        for q, (split, task, *scores) in SCORES.items()
        for m, s, usd in zip(("ada", "bob"), scores, (0.1, 0.3), strict=True)
    )


def test_counts_and_means_are_those_of_the_rows(table: Table) -> None:
    facts = describe(table)
    assert (facts["rows"], facts["queries"], facts["models"], facts["samples"]) == (8, 4, 2, 1)
    assert facts["tasks"] == {"sums": 2, "jokes": 2}
    assert (facts["groups"], facts["splits"]) == (2, {"train": 2, "test": 2, "all": 4})
    assert facts["missing_scores"] == 1 / 8
    assert facts["known"] == {"score": 7 / 8, "usd": 1.0}
    ada, bob = facts["members"]
    assert (ada["score"], ada["missing_scores"], ada["usd"]) == (
        pytest.approx(2 / 3),
        1 / 4,
        pytest.approx(0.1),
    )
    assert (bob["score"], bob["rows"], bob["usd"]) == (0.5, 4, pytest.approx(0.3))


def test_the_best_single_model_is_chosen_on_train_and_beside_it_stands_the_best_here(table: Table) -> None:
    bounds = describe(table)["bounds"]
    assert bounds["train"] == {
        "queries": 2,
        "scored": 2,
        "random": 0.625,  # (.5 + .75) / 2
        "best": "ada",
        "best_score": 1.0,
        "best_here": "ada",
        "best_here_score": 1.0,
        "oracle": 1.0,
    }
    assert bounds["test"] == {
        "queries": 2,
        "scored": 2,
        "random": 0.5,  # (.5 + .5) / 2: of the fourth question only bob's score is known
        "best": "ada",
        "best_score": 0.0,
        "best_here": "bob",
        "best_here_score": 0.75,
        "oracle": 0.75,  # (1 + .5) / 2
    }


def test_without_a_train_split_the_best_is_that_of_all(table: Table) -> None:
    rows = [
        {"query_id": f"q{i}", "model": m, "score": s} for i in range(2) for m, s in (("ada", 0), ("bob", 1))
    ]
    bounds = describe(Table.of(rows))["bounds"]
    assert list(bounds) == ["all"]
    assert (bounds["all"]["best"], bounds["all"]["best_score"]) == ("bob", 1.0)


def test_samples_of_one_answer_count_once(table: Table) -> None:
    scores = [("ada", 0, 1.0), ("ada", 1, 0.0), ("bob", 0, 0.25)]
    facts = describe(
        Table.of({"query_id": "q", "model": m, "sample_id": s, "score": v} for m, s, v in scores)
    )
    assert facts["samples"] == 2
    assert facts["bounds"]["all"]["random"] == 0.375  # (.5 + .25) / 2


def test_a_table_without_scores_has_no_bounds_and_is_still_json() -> None:
    facts = describe(Table.of([{"query_id": "q", "model": "ada"}]))
    assert facts["bounds"] == {"all": {"queries": 1, "scored": 0}}
    assert json.loads(json.dumps(facts))["members"][0]["score"] is None
    assert describe(Table.of([]))["rows"] == 0


def test_a_tie_is_half_a_win() -> None:
    fights = [
        Battle("q", "ada", "bob", "ada"),
        Battle("r", "ada", "bob", "tie"),
        Battle("r", "bob", "cyd", "bob"),
    ]
    facts = describe_battles(fights)
    assert (facts["battles"], facts["queries"], facts["ties"]) == (3, 2, 1)
    assert [(m["model"], m["battles"], m["win_share"]) for m in facts["members"]] == [
        ("ada", 2, 0.75),
        ("bob", 3, 0.5),
        ("cyd", 1, 0.0),
    ]
