"""MoRE and semantic entropy on recorded answers: the numbers of docs/reproductions/{more,semantic-entropy}.md."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from recorded import Joined, Read, split

from septet.core.method import SeatPool
from septet.core.types import Floats, Query
from septet.methods.c1_noncascade.more import More
from septet.methods.c1_noncascade.semantic_entropy import SemanticEntropy
from septet.parts.stats.calibration import auc
from septet.testing.scripted import drive, seat

pytestmark = pytest.mark.data

EXPERTS = ("factual", "multihop", "math", "commonsense")


def macro(values: Floats, tasks: list[str]) -> float:
    """The mean over tasks of the mean of each."""
    of = np.array(tasks)
    return float(np.mean([values[of == task].mean() for task in dict.fromkeys(tasks)]))


def test_the_authors_forest_the_vote_and_the_oracle_of_four_experts_come_out(read: Read) -> None:
    tasks = {row["query_id"]: row["task"] for row in read("more_qa/queries", ["query_id", "task"])}
    by: dict[str, dict[str, Any]] = {}
    for row in read("more_qa/outcomes"):
        by.setdefault(row["query_id"], {})[row["model"]] = row
    rows = [[by[q][name] for name in EXPERTS] for q in by]
    of = [tasks[q] for q in by]
    score = np.array([[e["score"] for e in row] for row in rows])
    picked = np.arange(len(rows))

    def by_confidence(column: str) -> float:
        return macro(score[picked, np.array([[e[column] for e in row] for row in rows]).argmax(axis=1)], of)

    assert score.shape == (4790, 4)
    assert by_confidence("confidence") == pytest.approx(0.576, abs=5.1e-4)
    assert by_confidence("confidence_no_agreement") == pytest.approx(0.550, abs=1e-3)  # ties
    assert macro(score.max(axis=1), of) == pytest.approx(0.699, abs=5.1e-4)
    # the vote of the data's notes: equal but for capitals, a tie to the first expert in the order of the files
    said = [[str(e["answer"]).lower() for e in row] for row in rows]
    voted = np.array([np.argmax([row.count(a) for a in row]) for row in said])
    assert macro(score[picked, voted], of) == pytest.approx(0.522, abs=5.1e-4)


@pytest.mark.parametrize(
    ("agree", "right", "curve"), [(True, 0.567, 0.831), (False, 0.532, 0.687)], ids=["agreement", "alone"]
)
def test_a_forest_of_ours_is_as_good_as_the_authors_on_questions_that_it_has_not_seen(
    agree: bool, right: float, curve: float, joined: Joined
) -> None:
    table = joined("more_qa", columns=["answer", "score"])
    method = More(agree=agree)
    state = method.fit(split(table, "train"), {}, np.random.default_rng(0))
    test = split(table, "test")
    asked: list[dict[str, tuple[str, float]]] = [{} for _ in test.queries]
    for q, m, answer, score in zip(
        test.query.tolist(), test.member.tolist(), test.answer, test.score.tolist(), strict=True
    ):
        asked[q][test.members[m]] = (str(answer or ""), score)
    chosen, trust = [], []
    pool = SeatPool(tuple(map(seat, EXPERTS)))
    for question, said in zip(test.questions, asked, strict=True):
        # what the experts said is their final answer already: the plan reads it as one
        answers = {name: f"Answer: {said[name][0]}" for name in EXPERTS}
        verdict, _ = drive(method.plan(Query.of(question), pool, state, np.random.default_rng(0)), answers)
        assert verdict.chosen is not None and verdict.confidence is not None
        chosen.append(said[EXPERTS[verdict.chosen]][1])
        trust.append(verdict.confidence)
    assert len(chosen) == 2454
    # other versions of scikit-learn grow other trees
    assert np.mean(chosen) == pytest.approx(right, abs=0.01)
    assert float(auc(np.array(trust), np.array(chosen))) == pytest.approx(curve, abs=0.015)


def test_semantic_entropy_of_ten_samples_tells_right_from_wrong_about_as_well_as_the_share_of_votes(
    read: Read,
) -> None:
    date = {
        row["query_id"] for row in read("mot_cascade/queries", ["query_id", "task"]) if row["task"] == "date"
    }
    samples: dict[str, list[tuple[int, str, float]]] = {}
    for row in read("mot_cascade/outcomes", model={"gpt-3.5-turbo"}, prompt={"cot1"}, sampling={"n=40"}):
        if row["query_id"] in date and row["sample_id"] < 10:
            samples.setdefault(row["query_id"], []).append(
                (row["sample_id"], str(row["answer"]), row["score"])
            )
    method = SemanticEntropy(samples=10, weights="counts", representative="first")
    right, sure, share = [], [], []
    for rows in samples.values():
        rows.sort()
        answers = [f"Answer: {answer}" for _, answer, _ in rows]
        plan = method.plan(Query.of("Which date?"), SeatPool((seat("gpt"),)), None, np.random.default_rng(0))
        verdict, _ = drive(plan, {"gpt": answers})
        assert verdict.chosen is not None and verdict.confidence is not None and verdict.posterior is not None
        right.append(rows[verdict.chosen][2])
        sure.append(verdict.confidence)
        share.append(float(verdict.posterior.p.max()))
    assert len(right) == 369
    assert np.mean(right) == pytest.approx(0.634, abs=5.1e-4)
    assert float(auc(np.array(sure), np.array(right))) == pytest.approx(0.739, abs=5.1e-4)
    assert float(auc(np.array(share), np.array(right))) == pytest.approx(0.741, abs=5.1e-4)
    assert math.isclose(max(sure), 1.0)
