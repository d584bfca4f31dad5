"""LLM routing lessons: confidences of a multi-label classifier under four policies, or the best member of a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from septet.core.errors import ConfigError
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
from septet.parts.learning.features import FeatureKind, Featurizer
from septet.parts.learning.rows import Features
from septet.parts.learning.targets import Targets
from septet.parts.routing.choose import best, net_utility, top
from septet.parts.routing.clusters import Clusters
from septet.parts.routing.cost import Spending
from septet.parts.routing.labels import balanced, majority_right
from septet.parts.routing.network import Head
from septet.parts.routing.records import Known
from septet.parts.routing.smoothed import group_means, known_mean

CARD = Card(
    paper="2405.00467",
    title="Harnessing the Power of Multiple Minds: Lessons Learned from LLM Routing",
    facets=Facets(
        family=Family.PRETRAINED,
        strategy=Strategy.SELECTION,
        granularity=Granularity.RESPONSE,
        goal=Goal.PERFORMANCE,
        supervised=True,
        efficiency_aware=True,
        utility=Utility.DISCRETE,
    ),
    trained=True,
    differs=(
        "by default a linear head on features stands in for the paper's DistilBERT; network = encoder fine-tunes one",
        "the confidence that is regressed on is that of the most confident right member; the released code takes the"
        " first right one in the order of its list, of another split",
        "prediction takes the member of nearest confidence, as the paper says; the released code subtracts the"
        " prediction from all and takes the largest, which is argmax again",
        "sorted regresses on the fastest right member and prefers the fastest within a window of ours; the released"
        " code sorts by how often members are right, and mixes two orders",
        "the regression is fitted on a held-out tenth, where confidences are those of questions not seen",
        "latency is the mean over all answers of the table, not only right ones, else cost, else tokens",
        "clusters are of the known questions alone; the released code also clusters the test questions",
        "a choice counts whether or not the member was predicted to be right; the released evaluation counts a"
        " right answer that was not predicted as wrong",
    ),
)


@dataclass(frozen=True)
class Lessons(Head):
    """A head and the `regression` (m + 1,) of a target on confidences, its last number the constant; or
    clusters with each member's mean score, `accuracy` (g, m)."""

    regression: Floats
    clusters: Clusters
    accuracy: Floats


