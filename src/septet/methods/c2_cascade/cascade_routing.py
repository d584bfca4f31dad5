"""Cascade routing: after every answer, run whichever member is worth its cost, or stop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from septet.methods.c2_cascade._estimates import Estimates, Halves, Known, Learned, halves, learn
from septet.methods.c2_cascade._family import Cascade, Tried
from septet.parts.deferral.supermodels import (
    Believed,
    Best,
    Priced,
    Worth,
    best_set,
    gaussian_points,
    price_for,
)
from septet.parts.learning.features import FeatureKind
from septet.parts.learning.rows import Features
from septet.parts.routing.plan import embedded

CARD = Card(
    paper="2410.10347",
    title="A Unified Approach to Routing and Cascading for LLMs",
    facets=Facets(
        family=Family.CASCADE,
        strategy=Strategy.SELECTION,
        granularity=Granularity.RESPONSE,
        goal=Goal.COST,
        supervised=True,
        efficiency_aware=True,
    ),
    pool=PoolRule(at_least=2, order="cost"),
    trained=True,
    permutes=False,
    differs=(
        "one price of cost for all steps, found by bisection and mixed to meet the budget; the paper then searches one"
        " for each step (TPE)",
        "expected costs are each member's mean in the outcomes; the paper also estimates them per question",
        "answers are texts: they are read by their length, end, log-probability, own confidence and agreement; the"
        " paper's classifiers give probabilities, compared by entropy and Jensen–Shannon divergence",
        "estimates are fitted on one half of the questions, covariances and the price on the other",
        "128 Sobol points instead of 100, since Sobol sequences are balanced at powers of two",
        "strategy = threshold has one threshold on the last answer's expected quality; the released code has one for"
        " each member",
        "the cheapest member of the best set is run; the released code takes the set's first, which is the same only"
        " where members are sorted by cost",
        "a member that fails is left out of all further sets",
    ),
)

N_POINTS = 128
"""Sobol points for E[max]."""

FREE = Priced(0.0, 0.0, 1.0)
"""The price where there is no budget: cost does not count."""

DEAREST = 1e15
"""An infinite price, as a number that can be multiplied by a cost of 0."""


@dataclass(frozen=True)
class State:
    """What was learned: the estimates, expected `cost` (m,) in `unit`, normal `points` (n, m), the price that the
    budget sets, the `threshold` of that strategy, and the mean score and cost on the questions that were held out."""

    estimates: Estimates
    cost: Floats
    unit: str
    points: Floats
    price: Priced
    threshold: float
    score: float
    spent: float


@method(CARD)
class CascadeRouting(Cascade):
    """Routing and cascading as one (2410.10347, section 4).

    After the members R ran, q̂ (m,) are the expected scores and Σ (m, m) their covariance; the best set is
    argmax_{S ⊇ R} E[max_{i ∈ S} q̂_i] − λ·Σ_{i ∈ S} ĉ_i. If it is R, the answer with the largest q̂ in R is
    returned; else the cheapest member of S that is missing is run. strategy: all sets (cascade-routing), the first ones
    in the pool's order (cascade), single members (routing), or the pool's order until q̂ ≥ a threshold (threshold).
    λ is the request's `prefer`, else what meets `budget_usd`, else 0. Cost: between one call and `depth`.
    Fails where answers do not show how good they are: then it is a router at best.

    >>> from septet.core.table import Table
    >>> from septet.testing.scripted import drive, seat
    >>> rows = [{"query": f"sum {i}", "model": m, "response": "It is so." if right else "It may be", "score": right,
    ...          "cost_usd": c} for i in range(40) for m, c, right in (("weak", 1e-4, i % 2), ("strong", 1e-3, 1))]
    >>> router, rng = CascadeRouting(features="surface"), np.random.default_rng(0)
    >>> state, _ = drive(router.fit(Table.of(rows), {}, rng), {})
    >>> pool, asked = SeatPool((seat("weak"), seat("strong"))), Query.of("sum 50", prefer=800.0)
    >>> said = {"weak": "It may be", "strong": "It is so."}
    >>> verdict, asks = drive(router.plan(asked, pool, state, rng), said)
    >>> verdict.chosen, [a.to.name for (a,) in asks]
    (1, ['weak', 'strong'])
    >>> drive(router.plan(asked, pool, state, rng), said | {"weak": "It is so."})[0].chosen
    0
    """

    strategy: Annotated[
        Literal["cascade-routing", "cascade", "routing", "threshold"], param("Which sets may be run.")
    ] = "cascade-routing"
    ahead: Annotated[
        Literal["full", "greedy", "means"],
        param(
            "full: E[max] of all sets; greedy: of one member more; means: the largest mean, without doubt."
        ),
    ] = "full"
    depth: Annotated[int, param("The most members that are run.", ge=1, le=10)] = 5
    budget_usd: Annotated[
        float | None, param("What a question may cost on average; none: cost counts as `prefer` says.", gt=0)
    ] = None
    answers: Annotated[
        Literal["text", "text+logp"],
        param("What is read from answers; log-probabilities must be offered by all."),
    ] = "text"
    share: Annotated[
        float,
        param("Share of the questions that fit the estimates; the rest fit doubt and price.", gt=0, lt=1),
    ] = 0.5
    l2: Annotated[float, param("Squared penalty on the weights of the estimates.", gt=0, le=1000)] = 1.0
    features: FeatureKind = "lsa"

    state_type = State

    @property
    def logprobs(self) -> int:  # type: ignore[override]
        """One alternative per token, where log-probabilities are read."""
        return int(self.answers == "text+logp")

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
        """Estimates on a share of the questions; their doubt and the price of cost on the others."""
        known = Known.of(table)
        if self.budget_usd is not None and known.unit != "usd":
            raise BadParameter(
                "budget_usd", self.budget_usd, "needs outcomes that give cost_usd for every answer"
            )
        seats = roles["embedder"] if self.features == "embedder" else ()
        parts = yield from halves(known, self.features, seats, rng, share=self.share)
        return self._learned(known, parts, rng)

    def _learned(self, known: Known, parts: Halves, rng: Rng) -> State:
        depth = 1 if self.strategy == "routing" else self.depth
        made = learn(known, parts, rng, depth=depth, l2=self.l2, logp=self.logprobs > 0)
        score, cost = known.scores[made.held_out], known.cost[made.held_out]
        expected_cost = known.cost.mean(axis=0)
        points = gaussian_points(N_POINTS, len(expected_cost), int(rng.integers(2**31)))
        price, at = FREE, 0.0
        if self.strategy == "threshold":
            at, reached, spent = self._threshold(made, score, cost)
        else:
            worth = Worth.of(
                made.quality,
                made.low(),
                points,
                expected_cost,
                sets=self.strategy,
                ahead=self.ahead,
                depth=depth,
            )
            price, reached, spent = self._priced(worth, score, cost)
        return State(made.estimates, expected_cost, known.unit, points, price, at, reached, spent)

    def _priced(self, worth: Worth, score: Floats, cost: Floats) -> tuple[Priced, float, float]:
        """The price that meets the budget, and the mean score and cost at it."""

        def spent(price: float) -> float:
            return float((worth.walk(price)[1] * cost).sum(axis=1).mean())

        price = FREE
        if self.budget_usd is not None:
            start = 1 / max(float(worth.cost.mean()), 1e-12)  # a whole unit of quality for one call
            price = price_for(self.budget_usd, spent, start=start)
        rows, mixed = np.arange(len(score)), np.array([price.share, 1 - price.share])
        both = (price.cheap, price.dear)
        reached = [float(score[rows, worth.walk(p)[0]].mean()) for p in both]
        return price, float(mixed @ reached), float(mixed @ [spent(p) for p in both])

    def _threshold(self, made: Learned, score: Floats, cost: Floats) -> tuple[float, float, float]:
        """The threshold with the best mean score within the budget, that score, and the mean cost."""
        chain = range(min(self.depth, score.shape[1]))
        current = np.column_stack([made.quality[tuple(range(k + 1))][:, k] for k in chain])  # (q, d)
        tried = [-np.inf, *np.unique(np.quantile(current, np.linspace(0, 1, 101))).tolist(), np.inf]
        found = []
        for at in tried:
            # the first of the chain whose expected quality reaches it, else the last
            reached = np.column_stack([current[:, :-1] >= at, np.ones(len(current), dtype=bool)])
            last = reached.argmax(axis=1)
            spent = (cost[:, chain] * (np.arange(len(chain)) <= last[:, None])).sum(axis=1).mean()
            found.append((float(at), float(score[np.arange(len(score)), last].mean()), float(spent)))
        budget = np.inf if self.budget_usd is None else self.budget_usd
        within = [f for f in found if f[2] <= budget]
        if not within:
            raise BadParameter(
                "budget_usd", budget, f"must be at least {found[0][2]:g}, what the first member costs"
            )
        return max(within, key=lambda f: (round(f[1], 12), -f[2]))

    # --- the decision -----------------------------------------------------------------------------

    def plan(self, query: Query, pool: SeatPool, state: State, rng: Rng) -> Plan:
        """Estimate, run, estimate again, until nothing is worth its cost."""
        if self.features == "embedder":
            x: Features = yield from embedded([query.text], pool.role("embedder"))
        else:
            x = state.estimates.featurizer.rows([query.text], [query.task])
        logits = state.estimates.logits(x)[0]
        drawn = state.price.at(float(rng.random()))
        price = min(drawn if query.prefer is None else query.prefer, DEAREST)
        so_far: list[Tried] = []
        story: list[str] = []
        while True:
            answers = {t.member: t.completion for t in so_far if t.completion is not None}
            q, low = state.estimates.quality(logits, answers)
            q[[t.member for t in so_far if t.completion is None]] = np.nan
            if np.isnan(q).all():
                raise NoCandidate(
                    "every member failed: " + "; ".join(f"{pool.names[t.member]}: {t.error}" for t in so_far)
                )
            best = self._best(q, low, state, answers, price)
            story.append(self._said(q, answers, best, state, price, pool.names))
            if best.following is None:
                break
            i = best.following
            (reply,) = yield [pool.members[i].complete(query, logprobs=self.logprobs)]
            done = reply.value[0] if reply.ok else None
            so_far.append(Tried(i, done, float("nan"), "" if reply.ok else str(reply.error)))
        chosen = list(answers)[-1] if self.strategy == "threshold" else max(answers, key=lambda i: (q[i], -i))
        return Verdict(
            chosen=list(answers).index(chosen), confidence=float(q[chosen]), reason="; ".join(story)
        )

    def _best(
        self, q: Floats, low: Floats, state: State, answers: Mapping[int, Completion], price: float
    ) -> Best:
        if self.strategy != "threshold":
            believed = Believed.of(q, low, state.points, state.cost, self.ahead)
            return best_set(
                believed, list(answers), price, sets=self.strategy, ahead=self.ahead, depth=self.depth
            )
        ran = list(answers)
        left = [i for i in range(len(q)) if i not in answers and not np.isnan(q[i])]
        stops = bool(ran) and (q[ran[-1]] >= state.threshold or len(ran) >= self.depth or not left)
        following = None if stops else left[0]
        return Best(tuple(ran), float("nan"), following, 1)

    def _said(
        self,
        q: Floats,
        answers: Mapping[int, Completion],
        best: Best,
        state: State,
        price: float,
        names: Sequence[str],
    ) -> str:
        """One step as a part of a sentence."""
        expected = ", ".join(f"{name} {x:.2f}" for name, x in zip(names, q.tolist(), strict=True) if x == x)
        if self.strategy == "threshold":
            why = f"threshold {state.threshold:.2f}"
        else:
            why = f"best is {' + '.join(names[i] for i in best.members)} ({best.value:.3g} less cost at {price:g})"
        step = "stop" if best.following is None else f"run {names[best.following]}"
        after = f"after {', '.join(names[i] for i in answers)}" if answers else "expected quality"
        return f"{after}: {expected}; {why}: {step}"
