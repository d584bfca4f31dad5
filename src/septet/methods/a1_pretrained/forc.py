"""FORC: predict who will be right, then assign many queries at once within a budget or above a quality."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np

from septet.core.facets import Facets, Family, Goal, Granularity, Strategy, Utility
from septet.core.method import Card, Choice, Rng, method, param
from septet.core.types import Floats
from septet.methods.a1_pretrained._network import (
    Batch,
    Epochs,
    LearningRate,
    MaxLength,
    NetworkKind,
    NetworkRouter,
    Penalty,
)
from septet.parts.learning.features import FeatureKind
from septet.parts.learning.targets import Targets
from septet.parts.routing.assign import assign, greedy
from septet.parts.routing.choose import best, cheapest_good, net_utility
from septet.parts.routing.network import Head
from septet.parts.routing.records import Known

CARD = Card(
    paper="2308.06077",
    title="Fly-Swat or Cannon? Cost-Effective Language Model Choice via Meta-Modeling",
    facets=Facets(
        family=Family.PRETRAINED,
        strategy=Strategy.SELECTION,
        granularity=Granularity.RESPONSE,
        goal=Goal.COST,
        supervised=True,
        efficiency_aware=True,
        utility=Utility.DISCRETE,
    ),
    trained=True,
    scope="dataset",
    differs=(
        "the network has one output per member; the paper's reads the member's name with the query and has one",
        "the default network is logistic on the features of the question; network = encoder is the paper's kind",
        "cost is the member's mean USD per call in the outcomes, not price times tokens of the query",
        "budget_usd and quality_floor hold for the queries of one call that share a task",
        "the price of cost takes part in the strategies performance, greedy and ilp; the paper has none",
        "the options of the released code that replace hopeless rows by mean accuracies, or add the cost to the"
        " aim under a budget, are left out",
        "it was read in the authors' code, not in the paper's text",
    ),
)


@method(CARD)
class Forc(NetworkRouter):
    """A meta-model of correctness and four ways to spend on it (2308.06077).

    p (n, m) = P(member is right | query), binary cross-entropy. performance: argmax p. threshold: the cheapest
    with p > threshold, else the dearest (`otherwise`). greedy: query by query argmax p if the rest of the budget
    covers it, else nobody. ilp, x in {0, 1}, y = 1 where nobody answers:
    (a) budget_usd: max Σ p·x − penalty·Σ y, Σ c·x ≤ budget; (b) quality_floor Q: min Σ c·x + penalty·Σ y, Σ p·x ≥ Q,
    where a Q below 1 means round(Q·n); (c) neither: max Σ (alpha·p − (1 − alpha)·c)·x − penalty·Σ y.
    With one query, ilp is threshold, and nobody answers where the budget does not cover the choice.
    Cost: one product of features and weights; ilp solves a program of n·m variables.
    Fails where nobody is likely to be right: (a) with penalty 0 then serves only those who are worth it.

    >>> import numpy as np
    >>> p, c = np.array([[.6, .9], [.2, .9]]), np.array([[1., 3.], [1., 3.]])
    >>> Forc(strategy="ilp", budget_usd=4.0).choose(p, c, np.zeros(2), None, np.random.default_rng(0)).weights
    array([[1., 0.],
           [0., 1.]])
    """

    strategy: Annotated[
        Literal["performance", "threshold", "greedy", "ilp"],
        param("How members are chosen from what is predicted."),
    ] = "performance"
    threshold: Annotated[
        float, param("Probability of being right above which a member is good enough.", ge=0, le=1)
    ] = 0.5
    otherwise: Annotated[
        Literal["dearest", "cheapest", "best"], param("Who answers where nobody is good enough.")
    ] = "dearest"
    budget_usd: Annotated[float | None, param("USD for all queries of one call; none: no limit.", ge=0)] = (
        None
    )
    quality_floor: Annotated[
        float | None,
        param("Sum of p that ilp has to reach; below 1 a share of the queries; none: no floor.", ge=0),
    ] = None
    alpha: Annotated[
        float, param("Weight of p against USD in ilp with neither budget nor floor.", ge=0, le=1)
    ] = 0.5
    penalty: Annotated[float, param("What a query that nobody answers costs ilp.", ge=0, le=1e6)] = 0.0
    binary: Annotated[bool, param("Whether ilp counts p as 1 above the threshold and as 0 else.")] = False
    features: FeatureKind = "lsa"
    network: NetworkKind = "linear"
    l2: Penalty = 3e-3
    lr: LearningRate = 3e-5
    epochs: Epochs = 10
    batch: Batch = 16
    max_length: MaxLength = 512

    quality = "probability of being right"

    def targets(self, known: Known) -> Targets:
        """Who was right, as probabilities where scores lie between."""
        return Targets.even(np.clip(known.scores, 0.0, 1.0), "bce")

    def choose(self, q: Floats, c: Floats, prefer: Floats, state: Head | None, rng: Rng) -> Choice:
        """Weights (n, m) by the strategy; a row of zeros where nobody answers."""
        net = net_utility(q, c, prefer)
        if self.strategy == "performance":
            return Choice(best(net))
        if self.strategy == "greedy":
            return Choice(best(net) if self.budget_usd is None else greedy(net, c, self.budget_usd))
        if self.strategy == "threshold":
            return Choice(self._good_enough(q, c))
        if len(q) == 1:
            weights = self._good_enough(q, c)
            spent = float(np.where(weights > 0, c, 0.0).sum())
            covered = self.budget_usd is None or spent <= self.budget_usd
            return Choice(weights if covered else np.zeros_like(weights))
        return Choice(self._program(q, c, net))

    def _good_enough(self, q: Floats, c: Floats) -> Floats:
        above = float(np.nextafter(self.threshold, np.inf))  # the paper's p > t
        return cheapest_good(q, c, above, self.otherwise)

    def _program(self, q: Floats, c: Floats, net: Floats) -> Floats:
        if self.binary:
            q = np.where(np.isnan(q), np.nan, (q > self.threshold).astype(np.float64))
            net = q
        if self.quality_floor is not None:
            floor = self.quality_floor
            floor = float(round(floor * len(q))) if floor < 1 else floor
            return assign(-c, cost=c, budget=self.budget_usd, quality=q, floor=floor, penalty=self.penalty)
        if self.budget_usd is not None:
            return assign(net, cost=c, budget=self.budget_usd, penalty=self.penalty)
        return assign(self.alpha * q - (1 - self.alpha) * c, penalty=self.penalty)
