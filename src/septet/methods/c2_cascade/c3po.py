"""C3PO: a chain of members whose thresholds were set without labels, at a cost that is bounded for new questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np

from septet.core.caps import Caps, PoolRule
from septet.core.errors import BadParameter
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Card, Rng, Seat, SeatPool, method, param
from septet.core.money import Load
from septet.core.table import Table
from septet.core.types import Query
from septet.methods.c2_cascade._family import Cascade, Run, Stop, Tried, comparison
from septet.methods.c2_cascade._outcomes import cells_of
from septet.methods.c2_cascade._sampled import nobody, samples_of, voted
from septet.methods.c2_cascade._thresholds import Thresholds
from septet.parts.answers.vote import VOID, outcome
from septet.parts.deferral.conformal_cost import Sampled, cost_bound, search
from septet.parts.deferral.consistency import agreed
from septet.parts.routing.records import unit_cost

CARD = Card(
    paper="2511.07396",
    title="C3PO: Optimized Large Language Model Cascades with Probabilistic Cost Constraints for Reasoning",
    facets=Facets(
        family=Family.CASCADE,
        strategy=Strategy.SELECTION,
        granularity=Granularity.RESPONSE,
        goal=Goal.COST,
        supervised=False,
        efficiency_aware=True,
    ),
    pool=PoolRule(at_least=2, order="weak-strong"),
    trained=True,
    labels="none",
    permutes=False,
    differs=(
        "the reference answer of the last member is fixed once per question; the released code redraws all answers"
        " with replacement at every evaluation, so that its references change and its objective is noisy",
        "half of the unlabelled questions choose the thresholds and the other half bound the cost; the paper's shares"
        " could not be verified",
        "the bound holds for thresholds that are fixed beforehand; since the best of many is taken, it is a little"
        " optimistic, as in the paper's search",
        "thresholds of the grid that accept the same answers are tried once",
        "an answer that could not be read counts as a sample that agrees with nobody",
        "without a budget it lies between the bounds of the cheapest and the last member; the paper's are in USD",
        "if every member of the chain fails, those that are skipped are asked",
    ),
)


@method(CARD)
class C3po(Cascade):
    """Label-free cascade with a conformal bound on cost (2511.07396).

    min_τ mean 1[a_τ(x) ≠ a_M(x)] subject to c₍⌈(n+1)(1−α)⌉₎(τ) ≤ B: a_τ is the answer of the first member whose share
    of equal samples is ≥ its τ_m, a_M the most frequent answer of the last member, and the bound a quantile of the
    chain's costs on n other questions. τ is searched on a full grid of `points` from 0 to 1.1 for each member but
    the last; above 1 the member is skipped. Cost: `samples` of each member that is asked. Fails where the last
    member is not the best, where answers have no comparable end, and with one sample, which always agrees.

    >>> from septet.testing.scripted import drive, seat
    >>> pool, state = SeatPool((seat("weak"), seat("strong"))), Thresholds(np.array([.8]), .05, 2.0, 3.0, "usd")
    >>> said = {"weak": ["4", "4", "5", "4"], "strong": ["5", "5", "4", "5"]}
    >>> verdict, _ = drive(C3po(samples=4).plan(Query.of("?"), pool, state, np.random.default_rng(0)), said)
    >>> verdict.chosen, verdict.reason
    (4, "agreement 0.75 < 0.80 of weak, so strong was asked; strong is last and always accepted: '5'")
    """

    samples: Annotated[int, param("Answers of each member that is asked.", ge=1, le=100)] = 5
    temperature: Annotated[float, param("Temperature of the samples.", ge=0, le=2)] = 0.7
    alpha: Annotated[
        float, param("Share of new questions that may cost more than the budget.", gt=0, lt=1)
    ] = 0.1
    budget_usd: Annotated[
        float | None, param("The most that a question may cost; none: `budget_share` says it.", gt=0)
    ] = None
    budget_share: Annotated[
        float, param("The budget between the cheapest member's bound, 0, and the last one's, 1.", ge=0, le=1)
    ] = 0.5
    points: Annotated[int, param("Thresholds that are tried for each member.", ge=3, le=100)] = 15

    state_type = Thresholds

    def needs(self) -> Caps:
        return Caps(text=True, samples=self.samples > 1)

    def worst(self, query: Query, pool: SeatPool) -> dict[str, Load]:
        """All samples of all members; an ensemble gives its samples one by one."""
        n = self.samples
        return {m.name: Load(n, n, n * (query.max_tokens or 0)) for m in pool.members}

    # --- the fit ----------------------------------------------------------------------------------

    def fit(self, table: Table, roles: Mapping[str, tuple[Seat, ...]], rng: Rng) -> Thresholds:
        """Thresholds from answers and costs alone; no score is read."""
        unit, cost = unit_cost(table)
        if self.budget_usd is not None and unit != "usd":
            raise BadParameter(
                "budget_usd", self.budget_usd, "needs outcomes that give cost_usd for every answer"
            )
        seen = self._sampled(table, cost)
        half = rng.permutation(len(seen.cost))
        fitted, held_out = seen.only(half[: len(half) // 2]), seen.only(half[len(half) // 2 :])
        budget = self.budget_usd
        if budget is None:
            # a chain costs at least what its first member does, so no chain is cheaper than the cheapest member
            alone = cost_bound(held_out.cost.T, self.alpha)  # (m,)
            budget = float("inf")
            if np.isfinite(alone).all():
                budget = float((1 - self.budget_share) * alone.min() + self.budget_share * alone[-1])
        found = search(fitted, held_out, points=self.points, alpha=self.alpha, budget=budget)
        return Thresholds(np.array(found.thresholds), found.disagreement, found.cost, found.bound, unit)

    def _sampled(self, table: Table, cost: np.ndarray) -> Sampled:
        """Questions that every member has answered; the last member's most frequent answer is the reference."""
        confidence, differs, spent = [], [], []
        for row in cells_of(table):
            if not all(cell.rows for cell in row):
                continue
            most = [agreed(cell.outcomes, VOID) for cell in row]
            confidence.append([a.share for a in most])
            # an unreadable answer differs from every reference but an unreadable one
            differs.append([float(a.answer != most[-1].answer) for a in most])
            spent.append([self.samples * float(cost[cell.rows].mean()) for cell in row])
        if len(confidence) < 2:
            raise BadParameter(
                "table", len(table), "must hold at least two questions that every member has answered"
            )
        return Sampled(*(np.array(x, dtype=np.float64) for x in (confidence, differs, spent)))

    # --- the decision -----------------------------------------------------------------------------

    def confidence(self, query: Query, so_far: Sequence[Tried], pool: SeatPool, state: Thresholds) -> float:
        """The share of the most frequent answer among all samples of the last member."""
        return agreed([outcome(c) for c in so_far[-1].samples], VOID).share

    def chain(self, pool: SeatPool, state: Thresholds) -> Sequence[int]:
        """The members that are not skipped."""
        return state.chain()

    def threshold_after(self, position: int, state: Thresholds) -> float:
        return float(state.at[state.chain()[position]])

    def next_step(
        self, query: Query, so_far: Sequence[Tried], pool: SeatPool, state: Thresholds, rng: Rng
    ) -> Stop | Run:
        chain = state.chain()
        if so_far and so_far[-1].completion is not None and self._accepted(so_far[-1], chain, state):
            return self._stop(so_far, len(so_far) - 1, pool, state)
        tried = {t.member for t in so_far}
        following = next((i for i in chain if i not in tried), None)
        answered = [i for i, t in enumerate(so_far) if t.completion is not None]
        if following is None and not answered:
            following = next((i for i in range(len(pool.members)) if i not in tried), None)
        if following is not None:
            return Run(following, samples=self.samples, temperature=self.temperature)
        if not answered:
            raise nobody(so_far, pool)
        return self._stop(so_far, max(answered, key=lambda i: so_far[i].confidence), pool, state)

    def _stop(self, so_far: Sequence[Tried], index: int, pool: SeatPool, state: Thresholds) -> Stop:
        """The most frequent answer of one of those that were asked."""
        chain, parts = state.chain(), []
        for i, tried in enumerate(so_far):
            name = pool.names[tried.member]
            following = f", so {pool.names[so_far[i + 1].member]} was asked" if i + 1 < len(so_far) else ""
            if tried.completion is None:
                parts.append(f"{name} failed{following}")
            elif tried.member not in chain or tried.member == chain[-1]:
                parts.append(f"{name} is last and always accepted")
            else:
                compared = comparison(tried.confidence, float(state.at[tried.member]))
                parts.append(f"{'' if parts else 'agreement '}{compared} of {name}{following}")
        if index != len(so_far) - 1:
            parts.append(f"{pool.names[so_far[index].member]} agrees most with itself")
        samples = samples_of(so_far)
        weights = [float(s.index == index) for s in samples]
        return voted(samples, weights, f"{'; '.join(parts)}: {{answer}}")
