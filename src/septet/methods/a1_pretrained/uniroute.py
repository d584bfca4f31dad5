"""UniRoute: a member is the vector of its error rates over clusters, a question its membership in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from septet.core.facets import Facets, Family, Goal, Granularity, Strategy, Utility
from septet.core.method import Card, Choice, Rng, method, param
from septet.core.types import Floats
from septet.methods.a1_pretrained._family import PretrainedRouter
from septet.parts.learning.features import FeatureKind, Featurizer
from septet.parts.learning.rows import Features, times
from septet.parts.routing.choose import cheapest_best, net_utility
from septet.parts.routing.clusters import Clusters, learned_map, softmax
from septet.parts.routing.records import Fitted, Known
from septet.parts.routing.smoothed import Smoothed, group_means, known_mean

CARD = Card(
    paper="2502.08773",
    title="Universal Model Routing for Efficient LLM Inference",
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
    differs=(
        "features are hashed TF-IDF reduced to 128 directions, not sentence embeddings",
        "clusters and error vectors come from the same questions; the paper clusters a larger unlabelled set",
        "the learned map is linear and starts from the k-means centroids, with the clusters' error vectors held"
        " fixed; the network of the paper is unverified",
        "clusters = 0 chooses their number by the squared error of k-means on a held-out fifth of the questions",
        "a state is for the members it was fitted for; a new one may be known on a few questions only, but needs"
        " a fit",
        "of members with equal utility the cheaper answers",
    ),
)

CLUSTERS = (1, 5, 10, 20, 40, 80)
"""What clusters = 0 chooses from."""


@dataclass(frozen=True)
class ClusterTable(Fitted):
    """Clusters with the mean score (g, m) of each member in each; and of the learned map its weights (d, g)
    and biases (g,), empty for k-means."""

    clusters: Clusters
    quality: Smoothed
    weights: Floats
    biases: Floats


@method(CARD)
class Uniroute(PretrainedRouter):
    """Cluster errors (2502.08773).

    Ψ(m) ∈ [0, 1]^g: member m's error rate in each cluster; Φ(x): the question's membership; predicted error
    Φ(x)ᵀΨ(m), (n, m); π(x) = argmin_m Φ(x)ᵀΨ(m) + λ·c_m. `k-means`: Φ is one at the nearest centroid.
    `learned-map`: Φ(x) = softmax(x·W + b), fitted so that Φ(x)ᵀΨ(m) has the least cross-entropy to the observed
    outcomes. We keep 1 − Ψ, the mean scores.
    Cost: one product with the centroids; the fit runs k-means, and L-BFGS for the learned map.
    Fails where members differ inside a cluster and not between them.

    >>> from septet.core.table import Table
    >>> rows = [{"query": q, "model": m, "score": float(right == m)}
    ...         for q, right in [("add two and two", "sum"), ("add one and two", "sum"), ("who wrote it", "wit")]
    ...         for m in ("sum", "wit")]
    >>> router = Uniroute(clusters=2, features="tf-idf")
    >>> state = router.fit(Table.of(rows), {}, np.random.default_rng(0))
    >>> router.utility(state.featurizer.rows(["add two and one", "who wrote this"]), state).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """

    variant: Annotated[
        Literal["k-means", "learned-map"],
        param("Membership of a question: its nearest centroid, or a map fitted to the outcomes."),
    ] = "k-means"
    clusters: Annotated[
        int, param("Clusters, at most; 0: chosen on a held-out fifth of the questions.", ge=0, le=4096)
    ] = 0
    beta: Annotated[
        float, param("Sharpness of the k-means membership that the learned map starts from.", ge=0, le=100)
    ] = 6.0
    ridge: Annotated[float, param("How strongly the learned map is held to its start.", ge=0, le=10)] = 1e-4
    steps: Annotated[int, param("Iterations of L-BFGS, at most.", ge=1, le=1000)] = 100
    n_init: Annotated[int, param("Runs of k-means, of which the best is kept.", ge=1, le=100)] = 10
    features: FeatureKind = "lsa"

    state_type = ClusterTable

    def learn(self, known: Known, featurizer: Featurizer, x: Features, rng: Rng) -> ClusterTable:
        """Clusters the questions, averages scores in each, and fits the map."""
        n_clusters = self.clusters or self.validated(x, known.scores, rng)
        clusters, group = Clusters.of(x, n_clusters, rng, self.n_init)
        table = Smoothed.of(known.scores)
        quality = Smoothed(group_means(known.scores, group, len(clusters), table.prior), table.prior)
        weights, biases = np.empty((0, 0)), np.empty(0)
        if self.variant == "learned-map":
            seen = ~np.isnan(table.prior)
            start = self.beta * clusters.centroids.T
            weights, biases = learned_map(
                x, known.scores[:, seen], quality.value[:, seen], start, ridge=self.ridge, steps=self.steps
            )
        return ClusterTable(featurizer, known.spending, 0.0, clusters, quality, weights, biases)

    def validated(self, x: Features, scores: Floats, rng: Rng) -> int:
        """The number of clusters whose means on four fifths of the questions are nearest to the last fifth."""
        order = rng.permutation(len(x))
        held, rest = order[: len(x) // 5], order[len(x) // 5 :]
        if not len(held):
            return 1
        prior, errors = known_mean(scores[rest]), []
        for n_clusters in CLUSTERS:
            clusters, group = Clusters.of(x[rest], n_clusters, rng, n_init=1)
            means = group_means(scores[rest], group, len(clusters), prior)
            errors.append(np.nanmean((means[clusters.nearest(x[held])] - scores[held]) ** 2))
        return CLUSTERS[int(np.argmin(errors))]

    def utility(self, x: Features, state: ClusterTable) -> Floats:
        """(n, m) one less the predicted error."""
        if self.variant == "k-means":
            return state.quality.value[state.clusters.nearest(x)]
        phi = softmax(times(x, state.weights) + state.biases)
        predicted: Floats = phi @ state.quality.value
        return predicted

    def choose(self, q: Floats, c: Floats, prefer: Floats, state: ClusterTable, rng: Rng) -> Choice:
        """The member with the largest q − prefer·c; of equal ones the cheaper."""
        return Choice(cheapest_best(net_utility(q, c, prefer), c))
