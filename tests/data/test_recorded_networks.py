"""Network routers on recorded outcomes: numbers of their notes in docs/reproductions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from recorded import Joined, split

from septet.core.table import Table
from septet.core.types import Floats
from septet.engine.offline import decided, predicted, realised
from septet.methods.a1_pretrained._network import NetworkRouter
from septet.methods.a1_pretrained.bench_coe import BenchCoe
from septet.methods.a1_pretrained.hybrid_llm import HybridLlm
from septet.methods.a1_pretrained.routing_lessons import RoutingLessons
from septet.methods.a1_pretrained.routoo import Routoo
from septet.methods.a1_pretrained.selectllm import Selectllm
from septet.methods.a1_pretrained.to_router import ToRouter
from septet.methods.a1_pretrained.zooter import Zooter
from septet.parts.answers.extract import canonical
from septet.parts.answers.vote import shares, winner
from septet.parts.learning.features import Featurizer
from septet.parts.learning.rows import Features
from septet.parts.routing.labels import right
from septet.parts.routing.records import Known

pytestmark = pytest.mark.data

CLOSE = 1.1e-3
"""Numbers of the notes are rounded to three digits; another linear algebra may move one choice."""


@dataclass(frozen=True)
class Featured:
    """A set in its two halves, the features of both, and what is known of the first."""

    known: Known
    test: Table
    featurizer: Featurizer
    x: Features
    x_test: Features

    @classmethod
    def of(cls, table: Table) -> Featured:
        train, test = split(table, "train"), split(table, "test")
        known = Known.of(train)
        featurizer = Featurizer.of("lsa", known.questions, known.tasks)
        rows = featurizer.rows(known.questions, known.tasks), featurizer.rows(test.questions, test.tasks)
        return cls(known, test, featurizer, *rows)

    def fitted(self, router: NetworkRouter) -> Any:
        return router.learn(self.known, self.featurizer, self.x, np.random.default_rng(0))

    def routed(self, router: NetworkRouter) -> tuple[float, Floats]:
        """The mean score on the test questions, and the predicted quality (n, m)."""
        state = self.fitted(router)
        view = predicted(router, state, self.x_test, self.test.members)
        weights = decided(router, state, view, [state.prefer], np.random.default_rng(0))[0]
        return float(realised(weights, self.test.matrix("score")).mean()), view.q

    def auc(self, q: Floats) -> float:
        """How well q (n, m) tells right from wrong, over all test questions and members."""
        from sklearn.metrics import roc_auc_score

        return float(roc_auc_score(right(self.test.matrix("score")).ravel(), q.ravel()))


@pytest.fixture(scope="module")
def nine(joined: Joined) -> Featured:
    return Featured.of(joined("llmrouter9", columns=["score"]))


@pytest.mark.parametrize(
    ("router", "score", "auc"),
    [
        (Zooter(), 0.625, 0.730),
        (BenchCoe(), 0.575, 0.766),
        (BenchCoe(level="query"), 0.607, 0.787),
        (ToRouter(), 0.586, 0.722),
        (ToRouter(network="linear"), 0.602, 0.713),
        (Routoo(), 0.615, 0.789),
        (RoutingLessons(), 0.583, 0.787),
    ],
    ids=lambda value: value.name if isinstance(value, NetworkRouter) else "",
)
def test_score_and_auc_on_nine_members(
    router: NetworkRouter, score: float, auc: float, nine: Featured
) -> None:
    # the constant predictor has an AUC of .688
    found, q = nine.routed(router)
    assert found == pytest.approx(score, abs=6e-3)  # two of 381 questions
    assert nine.auc(q) == pytest.approx(auc, abs=3e-3)


def test_a_head_of_random_weights_knows_nothing(nine: Featured) -> None:
    state = nine.fitted(Routoo())
    rng = np.random.default_rng(1)
    untrained = replace(state, weights=rng.normal(size=state.weights.shape), bias=np.zeros_like(state.bias))
    assert nine.auc(Routoo().utility(nine.x_test, untrained)) < 0.55


def test_a_vote_of_the_three_most_confident_experts(joined: Joined) -> None:
    four = Featured.of(joined("more_qa", columns=["score", "answer"]))
    state = four.fitted(Selectllm())
    q = Selectllm().utility(four.x_test, state)
    weights = Selectllm().choose(q, 0 * q, np.zeros(len(q)), state, np.random.default_rng(0)).weights
    assert vote(four.test, weights) == pytest.approx(0.531, abs=3e-3)
    assert vote(four.test, np.full(q.shape, 0.25)) == pytest.approx(0.524, abs=CLOSE)
    assert four.auc(q) == pytest.approx(0.683, abs=3e-3)


def vote(test: Table, weights: Floats) -> float:
    """The mean score of the answers with the most weight (n, m) behind them."""
    scores = test.matrix("score")
    said = np.full(scores.shape, "", dtype=object)
    said[test.query, test.member] = [canonical(str(a)) or "(no answer)" for a in test.answer]
    won = []
    for row, score, weight in zip(said, scores, weights, strict=True):
        voters = np.flatnonzero(weight > 0)
        posterior = shares(row[voters].tolist(), weight[voters])
        won.append(score[voters[posterior.of.index(winner(posterior))]])
    return float(np.mean(won))


def test_a_threshold_set_on_few_questions_loses_more_than_it_should(joined: Joined) -> None:
    arms = ["mistralai/mistral-7b-instruct-v0.3", "google/gemma-2-27b-it"]
    two = Featured.of(joined("nq6", columns=["score"], model=arms).of_members(arms))
    score, _ = two.routed(HybridLlm())
    strong = float(two.test.matrix("score")[:, 1].mean())
    assert strong == pytest.approx(0.434, abs=CLOSE)
    assert score == pytest.approx(0.412, abs=6e-3)
