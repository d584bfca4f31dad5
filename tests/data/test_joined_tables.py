"""Recorded outcomes joined with their questions: the Table finds the means that the sets' own README states."""

from __future__ import annotations

import numpy as np
import pytest
from recorded import Joined, Read, split

pytestmark = pytest.mark.data


# of the test split: questions, mean of all members, best on train, best of each question
README = {
    "nq6": (267, 0.2439, "gemma-2-27b", 0.4343, 0.5736),
    "llmrouter9": (381, 0.4012, "nemotron", 0.5966, 0.7498),
    "routerbench3": (945, 0.6859, "gpt-4-1106", 0.8794, 0.9757),
    "more_qa": (2454, 0.4524, "", 0.4910, 0.6956),
}


@pytest.mark.parametrize("of", README)
def test_random_best_and_oracle_are_those_of_the_readme(of: str, joined: Joined) -> None:
    n, random, name, best, oracle = README[of]
    table = joined(of, columns=["score"])
    scores = split(table, "test").matrix("score")
    first = int(split(table, "train").matrix("score").mean(axis=0).argmax())
    assert len(scores) == n
    assert name in table.members[first]
    found = [scores.mean(), scores[:, first].mean(), scores.max(axis=1).mean()]
    np.testing.assert_allclose(found, [random, best, oracle], atol=5.1e-5)


def test_every_row_carries_the_facts_of_its_question(joined: Joined, read: Read) -> None:
    table = joined("nq6", columns=["response", "score", "cost_usd"])
    questions = {row["query_id"]: row for row in read("nq6/queries")}
    assert (len(table.queries), len(table.members), len(table)) == (500, 6, 3000)
    for i, key in enumerate(table.queries):
        assert table.questions[i] == questions[key]["query"]
        assert table.splits[i] == questions[key]["split"]
    for row, outcome in zip(range(0, len(table), 97), read("nq6/outcomes")[::97], strict=True):
        assert table.queries[table.query[row]] == outcome["query_id"]
        assert table.members[table.member[row]] == outcome["model"]
        assert table.text[row] == outcome["response"]
        assert table.usd[row] == outcome["cost_usd"]


def test_repeated_samples_of_a_question_are_averaged(joined: Joined, read: Read) -> None:
    columns = ["score", "sample_id"]
    table = joined("misguided", columns=columns, model={"grok-3-mini-think", "horizon-alpha"})
    by_hand: dict[tuple[str, str], list[float]] = {}
    for row in read("misguided/outcomes"):
        by_hand.setdefault((row["query_id"], row["model"]), []).append(row["score"])
    matrix = table.matrix("score")
    assert max(np.bincount(table.query[table.member == table.members.index("horizon-alpha")])) == 5
    for i, key in enumerate(table.queries):
        for j, member in enumerate(table.members):
            assert matrix[i, j] == pytest.approx(np.mean(by_hand[key, member]))
