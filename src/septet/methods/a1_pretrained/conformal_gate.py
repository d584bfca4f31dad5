"""Conformal gate: the weak member answers where it is likely right, with a bound on how often it is not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from septet.core.caps import PoolRule
from septet.core.errors import BadParameter
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy, Utility
from septet.core.method import Card, Choice, Rng, method, param
from septet.core.types import Floats
from septet.methods.a1_pretrained._family import PretrainedRouter
from septet.parts.learning.adam import sigmoid
from septet.parts.learning.features import FeatureKind, Featurizer
from septet.parts.learning.linear import Linear, fit_logistic
from septet.parts.learning.rows import Features
from septet.parts.learning.targets import held_out
from septet.parts.routing.calibrate import upper_bound
from septet.parts.routing.records import Fitted, Known
from septet.parts.routing.two_arms import weak_or_strong

CARD = Card(
    paper="acl-srw-2026/conformal-llm-routing",
    title="Conformal LLM Routing with Distribution-Free Safety Guarantees",
    facets=Facets(
        family=Family.PRETRAINED,
        strategy=Strategy.SELECTION,
        granularity=Granularity.RESPONSE,
        goal=Goal.COST,
        supervised=True,
        efficiency_aware=True,
        utility=Utility.DISCRETE,
    ),
    pool=PoolRule(at_least=2, at_most=2, order="weak-strong"),
    trained=True,
    permutes=False,
    differs=(
        "only a summary of the paper could be read; features are 128 main directions of hashed TF-IDF by default",
        "thresholds are tried from strict to lax up to the first that fails, since trying many without an order"
        " would void the guarantee; whether the paper does so is unverified",
        "the thresholds to try are quantiles of the fitted questions' predictions, so they do not depend on the"
        " questions of the calibration",
        "the scan starts where a fifth of the questions pass: among fewer, the bound is too wide to hold",
        "an answer is right if its score is at least one half",
        "a price of cost moves the threshold and with it voids the guarantee; without one the guarantee holds",
    ),
)


@dataclass(frozen=True)
class Gate(Fitted):
    """Strong where P(weak is wrong) ≥ `threshold`; of `routed` calibration questions below it `violations`
    went wrong, so that at most `bound` of such questions do, with probability 1 − δ."""

    line: Linear
    threshold: float
    routed: int
    violations: int
    bound: float


@method(CARD)
class ConformalGate(PretrainedRouter):
    """A logistic gate with a Clopper–Pearson threshold (Uddin and Bauer, ACL SRW 2026).

    s(x) = σ(x·w + b), the chance that the weak member is right. Among calibration questions with s ≥ t, the rate
    of wrong weak answers has an upper bound U(t) at confidence 1 − δ. The lowest t that a scan from strict to lax
    reaches while U ≤ α is kept; if the first fails, nothing is given to the weak member. Then
    P(violation rate ≤ α) ≥ 1 − δ on questions like those of the calibration. Utility [s, 1 − s] (n, 2).
    Cost: one product with (d,). Fails under shift: the guarantee is for the same distribution, and on average.

    >>> from septet.core.table import Table
    >>> rows = [{"query": f"{q} {i}", "model": m, "score": float(m == "large" or q == "add")}
    ...         for i in range(200) for q in ("add", "prove") for m in ("small", "large")]
    >>> gate, rng = ConformalGate(alpha=0.1), np.random.default_rng(0)
    >>> state = gate.fit(Table.of(rows), {}, rng)
    >>> q = gate.utility(state.featurizer.rows(["add 7", "prove 7"]), state)
    >>> gate.choose(q, np.full((2, 2), np.nan), np.zeros(2), state, rng).weights.tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    >>> state.bound <= 0.1
    True
    """

    alpha: Annotated[
        float, param("The largest rate of wrong answers among those of the weak member.", gt=0, lt=1)
    ] = 0.1
    delta: Annotated[float, param("Probability with which the rate may be larger.", gt=0, lt=0.5)] = 0.05
    calibration: Annotated[
        float, param("Share of the questions that set the threshold, and are not fitted.", gt=0, lt=1)
    ] = 0.3
    start: Annotated[
        float, param("Share of the questions that the strictest threshold lets pass.", gt=0, le=1)
    ] = 0.2
    steps: Annotated[int, param("Thresholds that are tried.", ge=1, le=1000)] = 20
    l2: Annotated[float, param("Weight of half the squared norm of w.", ge=0, le=1000)] = 1.0
    features: FeatureKind = "lsa"

    state_type = Gate
    quality = "chance that it is the one to ask"

    def learn(self, known: Known, featurizer: Featurizer, x: Features, rng: Rng) -> Gate:
        """Fits the gate on some questions and sets the threshold on the others."""
        weak = known.scores[:, 0]
        index = np.flatnonzero(~np.isnan(weak))
        if len(index) < 2:
            raise BadParameter("table", len(index), "must hold two questions that the weak member answered")
        right = (weak[index] >= 0.5).astype(np.float64)
        kept = held_out(len(index), self.calibration, rng)
        line = fit_logistic(x[index[~kept]], right[~kept][:, None], l2=self.l2)
        fitted, calibrated = (sigmoid(line.outputs(x[index[part]]))[:, 0] for part in (~kept, kept))
        thresholds = np.quantile(fitted, 1 - np.linspace(self.start, 1, self.steps))
        t, routed, violations, bound = lowest_safe(
            calibrated, right[kept], thresholds, alpha=self.alpha, delta=self.delta
        )
        # 1 − s ≥ threshold is to mean s < t
        threshold = float(np.nextafter(1 - t, 2)) if routed else 0.0
        return Gate(featurizer, known.spending, 0.0, line, threshold, routed, violations, bound)

    def utility(self, x: Features, state: Gate) -> Floats:
        """(n, 2) [s, 1 − s], s the chance that the weak member is right."""
        s = sigmoid(state.line.outputs(x))[:, 0]
        return np.column_stack([s, 1 - s])

    def choose(self, q: Floats, c: Floats, prefer: Floats, state: Gate, rng: Rng) -> Choice:
        """Weak where s is at least the calibrated threshold, moved by the price of cost."""
        return Choice(weak_or_strong(q, c, prefer, state.threshold))


def lowest_safe(
    s: Floats, right: Floats, thresholds: Floats, *, alpha: float, delta: float
) -> tuple[float, int, int, float]:
    """The lowest threshold that a scan from strict to lax reaches while the bound on the rate of wrong ones is ≤ α.

    s and `right` (v,) of the calibration; `thresholds` (t,) descending. Returns the threshold, how many s reach
    it, how many of those are wrong, and the bound; if the first fails: infinity, 0, 0 and 1. That the scan stops
    at the first failure is what allows to test every threshold at the level δ (fixed-sequence testing). It starts
    where so many are routed that without a wrong one the bound would hold, which does not look at who was right.

    >>> lowest_safe(np.full(59, 0.9), np.ones(59), np.array([0.5]), alpha=0.05, delta=0.05)[:3]
    (0.5, 59, 0)
    """
    found = (float("inf"), 0, 0, 1.0)
    for t in thresholds.tolist():
        routed = s >= t
        n, wrong = int(routed.sum()), int((right[routed] < 0.5).sum())
        if not n or upper_bound(0, n, delta) > alpha:
            continue
        bound = upper_bound(wrong, n, delta)
        if bound > alpha:
            break
        found = (t, n, wrong, bound)
    return found
