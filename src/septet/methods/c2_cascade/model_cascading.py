"""Model Cascading: ask ever larger members until one is confident enough of the label that it gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from septet.core.caps import Caps, PoolRule
from septet.core.errors import BadParameter
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Asking, Card, Rng, Seat, SeatPool, method, param
from septet.core.table import Table
from septet.core.types import Floats, Query
from septet.methods.c2_cascade._family import Cascade, Tried
from septet.methods.c2_cascade._labels import class_probabilities, labels_in
from septet.methods.c2_cascade._relabelled import Relabelled, relabelled
from septet.parts.deferral.chain import Seen, search
from septet.parts.deferral.confidence import distance_to_uniform, max_prob

CARD = Card(
    paper="2210.05528",
    title="Model Cascading: Towards Jointly Improving Efficiency and Accuracy of NLP Systems",
    facets=Facets(
        family=Family.CASCADE,
        strategy=Strategy.SELECTION,
        granularity=Granularity.RESPONSE,
        goal=Goal.COST,
        supervised=False,
        efficiency_aware=True,
    ),
    pool=PoolRule(at_least=2, order="cost"),
    permutes=False,
    differs=(
        "members are language models: their class probabilities are the alternatives of the token with which the"
        " answer names a label; the paper has encoders with a classification head",
        "an answer that names no label counts as one with equal probabilities, so the next member is asked",
        "the distance to uniform is Euclidean; the norm could not be verified",
        "the paper's baselines (random, length) are not built",
        "cost is what the outcomes state (USD, seconds or tokens); the paper counts floating-point operations",
    ),
)

CELLS = 4_000_000
"""Numbers that the search for thresholds may hold at once: 32 MB each of scores and costs."""


@dataclass(frozen=True)
class Thresholds:
    """`at` (n_members − 1,): the confidence from which each member but the last is believed; `seen` (2,): mean score
    and cost of the whole on the questions of the fit, NaN before one."""

    at: Floats
    seen: Floats


@method(CARD)
class ModelCascading(Cascade):
    """Threshold chain on class probabilities (2210.05528).

    p (k,) are the member's probabilities of the k labels; its answer stands if max_j p_j ≥ τ ("max-prob") or
    ‖p − 1/k‖₂ ≥ τ ("dtu", from 0 to √(1 − 1/k)); the last member's always. τ is a parameter, the same for all, until
    a fit finds one per member: the best mean score within the budget.
    Cost: between one call and one per member. Fails where confident members are wrong, and for questions without
    labels: then every member is asked.

    >>> from septet.core.types import Completion, Tokens
    >>> from septet.testing.scripted import drive, seat
    >>> def said(member, p):  # p of A, B
    ...     top = ((b"A", np.log(p)), (b"B", np.log(1 - p)))
    ...     return Completion(member=member, text="A", tokens=Tokens((b"A",), np.log([p]), (top,)))
    >>> pool = SeatPool((seat("smol"), seat("gemma")))
    >>> cascade = ModelCascading(threshold=0.6)
    >>> question = Query.of("Is it blue? A) yes B) no")
    >>> plan = cascade.plan(question, pool, cascade.begin(pool.names), np.random.default_rng(0))
    >>> verdict, _ = drive(plan, {"smol": said("smol", 0.55), "gemma": said("gemma", 0.9)})
    >>> verdict.chosen, verdict.reason
    (1, 'confidence 0.55 < 0.60 after smol, so gemma was asked; it is last and always accepted')
    """

    measure: Annotated[
        Literal["max-prob", "dtu"],
        param("Confidence: the largest class probability, or the distance of all from uniform."),
    ] = "max-prob"
    threshold: Annotated[
        float, param("Confidence from which an answer stands, until a fit finds better ones.", ge=0, le=1)
    ] = 0.8
    budget_usd: Annotated[
        float | None, param("Fit: the most that a question may cost on average; none: the best score.", gt=0)
    ] = None
    labels: Annotated[
        tuple[str, ...],
        param("The labels; none: the letters of the question's options.", min_length=0),
    ] = ()
    alternatives: Annotated[
        int, param("Alternatives per token that members report; more show unlikely labels.", ge=2, le=100)
    ] = 20

    state_type = Thresholds

    @property
    def logprobs(self) -> int:  # type: ignore[override]
        """The alternatives that the class probabilities are read from."""
        return self.alternatives

    def needs(self) -> Caps:
        """Text with the alternatives of its tokens."""
        return Caps(text=True, logprobs=True, topk=self.alternatives)

    def begin(self, members: Sequence[str]) -> Thresholds:
        """The same threshold for all."""
        return Thresholds(np.full(len(members) - 1, self.threshold), np.full(2, np.nan))

    def fit(self, table: Table, roles: Mapping[str, tuple[Seat, ...]], rng: Rng) -> Asking[Thresholds]:
        """Asks every member the questions of the table for its class probabilities, then searches thresholds."""
        seen: Relabelled = yield from relabelled(table, roles["members"], self.labels, self.alternatives)
        if self.budget_usd is not None and seen.unit != "usd":
            raise BadParameter(
                "budget_usd", self.budget_usd, "needs outcomes that give cost_usd for every answer"
            )
        confidence = np.array(
            [[self._measured(p[:k]) for p in row] for row, k in zip(seen.p, seen.n_labels, strict=True)]
        )  # (q, m)
        known = ~(np.isnan(seen.score) | np.isnan(seen.cost)).any(axis=1)
        if not known.any():
            raise BadParameter(
                "table", len(table), "must hold questions of which every member's score is known"
            )
        whole = Seen(confidence[known], seen.score[known], seen.cost[known])
        m = len(table.members)
        # combinations of all thresholds but the first are held at once: at most CELLS of them times questions
        n_grid = max(2, min(40, int((CELLS / known.sum()) ** (1 / max(m - 2, 1)))))
        found = search(
            whole, depth=m, budget=self.budget_usd, unit=seen.unit, n_grid=n_grid, lists=[tuple(range(m))]
        )
        return Thresholds(np.array(found.thresholds), np.array([found.quality, found.cost]))

    def threshold_after(self, position: int, state: Thresholds) -> float:
        """The member's own threshold."""
        return float(state.at[position])

    def confidence(self, query: Query, so_far: Sequence[Tried], pool: SeatPool, state: Thresholds) -> float:
        """How sure the last answer's label is; NaN where there is nothing to be classified."""
        last = so_far[-1].completion
        assert last is not None
        p = class_probabilities(last, self.labels or labels_in(query.text))
        return float("nan") if p is None else self._measured(p)

    def _measured(self, p: Floats) -> float:
        return float(max_prob(p) if self.measure == "max-prob" else distance_to_uniform(p))
