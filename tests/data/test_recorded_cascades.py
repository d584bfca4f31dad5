"""FrugalGPT on recorded answers: the numbers of docs/reproductions/frugal-gpt.md on Natural Questions, six members."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import Joined

from septet.core.method import Ask, SeatPool
from septet.core.table import Table
from septet.core.types import Completion, Query
from septet.methods.c2_cascade.frugal_gpt import Frugal, FrugalGPT
from septet.parts.routing.scorer import Given
from septet.testing.scripted import drive, seat

pytestmark = pytest.mark.data

BEST = "gemma-2-27b"


@pytest.fixture(scope="module")
def halves(joined: Joined) -> dict[str, Table]:
    table = joined("nq6", columns=["response", "score", "cost_usd"])
    of = np.array(table.splits)
    return {name: table.of_queries(of == name) for name in ("train", "test")}


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
def test_the_budget_holds_where_it_was_fitted_and_is_exceeded_by_at_most_a_twelfth_elsewhere(
    of_best: float, score: float, spent: float, halves: dict[str, Table]
) -> None:
    budget = of_best * column(halves["train"], BEST, "usd")
    method, state = fitted(halves["train"], budget)
    assert state.chain.cost <= budget
    scores, usd = answered(method, state, halves["test"])
    assert np.mean(usd) <= budget * 13 / 12
    assert np.mean(scores) == pytest.approx(score, abs=5.1e-4)
    assert np.mean(usd) / column(halves["test"], BEST, "usd") == pytest.approx(spent, abs=5.1e-3)


def auc(p: np.ndarray, right: np.ndarray) -> float:
    """The share of pairs of a right and a wrong answer in which the right one has the higher p; ties half."""
    ranked = np.searchsorted(np.sort(p), p, side="left") + np.searchsorted(np.sort(p), p, side="right")
    n, n_right = len(p), int(right.sum())
    return float((ranked[right].sum() / 2 - n_right * n_right / 2) / (n_right * (n - n_right)))