@method(CARD)
class RoutingLessons(NetworkRouter):
    """Multi-label classification with policies, and clustering (2405.00467; details from the released code).

    classifier: c(x) = sigmoid of one output per member, (m,), by binary cross-entropy in which positive labels of
    member m weigh all positives / (m · its positives). argmax: the largest c. random: where max c ≤ sure, one of
    the three largest at random. prediction: the member whose c is nearest to t(x), a linear regression of the
    confidences. sorted: the fastest of those within `window` of the nearest, t being that of the fastest right one.
    clustering: the member of highest mean score in the question's k-means cluster.
    Cost: one product with the head or the centroids, or one pass of the encoder.
    Fails as the paper shows: no policy reaches its best single member on GSM8K.

    >>> confidences, rng = np.array([[.5, .6, .3, .1]]), np.random.default_rng(0)
    >>> router = RoutingLessons(policy="random")
    >>> router.choose(confidences, np.zeros((1, 4)), np.zeros(1), None, rng).weights.round(2).tolist()
    [[0.33, 0.33, 0.33, 0.0]]
    """

    router: Annotated[
        Literal["classifier", "clustering"],
        param("Confidences of a classifier, or means in clusters of questions."),
    ] = "classifier"
    policy: Annotated[
        Literal["argmax", "random", "prediction", "sorted"],
        param("What the classifier's confidences decide."),
    ] = "argmax"
    sure: Annotated[float, param("random: the confidence above which the best is taken.", ge=0, le=1)] = 0.6
    among: Annotated[int, param("random: members that are drawn from.", ge=1, le=100)] = 3
    window: Annotated[
        float, param("sorted: how much farther than the nearest a confidence may be.", ge=0, le=1)
    ] = 0.05
    n_clusters: Annotated[int, param("clustering: clusters of questions.", ge=1, le=10000)] = 50
    network: NetworkKind = "linear"
    features: FeatureKind = "lsa"
    l2: Penalty = 3e-3
    lr: LearningRate = 2e-6
    epochs: Epochs = 15
    batch: Batch = 128
    max_length: MaxLength = 128

    state_type = Lessons
    quality = "confidence"

    def __post_init__(self) -> None:
        if self.router == "clustering" and self.network == "encoder":
            raise ConfigError(
                "routing-lessons: router = 'clustering' has no network, so network must be 'linear'"
            )

    @property
    def sets_on_held_out(self) -> bool:
        """The regression is."""
        return self.router == "classifier" and self.policy in ("prediction", "sorted")

    def targets(self, known: Known) -> Targets:
        """(r, m) whether the majority of a member's samples is right, class-balanced."""
        y = majority_right(known)
        return Targets(y, balanced(y), "bce")

    def learn(self, known: Known, featurizer: Featurizer, x: Features, rng: Rng) -> Any:
        """Fits the classifier, or the clusters."""
        if self.router == "classifier":
            return super().learn(known, featurizer, x, rng)
        y = majority_right(known)
        clusters, group = Clusters.of(x, self.n_clusters, rng)
        accuracy = group_means(y, group, len(clusters), known_mean(y))
        head = Head(featurizer, known.spending, 0.0, np.empty((0, y.shape[1])), np.zeros(y.shape[1]), "bce")
        return Lessons(
            **vars(head), regression=np.zeros(y.shape[1] + 1), clusters=clusters, accuracy=accuracy
        )

    def finish(self, head: Head, known: Known, held: NDArray[np.int64], p: Floats) -> Lessons:
        """Regresses the target confidence on confidences p (v, m) of held-out questions."""
        m = len(head.bias)
        regression: Floats = np.zeros(m + 1)
        if len(held):
            rank = speed(known.spending) if self.policy == "sorted" else np.zeros(m)
            wanted = target(p, majority_right(known)[held], rank)
            regression = np.linalg.lstsq(_with_one(p), wanted, rcond=None)[0].astype(np.float64)
        none = np.empty((0, m))
        return Lessons(**vars(head), regression=regression, clusters=Clusters(none), accuracy=none)

    def utility(self, x: Features, state: Lessons) -> Floats:
        """(n, m) confidences, or mean scores in the nearest cluster."""
        if self.router == "classifier":
            return super().utility(x, state)
        found: Floats = state.accuracy[state.clusters.nearest(x)]
        return found

    def choose(self, q: Floats, c: Floats, prefer: Floats, state: Any, rng: Rng) -> Choice:
        """The policy, from confidences q (n, m); a price of cost is taken off before it decides."""
        net = net_utility(q, c, prefer)
        if self.router == "clustering" or self.policy == "argmax":
            return Choice(best(net))
        if self.policy == "random":
            unsure = np.where(np.isnan(q), -np.inf, q).max(axis=1, keepdims=True) <= self.sure
            return Choice(np.where(unsure, top(net, self.among), best(net)))
        off = -net_utility(-np.abs(q - (_with_one(q) @ state.regression)[:, None]), c, prefer)
        if self.policy == "prediction":
            return Choice(best(-off))
        farther = off - np.where(np.isnan(off), np.inf, off).min(axis=1, keepdims=True)
        rank = speed(state.spending)
        return Choice(best(np.where(farther <= self.window, -(2 * rank + farther), np.nan)))


def target(p: Floats, y: Floats, rank: Floats) -> Floats:
    """(v,) the confidence of the right member of least rank, of equal ones the highest; ½ where nobody is right.

    >>> target(np.array([[.4, .7], [.9, .2]]), np.array([[1., 1.], [0., 0.]]), np.array([0., 1.])).tolist()
    [0.4, 0.5]
    """
    candidates = np.where((y > 0) & ~np.isnan(p), rank - np.nan_to_num(p) / 2, np.inf)  # p/2 < 1 breaks ties
    chosen = candidates.argmin(axis=1)
    rows = np.arange(len(p))
    return np.where(np.isfinite(candidates[rows, chosen]), p[rows, chosen], 0.5)


def speed(spending: Spending) -> Floats:
    """(m,) rank of each member by mean seconds, 0 the fastest, equals alike; else by USD, else by tokens written.

    >>> speed(Spending(*(np.array(a) for a in ([3., 1.], [9., 9.], [9., 9.], [.5, .5])))).tolist()
    [0.0, 0.0]
    """
    for amount in (spending.seconds, spending.usd, spending.completion_tokens):
        if not np.isnan(amount).any():
            return np.unique(amount, return_inverse=True)[1].astype(np.float64)
    return np.zeros(len(spending.seconds))


def _with_one(p: Floats) -> Floats:
    """(v, m + 1) confidences and a constant; an unknown one counts nothing."""
    return np.hstack([np.nan_to_num(p), np.ones((len(p), 1))])
