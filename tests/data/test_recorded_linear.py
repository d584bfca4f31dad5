"""RouteLLM, IRT-Router, LLM Bandit and the conformal gate on recorded outcomes: numbers of their notes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from recorded import Joined, Read, split

from septet.bench.curves import apgr, call_curve
from septet.core.table import Table
from septet.core.types import Floats
from septet.methods.a1_pretrained.conformal_gate import ConformalGate
from septet.methods.a1_pretrained.irt_router import IrtRouter
from septet.methods.a1_pretrained.llm_bandit import LlmBandit
from septet.methods.a1_pretrained.routellm import RouteLLM
from septet.parts.learning.features import Featurizer
from septet.parts.learning.rows import Features
from septet.parts.routing.records import Known

pytestmark = pytest.mark.data

WEAK, STRONG = "mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview"


class Halves:
    """A table's train and test halves with their features."""

    def __init__(self, table: Table) -> None:
        self.train, self.test = Known.of(split(table, "train")), Known.of(split(table, "test"))
        self.featurizer = Featurizer.of("lsa", self.train.questions)
        self.x: Features = self.featurizer.rows(self.train.questions)
        self.new: Features = self.featurizer.rows(self.test.questions)

    def utility(self, router: Any) -> Floats:
        state = router.learn(self.train, self.featurizer, self.x, np.random.default_rng(0))
        found: Floats = router.utility(self.new, state)
        return found


@pytest.fixture(scope="module")
def two(joined: Joined, read: Read) -> dict[str, Halves]:
    """The MMLU and the GSM8K part of routellm, without the prompts that the authors exclude."""
    flagged = {
        row["query_id"]
        for row in read("routellm/queries", ["query_id", "contaminated"])
        if row["contaminated"]
    }
    table = joined("routellm", columns=["score"]).of_members((WEAK, STRONG))
    clean = np.array([query not in flagged for query in table.queries])
    return {
        task: Halves(table.of_queries(clean & (np.array(table.tasks) == task))) for task in ("mmlu", "gsm8k")
    }


def area(halves: Halves, p: Floats) -> float:
    curve = call_curve(p, *halves.test.scores.T)
    return float(apgr(curve.shares, curve.pgr))


@pytest.mark.parametrize(
    ("task", "router", "value"),
    [("mmlu", "sw", 0.660), ("mmlu", "mf", 0.605), ("gsm8k", "sw", 0.639), ("gsm8k", "mf", 0.644)],
)
def test_apgr_of_routellm(task: str, router: Any, value: float, two: dict[str, Halves]) -> None:
    p = two[task].utility(RouteLLM(router=router))[:, 1]
    assert area(two[task], p) == pytest.approx(value, abs=2e-3)


@pytest.mark.parametrize("task", ["mmlu", "gsm8k"])
def test_random_order_recovers_half_of_the_gap(task: str, two: dict[str, Halves]) -> None:
    rng = np.random.default_rng(0)
    areas = [area(two[task], rng.random(len(two[task].test))) for _ in range(200)]
    assert np.mean(areas) == pytest.approx(0.5, abs=0.02)


def test_a_gate_keeps_its_bound_on_new_questions(two: dict[str, Halves]) -> None:
    halves, gate = two["mmlu"], ConformalGate(alpha=0.3)
    state = gate.learn(halves.train, halves.featurizer, halves.x, np.random.default_rng(0))
    q = gate.utility(halves.new, state)
    n = len(q)
    weights = gate.choose(q, np.full((n, 2), np.nan), np.zeros(n), state, np.random.default_rng(0)).weights
    routed = weights[:, 0] > 0
    assert routed.mean() > 0.5
    assert 1 - halves.test.scores[routed, 0].mean() <= 0.3


@pytest.fixture(scope="module")
def three(joined: Joined) -> Halves:
    return Halves(joined("routerbench3", columns=["score", "cost_usd"], question="question"))


@pytest.mark.parametrize(
    ("router", "score"),
    [
        (IrtRouter(), 0.879),
        (IrtRouter(model="nirt"), 0.879),
        (LlmBandit(decision="supervised"), 0.858),
        (LlmBandit(decision="supervised", epochs=100), 0.880),
    ],
    ids=["mirt", "nirt", "bandit", "bandit, 100 epochs"],
)
def test_routers_on_eleven_members(router: Any, score: float, three: Halves) -> None:
    picked = three.utility(router).argmax(axis=1)
    scores = three.test.scores[np.arange(len(picked)), picked]
    assert scores.mean() == pytest.approx(score, abs=2e-3)
