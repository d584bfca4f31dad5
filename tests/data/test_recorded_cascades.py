"""FrugalGPT on recorded answers: the numbers of docs/reproductions/frugal-gpt.md on Natural Questions, six members."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from recorded import Joined, split

from septet.core.method import Ask, SeatPool
from septet.core.table import Table
from septet.core.types import Completion, Floats, Query
from septet.methods.c2_cascade.frugal_gpt import Frugal, FrugalGPT
from septet.parts.deferral.scorer import Given
from septet.parts.routing.records import answered as first_answers
from septet.testing.scripted import drive, seat

pytestmark = pytest.mark.data

BEST = "gemma-2-27b"


@pytest.fixture(scope="module")
def halves(joined: Joined) -> dict[str, Table]:
    table = joined("nq6", columns=["response", "score", "cost_usd"])
    return {name: split(table, name) for name in ("train", "test")}


def column(table: Table, member: str, name: str) -> float:
    """A member's mean of a numeric column."""
    (index,) = [i for i, m in enumerate(table.members) if member in m]
    return float(table.matrix(name)[:, index].mean())


def fitted(train: Table, budget: float) -> tuple[FrugalGPT, Frugal]:
    method = FrugalGPT(features="text", budget_usd=budget)
    return method, method.fit(train, {}, np.random.default_rng(0))


def answered(method: FrugalGPT, state: Frugal, test: Table) -> tuple[list[float], list[float]]:
    """Score and USD of every test question, each put through the plan with the recorded answers."""
    pool = SeatPool(tuple(seat(name) for name in test.members))
    at = {(int(q), int(m)): row for row, (q, m) in enumerate(zip(test.query, test.member, strict=True))}
    scores, usd = [], []
    for i, text in enumerate(test.questions):
        asked: list[int] = []

        def script(ask: Ask, i: int = i, asked: list[int] = asked) -> Any:
            asked.append(at[i, test.members.index(ask.to.name)])
            return [Completion(member=ask.to.name, text=str(test.text[asked[-1]]))]

        verdict, _ = drive(method.plan(Query.of(text), pool, state, np.random.default_rng(0)), script)
        assert verdict.chosen is not None
        scores.append(float(test.score[asked[verdict.chosen]]))
        usd.append(float(test.usd[asked].sum()))
    return scores, usd


@pytest.mark.parametrize(("of_best", "score", "spent"), [(0.5, 0.159, 0.54), (1.0, 0.429, 1.06)])
def test_the_budget_holds_on_the_questions_of_the_fit_and_roughly_on_others(
    of_best: float, score: float, spent: float, halves: dict[str, Table]
) -> None:
    budget = of_best * column(halves["train"], BEST, "usd")
    method, state = fitted(halves["train"], budget)
    assert state.chain.cost <= budget
    scores, usd = answered(method, state, halves["test"])
    # the test questions are dearer: 4 % for the best member alone, and up to 13 % of the budget in the note
    assert np.mean(usd) <= 1.13 * budget
    assert np.mean(scores) == pytest.approx(score, abs=5.1e-4)
    assert np.mean(usd) / column(halves["test"], BEST, "usd") == pytest.approx(spent, abs=5.1e-3)


def test_the_scorer_beats_a_constant_per_member_which_beats_nothing_learned(halves: dict[str, Table]) -> None:
    _, state = fitted(halves["train"], 1.0)
    rows = first_answers(halves["test"])
    right = rows.score >= 0.5
    given = Given(
        [rows.questions[q] for q in rows.query],
        [str(t) for t in rows.text],
        rows.member,
        rows.numbers["logp"],
    )
    shares = (halves["train"].matrix("score") >= 0.5).mean(axis=0)  # (m,) constant per member
    untrained = replace(state.scorer, weights=0 * state.scorer.weights, bias=0 * state.scorer.bias)
    assert auc(state.scorer.p_right(given), right) == pytest.approx(0.836, abs=5.1e-4)
    assert auc(shares[rows.member], right) == pytest.approx(0.696, abs=5.1e-4)
    assert auc(untrained.p_right(given), right) == 0.5


def auc(p: Floats, right: NDArray[np.bool_]) -> float:
    """The share of pairs of a right and a wrong answer in which the right one has the higher p; ties half.

    p and right are (n,). Over the pairs, each right answer counts the wrong ones below it and half of its equals.
    """
    wrong = np.sort(p[~right])
    below = np.searchsorted(wrong, p[right], side="left") + np.searchsorted(wrong, p[right], side="right")
    return float(below.mean() / 2 / len(wrong))
