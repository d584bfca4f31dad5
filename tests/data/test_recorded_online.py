"""Decisions and online routers on recorded outcomes: numbers of the notes on metallm, forc, homo-router, blending."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from recorded import Joined, split

from septet.core.method import SeatPool
from septet.core.table import Table
from septet.core.types import Floats
from septet.engine.offline import Predicted, predicted, realised
from septet.methods.a1_pretrained.forc import Forc
from septet.methods.a1_pretrained.homo_router import HomoRouter
from septet.methods.a1_pretrained.metallm import MetaLLM
from septet.methods.a2_nonpretrained.blending import Blending
from septet.parts.learning.features import Featurizer
from septet.parts.routing.calibrate import mean_cost, price_for_budget
from septet.parts.routing.records import Known
from septet.testing.scripted import seat

pytestmark = pytest.mark.data

RNG = np.random.default_rng(0)


@dataclass(frozen=True)
class Half:
    """Known questions with their features x, and test questions with features, scores and costs."""

    known: Known
    featurizer: Featurizer
    x: Floats
    rows: Floats
    test: Table

    def fitted(self, router: Any) -> tuple[Any, Predicted]:
        state = router.learn(self.known, self.featurizer, self.x, np.random.default_rng(0))
        return state, predicted(router, state, self.rows, self.known.members)

    def score(self, weights: Floats) -> float:
        return float(realised(weights, self.test.matrix("score")).mean())

    def usd(self, weights: Floats) -> float:
        return float(realised(weights, self.test.matrix("usd")).mean())


@pytest.fixture(scope="module")
def three(joined: Joined) -> Half:
    table = joined("routerbench3", columns=["score", "cost_usd"], question="question")
    known, test = Known.of(split(table, "train")), split(table, "test")
    featurizer = Featurizer.of("lsa", known.questions)
    x, rows = featurizer.rows(known.questions), featurizer.rows(test.questions)
    assert isinstance(x, np.ndarray) and isinstance(rows, np.ndarray)
    return Half(known, featurizer, x, rows, test)


def chosen(router: Any, state: Any, view: Predicted) -> Floats:
    weights: Floats = router.choose(view.q, view.c, np.zeros(len(view.q)), state, RNG).weights
    return weights


@pytest.mark.parametrize(
    ("router", "score", "usd"),
    [
        (MetaLLM(), 0.874, 0.825),
        (MetaLLM(alpha=0.0, price=0.3), 0.807, 0.068),
        (Forc(), 0.880, 0.995),
        (Forc(strategy="threshold", threshold=0.8), 0.824, 0.467),
        (HomoRouter(), 0.878, 0.947),
        (HomoRouter(strategy="cost-saving", epsilon=0.05), 0.859, 0.586),
    ],
    ids=lambda value: value.name if hasattr(value, "name") else None,
)
def test_quality_and_cost_on_eleven_members(router: Any, score: float, usd: float, three: Half) -> None:
    # cost in units of the best single member on train; libraries of another version may move a few questions
    state, view = three.fitted(router)
    weights = chosen(router, state, view)
    best = int(np.nanmean(three.known.scores, axis=0).argmax())
    assert three.score(weights) == pytest.approx(score, abs=3e-3)
    assert three.usd(weights) / float(three.test.matrix("usd")[:, best].mean()) == pytest.approx(
        usd, abs=0.02
    )


def test_a_program_spends_its_budget_where_it_is_worth_more_than_the_greedy_rule(three: Half) -> None:
    state, view = three.fitted(Forc())
    best = int(np.nanmean(three.known.scores, axis=0).argmax())
    budget = 0.25 * float(three.known.spending.usd[best]) * len(view.q)
    program = chosen(Forc(strategy="ilp", budget_usd=budget), state, view)
    greedy = chosen(Forc(strategy="greedy", budget_usd=budget), state, view)
    for weights in (program, greedy):
        assert (weights * view.c).sum() <= budget * (1 + 1e-6)
    assert (program * view.q).sum() > (greedy * view.q).sum()
    assert three.score(program) == pytest.approx(0.837, abs=3e-3)
    assert three.score(greedy) == pytest.approx(0.243, abs=5e-3)


def test_the_price_for_a_budget_is_the_exact_step_on_thousands_of_answers(three: Half) -> None:
    _, view = three.fitted(HomoRouter())
    budget = 0.5 * mean_cost(view.q, view.c, 0.0)
    price = price_for_budget(view.q, view.c, budget)
    assert mean_cost(view.q, view.c, price) <= budget
    assert mean_cost(view.q, view.c, float(np.nextafter(price, 0))) > budget


def test_blending_is_the_random_baseline(three: Half) -> None:
    pool = SeatPool(tuple(seat(name) for name in three.known.members))
    weights = Blending().featurise([None] * len(three.rows), pool, None)  # type: ignore[list-item]
    assert isinstance(weights, np.ndarray)
    assert three.score(weights) == pytest.approx(three.test.matrix("score").mean())
    assert three.score(weights) == pytest.approx(0.686, abs=5e-4)
