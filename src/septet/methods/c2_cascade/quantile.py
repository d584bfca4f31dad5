"""Quantile: ask the second member where the tokens of the first answer were unlikely, read by quantiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray

from septet.core.caps import Caps, PoolRule
from septet.core.errors import BadParameter
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Asking, Card, Rng, Seat, SeatPool, method, param
from septet.core.table import Table
from septet.core.types import Floats, Query, Tokens
from septet.methods.c2_cascade._family import Tried
from septet.methods.c2_cascade._gain import Gain, fit_gain, refuse_both, threshold_of
from septet.methods.c2_cascade._pair import PairCascade, above, raise_if_all_failed
from septet.parts.answers.certainty import known as known_logp
from septet.parts.answers.certainty import mean_logp, quantiles, sum_logp
from septet.parts.learning.targets import held_out
from septet.parts.routing.records import answered, unit_cost

CARD = Card(
    paper="2404.10136",
    title="Language Model Cascades: Token-level uncertainty and beyond",
    facets=Facets(
        family=Family.CASCADE,
        strategy=Strategy.SELECTION,
        granularity=Granularity.RESPONSE,
        goal=Goal.COST,
        supervised=True,
        efficiency_aware=True,
    ),
    pool=PoolRule(at_least=2, at_most=2, order="weak-strong"),
    trained=True,
    permutes=False,
    differs=(
        "embeddings of the members are not read, so the paper's two richer post-hoc rules are not built",
        "post-hoc learns score₂ − score₁; which of its targets the paper uses could not be verified",
        "post-hoc reads 11 quantiles by default, not 101, for it is fitted on hundreds of questions here",
        "the threshold is set on a fifth of the questions, which post-hoc is not fitted on",
        "an answer without a known token is asked on",
    ),
)

HELD_OUT = 0.2
"""Share of the questions on which the threshold is set."""


@dataclass(frozen=True)
class Unlikely:
    """Asks on above `threshold`; `gain`: what post-hoc has learned, else none."""

    threshold: float
    gain: Gain | None


@method(CARD)
class Quantile(PairCascade):
    """Deferral on token log-probabilities ℓ (t,) of the first answer (2404.10136).

    Doubt is −Σ ℓ ("chow-sum"), −mean ℓ ("chow-average") or −(α-quantile of ℓ) ("chow-quantile"; α = 0: of the
    least likely token). "post-hoc" learns score₂ − score₁ from the vector of quantiles at 0, 1/s, …, 1 by a network of
    five layers. The second member is asked above the threshold, which a share or a budget sets.
    Cost: one call, and a second one where it defers. A sum doubts long answers, a mean forgives one bad token in them.
    Fails where the member is sure of what is wrong. The fit scores the recorded answers of the first member anew,
    one call per question, except for the sum and the mean, where the outcomes state the mean log-probability.

    >>> from septet.core.types import Completion
    >>> from septet.testing.scripted import drive, seat
    >>> said = Completion(member="smol", text="4", tokens=Tokens((b"a", b"b", b"c"), np.array([-0.1, -0.2, -2.3])))
    >>> pool, rng = SeatPool((seat("smol"), seat("gemma"))), np.random.default_rng(0)
    >>> plan = Quantile(rule="chow-quantile", alpha=0.0).plan(Query.of("2+3?"), pool, Unlikely(1.0, None), rng)
    >>> verdict, _ = drive(plan, {"smol": said, "gemma": "5"})
    >>> verdict.chosen, verdict.reason
    (1, 'doubt 2.30 > 1.00 after smol, so gemma was asked')
    """

    rule: Annotated[
        Literal["chow-sum", "chow-average", "chow-quantile", "post-hoc"],
        param("How the log-probabilities of an answer's tokens become one number."),
    ] = "post-hoc"
    alpha: Annotated[
        float, param("chow-quantile: which quantile; 0 is the least likely token.", ge=0, le=1)
    ] = 0.2
    steps: Annotated[int, param("post-hoc: quantiles 0, 1/steps, …, 1 are read.", ge=1, le=100)] = 10
    defer_cost: Annotated[
        float, param("post-hoc: cost of asking on, in units of the score, where no share says.", ge=-1, le=1)
    ] = 0.0
    defer_share: Annotated[
        float | None,
        param("Share of the questions to be deferred; for Chow's rules half unless given.", ge=0, le=1),
    ] = None
    budget_usd: Annotated[float | None, param("The most that a question may cost on average.", gt=0)] = None
    hidden: Annotated[int, param("post-hoc: units of each hidden layer.", ge=1, le=4096)] = 32
    layers: Annotated[int, param("post-hoc: layers of the network, the last included.", ge=1, le=8)] = 5
    epochs: Annotated[int, param("post-hoc: the most passes over the questions.", ge=1, le=100000)] = 200

    state_type = Unlikely
    logprobs = 1

    def __post_init__(self) -> None:
        refuse_both("quantile", self.defer_share, self.budget_usd)

    def needs(self) -> Caps:
        """Text with its tokens; and to score given texts, where the fit needs to know them."""
        return Caps(text=True, logprobs=True, topk=1, score=self._reads_quantiles)

    def needs_of(self, place: int, n_members: int) -> Caps:
        """The second member is not measured by a fit."""
        return self.needs() if place == 0 else Caps(text=True, logprobs=True, topk=1)

    @property
    def _reads_quantiles(self) -> bool:
        return self.rule in ("chow-quantile", "post-hoc")

    # --- the fit --------------------------------------------------------------------------------------

    def fit(self, table: Table, roles: Mapping[str, tuple[Seat, ...]], rng: Rng) -> Asking[Unlikely]:
        """Reads or scores the first member's recorded answers, fits post-hoc, and sets the threshold."""
        rows = answered(table)
        unit, cost = unit_cost(rows)
        place = np.full((len(table.queries), 2), -1)
        place[rows.query, rows.member] = np.arange(len(rows))
        place = place[(place >= 0).all(axis=1)]  # (q, 2) rows of the questions that both have answered
        if not len(place):
            raise BadParameter("table", len(rows), "must hold questions that both members have answered")
        if self._reads_quantiles:
            first = [(rows.questions[rows.query[r]], str(rows.text[r])) for r in place[:, 0]]
            seat = roles["members"][0]
            replies = yield [seat.score(Query.of(question), [text]) for question, text in first]
            raise_if_all_failed(replies)
            x = np.array([self._inputs(reply.value[0] if reply.ok else None) for reply in replies])
        else:
            x = self._recorded(rows, place[:, 0])
        gained = rows.score[place[:, 1]] - rows.score[place[:, 0]]
        known = ~np.isnan(x).any(axis=1)
        if not known.any():
            raise BadParameter("table", len(place), "must hold answers whose log-probabilities are known")
        x, gained, costs = x[known], gained[known], cost[place[known]]
        kept = held_out(len(x), HELD_OUT if self.rule == "post-hoc" else 0.0, rng)
        gain = None
        if self.rule == "post-hoc":
            hidden = (self.hidden,) * (self.layers - 1)
            gain = fit_gain(x[~kept], gained[~kept], hidden, self.epochs, rng)
        on = kept if kept.any() else np.ones(len(x), dtype=bool)
        doubt = self._doubt(x[on], gain)
        share, least = self.defer_share, self.defer_cost
        if self.rule != "post-hoc":  # a doubt has no unit that a cost could be compared with
            share = 0.5 if share is None and self.budget_usd is None else share
            least = -np.inf
        return Unlikely(threshold_of(doubt, costs[on], unit, share, self.budget_usd, least), gain)

    def _recorded(self, rows: Table, first: NDArray[np.int64]) -> Floats:
        """(q, 1) sums or means of log-probabilities as the outcomes state them."""
        mean: Floats = rows.numbers["logp"][first]
        return (mean * rows.completion_tokens[first] if self.rule == "chow-sum" else mean)[:, None]

    # --- the rule -------------------------------------------------------------------------------------

    def _inputs(self, tokens: Tokens | None) -> Floats:
        """(d,) what the rule reads of an answer: its sum, its mean, a quantile or several; NaN where unknown."""
        if not self._reads_quantiles:
            return np.array([sum_logp(tokens) if self.rule == "chow-sum" else mean_logp(tokens)])
        alphas = np.linspace(0, 1, self.steps + 1) if self.rule == "post-hoc" else np.array([self.alpha])
        return quantiles(known_logp(tokens), alphas)

    def _doubt(self, x: Floats, gain: Gain | None) -> Floats:
        """(n,) what is compared with the threshold, from x (n, d)."""
        return np.negative(x[:, 0]) if gain is None else gain.of(x)

    def confidence(self, query: Query, so_far: Sequence[Tried], pool: SeatPool, state: Unlikely) -> float:
        """The probability per token of the last answer, e^mean ℓ; of the whole answer for chow-sum."""
        completion = so_far[-1].completion
        assert completion is not None
        read = sum_logp if self.rule == "chow-sum" else mean_logp
        return float(np.exp(read(completion.tokens)))

    def asks_on(self, query: Query, first: Tried, pool: SeatPool, state: Unlikely) -> tuple[bool, str]:
        """Above the threshold, and where no token is known."""
        assert first.completion is not None
        x = self._inputs(first.completion.tokens)
        if np.isnan(x).any():
            return True, f"the answer of {pool.names[0]} has no known token"
        doubt = float(self._doubt(x[None], state.gain)[0])
        what = "doubt" if state.gain is None else f"expected gain of {pool.names[1]}"
        return doubt > state.threshold, f"{what} {above(doubt, state.threshold)} after {pool.names[0]}"
