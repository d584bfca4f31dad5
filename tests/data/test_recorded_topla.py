"""LLM-TOPLA on recorded option letters: the numbers of docs/reproductions/llm-topla.md."""

from __future__ import annotations

import numpy as np
import pytest
from recorded import Joined, split

from septet.core.method import SeatPool
from septet.core.types import Query
from septet.methods.c1_noncascade.llm_topla import LlmTopla
from septet.testing.scripted import drive, seat

pytestmark = pytest.mark.data

THREE = ("Meta-Llama-3.1-70B-Instruct", "gemini-1.5-flash-002", "gemini-1.5-pro-002")
"""The team of three that is picked from 28."""


@pytest.mark.parametrize(
    ("of", "slots", "team", "members", "n", "right", "best"),
    [
        ("mmlu_probs", 4, 5, (), 1489, 0.438, 0.430),
        ("mmlu_pro", 10, 3, THREE, 5799, 0.723, 0.699),
    ],
)
def test_the_network_does_better_than_the_best_member_where_members_differ(
    of: str,
    slots: int,
    team: int,
    members: tuple[str, ...],
    n: int,
    right: float,
    best: float,
    joined: Joined,
) -> None:
    only = {"model": set(members)} if members else {}
    # questions of these sets have no text here: the network reads answers only
    table = joined(of, columns=["answer", "score"], question="query_id", **only)
    method = LlmTopla(samples=1, team=team, answers="options", slots=slots)
    train, test = split(table, "train"), split(table, "test")
    state = method.fit(train, {}, np.random.default_rng(0))
    said: list[dict[str, tuple[str, float]]] = [{} for _ in test.queries]
    for q, m, answer, score in zip(
        test.query.tolist(),
        test.member.tolist(),
        test.answer,
        np.nan_to_num(test.score).tolist(),
        strict=True,
    ):
        said[q][test.members[m]] = (str(answer or ""), score)
    pool = SeatPool(tuple(map(seat, state.members)))
    got = []
    for answers in said:
        plan = method.plan(Query.of("?"), pool, state, np.random.default_rng(0))
        verdict, _ = drive(plan, {name: answers[name][0] for name in state.members})
        assert verdict.chosen is not None
        got.append(answers[state.members[verdict.chosen]][1])
    assert len(got) == n
    assert np.mean(got) == pytest.approx(right, abs=0.008)
    trusted = test.members[int(np.nanmean(train.matrix("score"), axis=0).argmax())]
    assert np.mean([answers[trusted][1] for answers in said]) == pytest.approx(best, abs=5.1e-4)
