"""SelectLLM: the few members that are most likely right answer, and their answers are put to the vote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np

from septet.core.caps import Caps
from septet.core.errors import NoCandidate
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy, Tasks, Utility
from septet.core.method import Asking, Card, Choice, Plan, Rng, SeatPool, method, param
from septet.core.types import Floats, Query, Verdict
from septet.methods.a1_pretrained._network import (
    Batch,
    Epochs,
    LearningRate,
    MaxLength,
    NetworkKind,
    NetworkRouter,
    Penalty,
)
from septet.parts.answers import vote as votes
from septet.parts.learning.features import FeatureKind
from septet.parts.learning.targets import Targets
from septet.parts.routing.choose import net_utility, shares, top
from septet.parts.routing.labels import RIGHT, majority_right
from septet.parts.routing.network import Head
from septet.parts.routing.records import Known

CARD = Card(
    paper="2408.08545",
    title="SelectLLM: Query-Aware Efficient Selection Algorithm for Large Language Models",
    facets=Facets(
        family=Family.PRETRAINED,
        strategy=Strategy.SELECTION,
        granularity=Granularity.RESPONSE,
        goal=Goal.PERFORMANCE,
        supervised=True,
        tasks=Tasks.EXACT_MATCH,
        efficiency_aware=True,
        utility=Utility.DISCRETE,
    ),
    trained=True,
    differs=(
        "by default a linear head on features stands in for the paper's RoBERTa; network = encoder fine-tunes one",
        "how many members are selected is not given where we could read; 3 is ours",
        "equal confidences and equal votes go to the first member; the paper prefers the one of lower latency",
        "where nobody is predicted to be right, the most confident member answers alone under labelled-max",
        "each selected member answers once; the paper's label is the majority of ten samples, which is what the"
        " fit uses where the table has samples",
        "the vote is its own only where the ensemble has no `then` method",
        "the price of cost is ours: the paper has none",
    ),
)


@method(CARD)
class Selectllm(NetworkRouter):
    """Multi-label classification, then a subset and a vote (2408.08545; the classifier from the released code).

    c(x) = sigmoid of one output per member, (m,), fitted by binary cross-entropy to whether the majority of the
    member's samples is right. labelled-max: the `size` most confident among those with c > ½; max: the `size`
    most confident; weighted-max: the same, and votes weigh c. Weights (n, m) of the set add up to one; all of
    it is drawn and goes to the `then` method, or to a weighted vote over equal final answers.
    Cost: up to `size` answers, and one product with the head or one pass of the encoder.
    Fails where members err alike, and where answers have no comparable end.

    >>> confidences = np.array([[.9, .6, .55]])
    >>> cost, free, rng = np.zeros((1, 3)), np.zeros(1), np.random.default_rng(0)
    >>> Selectllm().choose(confidences, cost, free, None, rng).weights.round(3).tolist()
    [[0.439, 0.293, 0.268]]
    >>> Selectllm(policy="labelled-max", size=2).choose(confidences, cost, free, None, rng).weights.tolist()
    [[0.5, 0.5, 0.0]]
    """

    policy: Annotated[
        Literal["labelled-max", "max", "weighted-max"],
        param(
            "Who votes, and with what weight: the likely right ones, the most confident, or those by confidence."
        ),
    ] = "weighted-max"
    size: Annotated[int, param("Members that answer at most.", ge=1, le=100)] = 3
    network: NetworkKind = "linear"
    features: FeatureKind = "lsa"
    l2: Penalty = 3e-3
    lr: LearningRate = 1e-6
    epochs: Epochs = 30
    batch: Batch = 128
    max_length: MaxLength = 128

    state_type = Head
    quality = "probability of being right"

    def targets(self, known: Known) -> Targets:
        """(r, m) whether the majority of a member's samples is right."""
        return Targets.even(majority_right(known), "bce")

    def choose(self, q: Floats, c: Floats, prefer: Floats, state: Any, rng: Rng) -> Choice:
        """The set and its weights, from confidences q (n, m)."""
        net = net_utility(q, c, prefer)
        if self.policy == "labelled-max":
            positive = np.where(q > RIGHT, net, np.nan)
            nobody = np.isnan(positive).all(axis=1, keepdims=True)
            return Choice(np.where(nobody, top(net, 1), top(positive, self.size)), draw="all")
        picked = top(net, self.size)
        if self.policy == "max":
            return Choice(picked, draw="all")
        return Choice(shares(q, picked > 0, "score"), draw="all")

    def offers(self, members: Sequence[Caps]) -> Caps:
        """Text of a vote, not a member's own stream."""
        return Caps(text=True, samples=True, seed=all(m.seed for m in members))

    def plan_many(self, queries: Sequence[Query], pool: SeatPool, state: Any, rng: Rng) -> Asking[list[Plan]]:
        """The router's plan; the set votes here where the ensemble says nothing else."""
        voting = pool if pool.then_ is not None else replace(pool, then_=vote)
        return (yield from super().plan_many(queries, voting, state, rng))


def vote(query: Query, pool: SeatPool, rng: Rng) -> Plan:
    """Every member of the pool answers; the final answer with the most weight of seats behind it wins."""
    replies = yield [m.complete(query) for m in pool.members]
    answered = [(m, r.value[0]) for m, r in zip(pool.members, replies, strict=True) if r.ok]
    if not answered:
        raise NoCandidate("every member failed: " + "; ".join(str(r.error) for r in replies))
    posterior = votes.shares(
        [votes.outcome(c) for _, c in answered], np.array([m.weight for m, _ in answered])
    )
    best = votes.winner(posterior)
    said = ", ".join(f"{m.name} ({m.weight:.3g})" for m, _ in answered)
    failed = "".join(f"; {r.error}" for r in replies if not r.ok)
    return Verdict(
        chosen=posterior.of.index(best),
        posterior=posterior,
        confidence=float(posterior.p[best]),
        reason=f"of {said}, {posterior.p[best]:.3g} of the weight says {posterior.classes[best]!r}{failed}",
    )
