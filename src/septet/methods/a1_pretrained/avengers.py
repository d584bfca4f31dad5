"""Avengers: the question's cluster says which members rank first; the best few may answer and vote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from septet.core.errors import BadParameter
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy, Utility
from septet.core.method import Card, Choice, Rng, method, param
from septet.core.types import Floats
from septet.methods.a1_pretrained._family import PretrainedRouter
from septet.parts.learning.features import FeatureKind, Featurizer
from septet.parts.learning.rows import Features
from septet.parts.routing.choose import cheapest_best, net_utility
from septet.parts.routing.clusters import Clusters
from septet.parts.routing.records import Fitted, Known
from septet.parts.routing.smoothed import Smoothed, group_means, known_mean, rank_reciprocal

CARD = Card(
    paper="2505.19797",
    title="The Avengers: A Simple Recipe for Uniting Smaller Language Models; Avengers-Pro (2508.12631)",
    facets=Facets(
        family=Family.PRETRAINED,
        strategy=Strategy.SELECTION,
        granularity=Granularity.RESPONSE,
        goal=Goal.PERFORMANCE,
        supervised=True,
        efficiency_aware=True,
        utility=Utility.CONTINUOUS,
    ),
    trained=True,
    differs=(
        "features are hashed TF-IDF reduced to 128 directions; the papers embed with Qwen models",
        "top_k = 1 by default, as in the released configurations for accuracy alone; beta and epsilon then change"
        " nothing",
        "members that are equally good in a cluster share a rank; the released code ranks them in some order",
        "the answers of the top_n members are combined by the ensemble's `then` method, with one sample of each",
        "a request's price of cost is charged against the rank score, whose unit is not quality",
        "of members with equal score the cheaper answers",
    ),
)


@dataclass(frozen=True)
class ClusterRanks(Fitted):
    """Clusters, and a rank score (g, m) of each member in each."""

    clusters: Clusters
    score: Smoothed


@method(CARD)
class Avengers(PretrainedRouter):
    """Ranks by cluster (2505.19797), and by a balance of accuracy and cost (Avengers-Pro, 2508.12631).

    d_c = 1 − c·x over k-means centroids c; p = softmax(−β·d) over the top_k nearest;
    score_m(x) = Σ_c p_c / (rank_c(m) + ε), (n, m), with rank 0 for the best member of cluster c. `performance` ranks
    by the mean score a_m in the cluster, `pro` by α·(a_m − min a)/(max a − min a) + (1 − α)·(1 − cost of m),
    cost as a share of the cluster's largest, or min–max scaled. The top_n members answer.
    Cost: one product with the centroids, whatever was known; the fit runs k-means n_init times.
    Fails where a cluster mixes questions that different members are good at.

    >>> from septet.core.table import Table
    >>> rows = [{"query": q, "model": m, "score": float(right == m), "cost_usd": 0.001}
    ...         for q, right in [("add two and two", "sum"), ("add one and two", "sum"), ("who wrote it", "wit")]
    ...         for m in ("sum", "wit")]
    >>> router = Avengers(clusters=2, epsilon=1.0, features="tf-idf")
    >>> state = router.fit(Table.of(rows), {}, np.random.default_rng(0))
    >>> router.utility(state.featurizer.rows(["add two and one"]), state).tolist()
    [[1.0, 0.5]]
    """

    variant: Annotated[
        Literal["performance", "pro"],
        param("What ranks members in a cluster: the mean score, or its balance with the cost."),
    ] = "performance"
    clusters: Annotated[int, param("Clusters of the known questions, at most.", ge=1, le=4096)] = 64
    top_k: Annotated[int, param("Nearest clusters that count.", ge=1, le=100)] = 1
    beta: Annotated[float, param("How fast a cluster's weight falls with its distance.", ge=0, le=100)] = 6.0
    epsilon: Annotated[float, param("Added to a rank before it divides.", gt=0, le=10)] = 0.1
    alpha: Annotated[float, param("Share of the score in the balance of pro.", ge=0, le=1)] = 0.53
    cost_scale: Annotated[
        Literal["max", "min-max"],
        param(
            "How pro scales cost in a cluster: by its largest (released code), or min-max (the paper's text)."
        ),
    ] = "max"
    top_n: Annotated[int, param("Members that answer; more than one need a `then` method.", ge=1, le=100)] = 1
    n_init: Annotated[int, param("Runs of k-means, of which the best is kept.", ge=1, le=100)] = 10
    features: FeatureKind = "lsa"

    state_type = ClusterRanks
    quality = "rank score"

    def learn(self, known: Known, featurizer: Featurizer, x: Features, rng: Rng) -> ClusterRanks:
        """Clusters the questions and ranks the members in each cluster."""
        clusters, group = Clusters.of(x, self.clusters, rng, self.n_init)
        worth = group_means(known.scores, group, len(clusters), known_mean(known.scores))
        if self.variant == "pro":
            usd = known_mean(known.usd)
            if np.isnan(usd).any():
                lacking = [m for m, mean in zip(known.members, usd, strict=True) if np.isnan(mean)]
                raise BadParameter("cost_usd", lacking, "must be recorded for every member: pro ranks by it")
            worth = balanced(
                worth, group_means(known.usd, group, len(clusters), usd), self.alpha, self.cost_scale
            )
        ranks = rank_reciprocal(worth, self.epsilon)
        return ClusterRanks(featurizer, known.spending, 0.0, clusters, Smoothed.of(ranks))

    def utility(self, x: Features, state: ClusterRanks) -> Floats:
        """(n, m) the rank score."""
        return state.score.at(*state.clusters.soft(x, self.top_k, self.beta))

    def choose(self, q: Floats, c: Floats, prefer: Floats, state: ClusterRanks, rng: Rng) -> Choice:
        """The top_n members by q − prefer·c, all of them if more than one; of equal ones the cheaper."""
        net = net_utility(q, c, prefer)
        weights = cheapest_best(net, c)
        if self.top_n == 1:
            return Choice(weights)
        for _ in range(1, min(self.top_n, q.shape[1])):
            weights = weights + cheapest_best(np.where(weights > 0, np.nan, net), c)
        return Choice(weights / weights.sum(axis=1, keepdims=True), "all")


def balanced(
    means: Floats, usd: Floats, alpha: float, cost_scale: Literal["max", "min-max"] = "max"
) -> Floats:
    """(g, m) α·minmax(mean score) + (1 − α)·(1 − scaled cost), scaled within each group (2508.12631).

    >>> balanced(np.array([[.9, .6]]), np.array([[10., 1.]]), 0.5).tolist()
    [[0.5, 0.45]]
    """
    least = np.zeros((len(usd), 1)) if cost_scale == "max" else usd.min(axis=1, keepdims=True)
    return alpha * _scaled(means, np.nanmin(means, axis=1, keepdims=True)) + (1 - alpha) * (
        1 - _scaled(usd, least)
    )


def _scaled(values: Floats, least: Floats) -> Floats:
    """(g, m) (v − least) / (largest − least); zero where all are equal."""
    span = np.nanmax(values, axis=1, keepdims=True) - least
    scaled: Floats = (values - least) / np.where(span > 0, span, 1.0)
    return scaled
