"""Route, then escalate: a router picks who answers first, and a second member is asked where that pays at one price."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from septet.core.caps import Caps, PoolRule
from septet.core.errors import BadParameter, NoCandidate
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Asking, Card, Plan, Rng, Seat, SeatPool, method, param
from septet.core.money import Load
from septet.core.table import Table
from septet.core.types import Completion, Floats, Query, Verdict
from septet.methods.c2_cascade._estimates import Halves, Known, halves, logistic, mean_logp
from septet.methods.c2_cascade._family import Cascade, comparison
from septet.parts.deferral.envelope import Curve, Point, best_pair, sweep
from septet.parts.deferral.scorer import AnswerScorer, Given, fit_scorer
from septet.parts.deferral.supermodels import Priced, price_for
from septet.parts.learning.adam import sigmoid
from septet.parts.learning.features import FeatureKind, Featurizer
from septet.parts.learning.linear import Linear
from septet.parts.learning.rows import Features
from septet.parts.routing.choose import best, net_utility
from septet.parts.routing.plan import embedded

CARD = Card(
    paper="2605.06350",
    title="Is Escalation Worth It? A Decision-Theoretic Characterization of LLM Cascades",
    facets=Facets(
        family=Family.CASCADE,
        strategy=Strategy.SELECTION,
        granularity=Granularity.RESPONSE,
        goal=Goal.COST,
        supervised=True,
        efficiency_aware=True,
    ),
    pool=PoolRule(at_least=2),
    trained=True,
    permutes=False,
    differs=(
        "the paper compares routers with cascades; that the one starts the other is our reading of its findings, that"
        " the first answer is sunk cost and that no chain beats the best pair",
        "confidence is a scorer of answers or their mean log-probability: negentropy, margin and the least token"
        " probability need numbers per token, which outcomes do not hold",
        "the router is a logistic regression on the question's features; the paper's could not be verified",
        "curves of pairs are measured on all questions that were held out, not on those that the router gives to the"
        " first member",
        "if the first member fails, the others are asked by what the router expects of them",
    ),
)

FREE = Priced(0.0, 0.0, 1.0)
"""The price where there is no budget: cost does not count."""

DEAREST = 1e15
"""An infinite price, as a number that can be multiplied by a cost of 0."""


@dataclass(frozen=True)
class State:
    """What was learned. `router`: logits (m,) of a question's features; `scorer` of answers (unused with logp); `cost`
    (m,) expected, in `unit`; `pairs`: for every first and second member what a threshold reaches; the price that the
    budget sets; the mean score and cost on the questions that were held out."""

    featurizer: Featurizer
    router: Linear
    scorer: AnswerScorer | None
    cost: Floats
    unit: str
    pairs: tuple[Curve, ...]
    price: Priced
    score: float
    spent: float

    def after(self, first: int, price: float) -> Point:
        """The best second member and threshold of a first member, at a price."""
        return best_pair([c for c in self.pairs if c.first == first], price)


@method(CARD)
class RouteThenEscalate(Cascade):
    """A router, then the best cascade of two from whom it picks (2605.06350).

    First i = argmax q̂_i(x) − λ·c_i. Then the second member j and the threshold τ maximise Q_ij(τ) − λ·C_ij(τ), the
    mean score and cost of asking i, and j where the confidence in i's answer is < τ, on labelled questions. All
    thresholds obey the one shadow price λ = dQ/dC: the request's `prefer`, else what meets `budget_usd`, else 0.
    Cost: one call, or two. Fails where confidence does not tell right from wrong: then the router answers alone.

    >>> from septet.core.table import Table
    >>> from septet.testing.scripted import drive, seat
    >>> rows = [{"query": f"sum {i}", "model": m, "response": "It is so." if right else "It may be", "score": right,
    ...          "cost_usd": c} for i in range(40) for m, c, right in (("weak", 1e-4, i % 2), ("strong", 1e-3, 1))]
    >>> cascade, rng = RouteThenEscalate(features="surface"), np.random.default_rng(0)
    >>> state, _ = drive(cascade.fit(Table.of(rows), {}, rng), {})
    >>> pool, asked = SeatPool((seat("weak"), seat("strong"))), Query.of("sum 50", prefer=800.0)
    >>> said = {"weak": "It may be", "strong": "It is so."}
    >>> verdict, asks = drive(cascade.plan(asked, pool, state, rng), said)
    >>> verdict.chosen, [a.to.name for (a,) in asks]
    (1, ['weak', 'strong'])
    """

    budget_usd: Annotated[
        float | None, param("What a question may cost on average; none: cost counts as `prefer` says.", gt=0)
    ] = None
    confidence_from: Annotated[
        Literal["text", "text+logp", "logp"],
        param(
            "text: a scorer of question and answer; text+logp: with log-probabilities; logp: their mean alone."
        ),
    ] = "text"
    share: Annotated[
        float,
        param("Share of the questions that fit router and scorer; the rest fit pairs and price.", gt=0, lt=1),
    ] = 0.5
    l2: Annotated[float, param("Squared penalty on the router's weights.", gt=0, le=1000)] = 1.0
    inverse_penalty: Annotated[
        float, param("Inverse strength of the scorer's squared penalty on weights.", gt=0, le=1000)
    ] = 1.0
    features: FeatureKind = "lsa"

    state_type = State

    @property
    def logprobs(self) -> int:  # type: ignore[override]
        """One alternative per token, where log-probabilities are read."""
        return int(self.confidence_from != "text")

    def needs(self) -> Caps:
        return Caps(text=True, logprobs=self.logprobs > 0, topk=self.logprobs)

    def roles(self) -> Mapping[str, Caps]:
        return {"embedder": Caps(embed=True)} if self.features == "embedder" else {}

    def worst(self, query: Query, pool: SeatPool) -> dict[str, Load]:
        """Every member once, if the others fail, and one call of each embedder."""
        loads = super().worst(query, pool)
        for seat in pool.role("embedder") if self.features == "embedder" else ():
            loads[seat.name] = loads.get(seat.name, Load()) + Load(1, 1, 0)
        return loads

    # --- the fit ----------------------------------------------------------------------------------

    def fit(self, table: Table, roles: Mapping[str, tuple[Seat, ...]], rng: Rng) -> Asking[State]:
        """Router and scorer on a share of the questions; curves of pairs and the price of cost on the others."""
        known = Known.of(table)
        if self.budget_usd is not None and known.unit != "usd":
            raise BadParameter(
                "budget_usd", self.budget_usd, "needs outcomes that give cost_usd for every answer"
            )
        seats = roles["embedder"] if self.features == "embedder" else ()
        parts = yield from halves(known, self.features, seats, rng, share=self.share)
        return self._learned(known, parts, rng)

    def _learned(self, known: Known, parts: Halves, rng: Rng) -> State:
        m = known.scores.shape[1]
        fitted, held, x = parts.fitted, parts.held, parts.x
        router = logistic(x[fitted], known.scores[fitted], self.l2)
        scorer = None
        if self.confidence_from != "logp":
            right = known.scores[fitted].ravel() >= 0.5
            scorer = fit_scorer(self._given(known, fitted), right, m, inverse_penalty=self.inverse_penalty)
        confidence = self._confidence(self._given(known, held), scorer).reshape(len(held), m)
        score, cost = known.scores[held], known.cost[held]
        pairs = tuple(
            sweep(i, j, confidence[:, i], score[:, [i, j]], cost[:, [i, j]])
            for i in range(m)
            for j in range(m)
            if i != j
        )
        state = State(
            parts.featurizer,
            router,
            scorer,
            known.cost.mean(axis=0),
            known.unit,
            pairs,
            FREE,
            0.0,
            0.0,
        )
        q = sigmoid(router.outputs(x[held]))

        def at(price: float) -> tuple[float, float]:
            return self._replayed(state, q, confidence, score, cost, price)

        price = state.price
        if self.budget_usd is not None:
            start = 1 / max(float(state.cost.mean()), 1e-12)
            price = price_for(self.budget_usd, lambda p: at(p)[1], start=start)
        (cheap_score, cheap), (dear_score, dear) = at(price.cheap), at(price.dear)
        w = price.share
        return State(
            parts.featurizer,
            router,
            scorer,
            state.cost,
            known.unit,
            pairs,
            price,
            w * cheap_score + (1 - w) * dear_score,
            w * cheap + (1 - w) * dear,
        )

    def _replayed(
        self, state: State, q: Floats, confidence: Floats, score: Floats, cost: Floats, price: float
    ) -> tuple[float, float]:
        """Mean score and cost at a price, on questions (n,) of which all is known, (n, m) each."""
        first = self._first(q, state.cost, price).argmax(axis=1)
        rows = np.arange(len(q))
        second, asked = first.copy(), np.zeros(len(q), dtype=bool)
        for i in np.unique(first).tolist():
            point = state.after(i, price)
            mine = first == i
            second[mine] = point.second
            asked[mine] = confidence[mine, i] < point.threshold
        got = np.where(asked, score[rows, second], score[rows, first])
        spent = cost[rows, first] + np.where(asked, cost[rows, second], 0.0)
        return float(got.mean()), float(spent.mean())

    def _first(self, q: Floats, cost: Floats, price: float) -> Floats:
        """(n, m) a one at the member that answers first."""
        c = np.broadcast_to(cost, q.shape)
        return best(net_utility(q, c, np.full(len(q), price)))

    def _given(self, known: Known, rows: np.ndarray) -> Given:
        """All members' answers to some questions, question by question."""
        m = known.scores.shape[1]
        answers = [known.answers[i][j] for i in rows.tolist() for j in range(m)]
        return Given(
            [known.questions[i] for i in rows.tolist() for _ in range(m)],
            [c.text for c in answers],
            np.tile(np.arange(m, dtype=np.int32), len(rows)),
            np.array([mean_logp(c) if self.logprobs else np.nan for c in answers]),
        )

    def _confidence(self, given: Given, scorer: AnswerScorer | None) -> Floats:
        """(n,) of answers; an unknown log-probability is the least confidence there is."""
        if scorer is None:
            return np.exp(np.where(np.isnan(given.logp), -np.inf, given.logp))
        return scorer.p_right(given)

    # --- the decision -----------------------------------------------------------------------------

    def plan(self, query: Query, pool: SeatPool, state: State, rng: Rng) -> Plan:
        """The router's choice, and at most one more member; where one fails, the next best."""
        if self.features == "embedder":
            x: Features = yield from embedded([query.text], pool.role("embedder"))
        else:
            x = state.featurizer.rows([query.text], [query.task])
        q = sigmoid(state.router.outputs(x))[0]
        drawn = state.price.at(float(rng.random()))
        price = min(drawn if query.prefer is None else query.prefer, DEAREST)
        story = [f"expected quality: {', '.join(f'{n} {p:.2f}' for n, p in zip(pool.names, q, strict=True))}"]
        failed: dict[int, str] = {}
        answer: Completion | None = None
        while answer is None and len(failed) < len(pool.members):
            open_ = np.where(np.isin(np.arange(len(q)), list(failed)), np.nan, q)
            i = int(self._first(open_[None], state.cost, price)[0].argmax())
            story.append(f"at a price of {price:g} {pool.names[i]} was asked first")
            (reply,) = yield [pool.members[i].complete(query, logprobs=self.logprobs)]
            if reply.ok:
                answer = reply.value[0]
            else:
                failed[i] = f"{pool.names[i]}: {reply.error}"
                story.append(f"{pool.names[i]} failed")
        if answer is None:
            raise NoCandidate("every member failed: " + "; ".join(failed.values()))
        found = self._confidence(
            Given([query.text], [answer.text], np.array([i], dtype=np.int32), np.array([self._logp(answer)])),
            state.scorer,
        )
        confidence, point = float(found[0]), state.after(i, price)
        asks = confidence < point.threshold and point.second not in failed
        if np.isfinite(point.threshold):
            story.append(f"confidence {comparison(confidence, point.threshold)}")
        if not asks:
            return Verdict(chosen=0, confidence=confidence, reason="; ".join(story))
        j = point.second
        (reply,) = yield [pool.members[j].complete(query, logprobs=self.logprobs)]
        story.append(f"{pool.names[j]} was asked" if reply.ok else f"{pool.names[j]} was asked, which failed")
        if not reply.ok:
            return Verdict(chosen=0, confidence=confidence, reason="; ".join(story))
        return Verdict(chosen=1, confidence=float(q[j]), reason="; ".join(story))

    def _logp(self, completion: Completion) -> float:
        return mean_logp(completion) if self.logprobs else float("nan")
