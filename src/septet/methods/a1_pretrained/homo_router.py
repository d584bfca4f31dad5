"""HomoRouter: predict the score and the cost of every interchangeable tool, then take the best or the cheapest of
the good ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from septet.core.facets import Facets, Family, Goal, Granularity, Strategy, Utility
from septet.core.method import Asking, Card, Choice, Rng, SeatPool, method, param
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
from septet.parts.learning.rows import Features
from septet.parts.learning.targets import Targets, activated
from septet.parts.routing.assign import assign
from septet.parts.routing.choose import best, net_utility, within
from septet.parts.routing.network import Head, outputs
from septet.parts.routing.records import Known

CARD = Card(
    paper="2406.12429",
    title="Adaptive Selection for Homogeneous Tools: An Instantiation in the RAG Scenario",
    facets=Facets(
        family=Family.PRETRAINED,
        strategy=Strategy.SELECTION,
        granularity=Granularity.RESPONSE,
        goal=Goal.COST,
        supervised=True,
        efficiency_aware=True,
        utility=Utility.CONTINUOUS,
    ),
    trained=True,
    scope="dataset",
    differs=(
        "members are language models here; the paper's are search engines of one pipeline",
        "equations, encoder and constants could not be read: the regression is squared error on scores and on"
        " costs in units of their mean, and every default but that is ours",
        "cost-saving is the cheapest within epsilon of the best prediction; assignment is an integer program as"
        " a listing of the method describes it",
        "a predicted cost is at least 0",
        "where the outcomes hold no cost of a member, its cost is price times mean tokens, not predicted",
    ),
)


@dataclass(frozen=True)
class ScoreAndCost(Head):
    """Outputs: m scores, then m costs divided by `mean_usd` (m,); NaN where no cost was recorded."""

    mean_usd: Floats


@method(CARD)
class HomoRouter(NetworkRouter):
    """Regression of score and cost (2406.12429).

    (q, c) (n, 2m) = linear in the features of the question, or a text encoder; squared error.
    best-performance: argmax q − λ·c. cost-saving: the cheapest with q ≥ max q − epsilon. assignment: over the
    queries of a call that share a task, the cheapest assignment whose mean predicted score is at most epsilon
    below that of the best members, Σ q·x ≥ Σ max q − n·epsilon, everybody served.
    Cost: one product of features and weights; assignment solves a program of n·m variables.
    Fails where the squared error is small because scores hardly differ: epsilon then spans all members.

    >>> q, c, rng = np.array([[.9, .8], [.9, .5]]), np.array([[3., 1.], [3., 1.]]), np.random.default_rng(0)
    >>> HomoRouter(strategy="cost-saving", epsilon=0.1).choose(q, c, np.zeros(2), None, rng).weights
    array([[0., 1.],
           [1., 0.]])
    """

    strategy: Annotated[
        Literal["best-performance", "cost-saving", "assignment"],
        param("How members are chosen from what is predicted."),
    ] = "best-performance"
    epsilon: Annotated[
        float, param("Score that cost-saving, or a query of assignment on average, may lose.", ge=0, le=1)
    ] = 0.05
    features: FeatureKind = "lsa"
    network: NetworkKind = "linear"
    l2: Penalty = 3e-2
    lr: LearningRate = 2e-5
    epochs: Epochs = 10
    batch: Batch = 16
    max_length: MaxLength = 512

    state_type = ScoreAndCost
    quality = "predicted score"

    def targets(self, known: Known) -> Targets:
        """(r, 2m) scores, then costs in units of the member's mean; a cost that is never known is an output
        that is never seen."""
        return Targets.even(np.hstack([known.scores, known.usd / _mean(known.usd)]), "mse")

    def finish(self, head: Head, known: Known, held: NDArray[np.int64], p: Floats) -> ScoreAndCost:
        """The head with the scale of its costs."""
        parts = (head.featurizer, head.spending, head.prefer, head.weights, head.bias, head.loss)
        return ScoreAndCost(*parts, mean_usd=_mean(known.usd))

    def to_quality(self, p: Floats, state: Any) -> Floats:
        """(n, m) the first half of the outputs."""
        return p[:, : p.shape[1] // 2]

    def cost(self, x: Features, state: Any, pool: SeatPool) -> Floats | Asking[Floats]:
        """(n, m) the second half in USD; where it is unknown, as every router has it."""
        p = activated(outputs(x, state), state.loss)
        usd = np.maximum(p[:, p.shape[1] // 2 :], 0.0) * state.mean_usd
        stated: Floats = state.spending.expected_usd([m.price for m in pool.members])
        return np.where(np.isnan(usd), stated, usd)

    def choose(self, q: Floats, c: Floats, prefer: Floats, state: Any, rng: Rng) -> Choice:
        """Weights (n, m) by the strategy; the price of cost takes part in the first."""
        if self.strategy == "best-performance":
            return Choice(best(net_utility(q, c, prefer)))
        if self.strategy == "cost-saving" or len(q) == 1 or np.isnan(c).all(axis=1).any():
            return Choice(within(q, c, self.epsilon))
        usable = np.where(np.isnan(c), np.nan, q)
        floor = float(np.nanmax(usable, axis=1).sum()) - len(q) * self.epsilon
        return Choice(assign(-c, quality=q, floor=floor - 1e-9))


def _mean(usd: Floats) -> Floats:
    """(m,) mean of the known costs (r, m); NaN without any, and 1 where all are 0."""
    known = ~np.isnan(usd)
    with np.errstate(invalid="ignore"):
        mean: Floats = np.where(known, usd, 0.0).sum(axis=0) / known.sum(axis=0)
    return np.where(mean == 0, 1.0, mean)
