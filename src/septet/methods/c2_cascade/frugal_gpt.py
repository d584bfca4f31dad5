"""FrugalGPT: ask a learned list of members, and stop at the first answer that a learned scorer trusts enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from septet.core.caps import Caps, PoolRule
from septet.core.errors import BadParameter
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Card, Rng, Seat, SeatPool, method, param
from septet.core.table import Table
from septet.core.types import Query
from septet.methods.c2_cascade._family import Cascade, Tried
from septet.parts.answers.certainty import mean_logp
from septet.parts.routing.chain import Chain, Seen, search
from septet.parts.routing.records import answered, unit_cost
from septet.parts.routing.scorer import AnswerScorer, Given, fit_scorer

CARD = Card(
    paper="2305.05176",
    title="FrugalGPT: How to Use Large Language Models While Reducing Cost and Improving Performance",
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
        "the scorer is a logistic regression on hashed TF-IDF, the answer's length and end, and its mean"
        " log-probability; the paper fine-tunes DistilBERT on the text",
        "scorer and thresholds are fitted on different questions; the released code uses the same ones",
        "an answer is accepted when its score is at least the threshold; the released code stores one minus it",
        "only the ten best lists of the grid are refined",
        "if every member of the list fails, the members that are not on it are asked",
    ),
)


@dataclass(frozen=True)
class Frugal:
    """What was learned: the scorer, and the list with its thresholds."""

    scorer: AnswerScorer
    chain: Chain


@method(CARD)
class FrugalGPT(Cascade):
    """LLM cascade (2305.05176, section 3): max E[quality] subject to E[cost] ≤ b.

    g(query, answer, member) ∈ [0, 1] is the probability that the answer is right. The members of the list
    L = (l_1 … l_d), d ≤ depth, are asked in turn; the first with g ≥ τ_i is accepted, the last always.
    L and τ maximise the mean score on questions that the scorer has not seen, with mean cost ≤ b.
    Cost: between one call and d. Fails where g cannot tell right from wrong: then every saving costs quality.

    >>> from septet.core.method import SeatPool
    >>> from septet.parts.routing.tfidf import TfIdf
    >>> from septet.testing.scripted import drive, seat
    >>> words = TfIdf(np.ones(8))
    >>> weights = np.zeros((2, 11))
    >>> weights[:, 9] = -1.0      # a longer answer is less trusted
    >>> scorer = AnswerScorer(words, weights, np.full(2, 1.5), np.zeros(3), np.ones(3))
    >>> state = Frugal(scorer, Chain((0, 1), (0.6,), quality=0.8, cost=0.002))
    >>> pool = SeatPool((seat("smol"), seat("gemma")))
    >>> plan = FrugalGPT(features="text").plan(Query.of("2+3?"), pool, state, np.random.default_rng(0))
    >>> verdict, _ = drive(plan, {"smol": "It may be 4 or 5, who knows.", "gemma": "5"})
    >>> verdict.chosen, verdict.reason
    (1, 'confidence 0.13 < 0.60 after smol, so gemma was asked; it is last and always accepted')
    """

    depth: Annotated[int, param("The most members that one question may be put to.", ge=1, le=3)] = 3
    budget_usd: Annotated[
        float | None, param("The most that a question may cost on average; none: the best quality.", gt=0)
    ] = None
    features: Annotated[
        Literal["text", "text+logp"],
        param("What the scorer reads; log-probabilities must be offered by all."),
    ] = "text+logp"
    scorer_share: Annotated[
        float, param("Share of the questions that fit the scorer; the rest fit the thresholds.", gt=0, lt=1)
    ] = 0.45
    inverse_penalty: Annotated[
        float, param("Inverse strength of the scorer's squared penalty on weights.", gt=0, le=1000)
    ] = 1.0

    state_type = Frugal

    @property
    def logprobs(self) -> int:  # type: ignore[override]
        """One alternative per token, where the scorer reads log-probabilities."""
        return int(self.features == "text+logp")

    def needs(self) -> Caps:
        """Text; and log-probabilities, where the scorer reads them."""
        return Caps(text=True, logprobs=self.logprobs > 0, topk=self.logprobs)

    def fit(self, table: Table, roles: Mapping[str, tuple[Seat, ...]], rng: Rng) -> Frugal:
        """The scorer on a share of the questions, the list and its thresholds on the others."""
        rows = answered(table)
        unit, cost = unit_cost(rows)
        if self.budget_usd is not None and unit != "usd":
            raise BadParameter(
                "budget_usd", self.budget_usd, "needs outcomes that give cost_usd for every answer"
            )
        shuffled = rng.permutation(len(table.queries))
        for_scorer = np.isin(rows.query, shuffled[: round(self.scorer_share * len(shuffled))])
        given = self._given(rows)
        right = rows.score >= 0.5
        scorer = fit_scorer(
            given.only(for_scorer),
            right[for_scorer],
            len(table.members),
            inverse_penalty=self.inverse_penalty,
        )
        held_out = ~for_scorer
        confidence = scorer.p_right(given.only(held_out))
        seen = Seen.of_rows(rows.rows(held_out), confidence, cost[held_out])
        return Frugal(scorer, search(seen, depth=self.depth, budget=self.budget_usd, unit=unit))

    def _given(self, rows: Table) -> Given:
        logp = rows.numbers["logp"] if self.logprobs else np.full(len(rows), np.nan)
        return Given([rows.questions[q] for q in rows.query], [str(t) for t in rows.text], rows.member, logp)

    def chain(self, pool: SeatPool, state: Frugal) -> Sequence[int]:
        """The learned list."""
        return state.chain.order

    def threshold_after(self, position: int, state: Frugal) -> float:
        """The learned threshold."""
        return state.chain.thresholds[position]

    def confidence(self, query: Query, so_far: Sequence[Tried], pool: SeatPool, state: Frugal) -> float:
        """g of the last answer."""
        last = so_far[-1]
        assert last.completion is not None
        logp = mean_logp(last.completion.tokens) if self.logprobs else float("nan")
        member = np.array([last.member], dtype=np.int32)
        given = Given([query.text], [last.completion.text], member, np.array([logp]))
        return float(state.scorer.p_right(given)[0])
