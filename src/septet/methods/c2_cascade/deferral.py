"""Deferral: ask the second member where it is expected to be better, as estimated from the first one's outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from septet.core.caps import Caps, PoolRule
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Asking, Card, Rng, Seat, SeatPool, method, param
from septet.core.table import Table
from septet.core.types import Floats, Query
from septet.methods.c2_cascade._family import Tried
from septet.methods.c2_cascade._gain import Gain, fit_gain, refuse_both, threshold_of
from septet.methods.c2_cascade._labels import class_probabilities, labels_in
from septet.methods.c2_cascade._pair import PairCascade, above
from septet.methods.c2_cascade._relabelled import relabelled
from septet.parts.deferral.post_hoc import Estimator, Pairs, targets, urgency
from septet.parts.learning.targets import held_out

CARD = Card(
    paper="2307.02764",
    title="When Does Confidence-Based Cascade Deferral Suffice?",
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
        "members are language models: their class probabilities are the alternatives of the token with which the"
        " answer names a label; the paper has image classifiers",
        "the names and targets of the estimators are from secondary notes; the paper's own table was not read",
        "the size of g is not known from the paper: one hidden layer, 500 passes at most",
        "the threshold is set on a fifth of the questions, which g is not fitted on",
        "diff-prob leaves out the questions of which nobody's recorded answer was right",
    ),
)

HELD_OUT = 0.2
"""Share of the questions on which the threshold is set."""


@dataclass(frozen=True)
class Deferring:
    """Asks on above `threshold`. `gain`: the learned g, none for plain confidence; `labels`: those of all questions,
    () where each has its own; `width`: how many probabilities g reads."""

    threshold: float
    gain: Gain | None
    labels: tuple[str, ...]
    width: int


@method(CARD)
class Deferral(PairCascade):
    """Post-hoc estimate of the Bayes rule "defer iff η₂(x) − η₁(x) > c" (2307.02764).

    η_i(x) is the chance that member i is right. From the class probabilities p₁ (k,) of the first member, a small
    network g, fitted by mean squared error, estimates: "diff-01" 1[y = h₂] − 1[y = h₁]; "diff-prob" p₂(y) − p₁(y);
    "max-prob" max p₂, less max p₁. "confidence" is the plain rule 1 − max p₁. The second member is asked where that
    is above the threshold: c, or what a share of deferred questions or a budget asks for.
    Cost: one call, and a second one where it defers. Plain confidence is enough where both members find the same
    questions hard; it fails where the second is a specialist, and everything fails where p₁ says nothing.

    >>> from septet.core.types import Completion, Tokens
    >>> from septet.testing.scripted import drive, seat
    >>> top = ((b"A", np.log(0.6)), (b"B", np.log(0.4)))
    >>> said = Completion(member="smol", text="A", tokens=Tokens((b"A",), np.log([0.6]), (top,)))
    >>> pool, state = SeatPool((seat("smol"), seat("gemma"))), Deferring(0.3, None, ("A", "B"), 2)
    >>> plan = Deferral(estimator="confidence").plan(Query.of("Blue?"), pool, state, np.random.default_rng(0))
    >>> verdict, _ = drive(plan, {"smol": said, "gemma": "B"})
    >>> verdict.chosen, verdict.reason
    (1, 'doubt 0.40 > 0.30 after smol, so gemma was asked')
    """

    estimator: Annotated[Estimator, param("What is compared with the cost of asking on.")] = "diff-01"
    defer_cost: Annotated[
        float,
        param("Cost c of asking on, in units of the score, where no share or budget says.", ge=-1, le=1),
    ] = 0.0
    defer_share: Annotated[float | None, param("Share of the questions to be deferred.", ge=0, le=1)] = None
    budget_usd: Annotated[
        float | None, param("The most that a question may cost on average; it never defers below c.", gt=0)
    ] = None
    labels: Annotated[
        tuple[str, ...],
        param(
            "The labels; none: the options' letters, or the recorded answers if they are few.", min_length=0
        ),
    ] = ()
    alternatives: Annotated[int, param("Alternatives per token that members report.", ge=2, le=100)] = 20
    hidden: Annotated[int, param("Units of the hidden layer of g.", ge=1, le=4096)] = 64
    epochs: Annotated[int, param("The most passes over the questions in fitting g.", ge=1, le=100000)] = 500

    state_type = Deferring

    def __post_init__(self) -> None:
        refuse_both("deferral", self.defer_share, self.budget_usd)

    @property
    def logprobs(self) -> int:  # type: ignore[override]
        """The alternatives that the class probabilities are read from."""
        return self.alternatives

    def needs(self) -> Caps:
        """Text with the alternatives of its tokens."""
        return Caps(text=True, logprobs=True, topk=self.alternatives)

    def fit(self, table: Table, roles: Mapping[str, tuple[Seat, ...]], rng: Rng) -> Asking[Deferring]:
        """Asks both members the questions of the table, fits g, and sets the threshold on held-out questions."""
        found = yield from relabelled(table, roles["members"], self.labels, self.alternatives)
        pairs = Pairs(found.p[:, 0], found.p[:, 1], found.score, found.right)
        kept = held_out(len(found.score), HELD_OUT, rng)
        gain, learned = None, np.zeros(len(kept))
        if self.estimator != "confidence":
            wanted = targets(self.estimator, pairs.only(~kept))
            gain = fit_gain(pairs.first[~kept], wanted, (self.hidden,), self.epochs, rng)
            learned = gain.of(pairs.first)
        on = kept if kept.any() else np.ones(len(kept), dtype=bool)
        score = urgency(self.estimator, learned[on], pairs.first[on])
        threshold = threshold_of(
            score, found.cost[on], found.unit, self.defer_share, self.budget_usd, self.defer_cost
        )
        return Deferring(threshold, gain, found.labels, found.p.shape[2])

    def confidence(self, query: Query, so_far: Sequence[Tried], pool: SeatPool, state: Deferring) -> float:
        """max_k p(k) of the last answer; NaN where there is nothing to be classified."""
        p = self._probabilities(query, so_far[-1], state)
        return float("nan") if p is None else float(p.max())

    def asks_on(self, query: Query, first: Tried, pool: SeatPool, state: Deferring) -> tuple[bool, str]:
        """Above the threshold, and where the answer cannot be classified."""
        p = self._probabilities(query, first, state)
        if p is None:
            return True, f"the answer of {pool.names[0]} has no class probabilities"
        row = np.zeros((1, state.width))
        row[0, : len(p)] = p[: state.width]
        learned = np.zeros(1) if state.gain is None else state.gain.of(row)
        score = float(urgency(self.estimator, learned, row)[0])
        what = "doubt" if self.estimator == "confidence" else f"expected gain of {pool.names[1]}"
        return score > state.threshold, f"{what} {above(score, state.threshold)} after {pool.names[0]}"

    def _probabilities(self, query: Query, tried: Tried, state: Deferring) -> Floats | None:
        assert tried.completion is not None
        return class_probabilities(tried.completion, self.labels or state.labels or labels_in(query.text))
