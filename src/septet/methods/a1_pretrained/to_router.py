"""TO-Router: a classifier from the prompt to the expert, taught by how good all experts' answers were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from septet.core.facets import Facets, Family, Goal, Granularity, Strategy, Utility
from septet.core.method import Card, Rng, method, param
from septet.core.types import Floats
from septet.methods.a1_pretrained._network import (
    Batch,
    Epochs,
    LearningRate,
    MaxLength,
    NetworkRouter,
    Penalty,
)
from septet.parts.learning.features import FeatureKind, Featurizer
from septet.parts.learning.mlp import Mlp, fit_mlp
from septet.parts.learning.rows import Features, cosines
from septet.parts.learning.targets import Targets, activated
from septet.parts.routing.labels import softmax_labels
from septet.parts.routing.neighbours import nearest_mean
from septet.parts.routing.network import Head
from septet.parts.routing.records import Known

CARD = Card(
    paper="2408.12320",
    title="TensorOpera Router: A Multi-Model Router for Efficient LLM Inference",
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
    differs=(
        "scores are the table's; the paper's are BERT similarities to a reference",
        "the temperature of the soft labels is not given where we could read; 0.1 is ours",
        "k, the layer of the mlp and all constants of the encoder are ours: the paper's are unverified",
        "the mlp learns each member's share by binary cross-entropy, not all shares by one softmax",
        "the linear head is ours; it is the same classifier without an encoder below it",
        "the price of cost is ours: the paper reports costs and decides without them",
    ),
)


@dataclass(frozen=True)
class Experts(Head):
    """A head, or known questions `rows` (r, d) with soft `labels` (r, m), or a small network."""

    rows: Features
    labels: Floats
    net: Mlp


@method(CARD)
class ToRouter(NetworkRouter):
    """Soft labels from scores and a classifier over members (2408.12320).

    label(x) = softmax(scores / temperature), (m,). knn: q = mean label of the k nearest known questions; mlp: one
    hidden layer; linear and encoder: softmax of one output per member, fitted by KL(label ‖ q). The largest q
    answers. The temperature matters for bounded scores: at 1, .9 and .8 are nearly the same label.
    Cost: a product with the known questions (knn) or the network, or one pass of the encoder.
    Fails where most members are right on most questions: then labels are uniform and teach little.

    >>> from septet.core.table import Table
    >>> rows = [{"query": q, "model": m, "score": s}
    ...         for q, scores in [("add two and two", (1, 0)), ("add one and two", (1, 0)), ("who wrote it", (0, 1))]
    ...         for m, s in zip(("sum", "wit"), scores)]
    >>> router = ToRouter(network="knn", k=2)
    >>> state = router.fit(Table.of(rows), {}, np.random.default_rng(0))
    >>> router.utility(state.featurizer.rows(["add two and one"]), state).round(3).tolist()
    [[1.0, 0.0]]
    """

    network: Annotated[
        Literal["knn", "mlp", "linear", "encoder"],
        param(
            "The classifier: neighbours, a hidden layer, or a head on the features, or on the role `encoder`."
        ),
    ] = "knn"
    temperature: Annotated[
        float, param("Divides scores before the softmax; 0: the best only.", ge=0, le=100)
    ] = 0.1
    k: Annotated[int, param("knn: known questions that count as neighbours.", ge=1, le=10000)] = 50
    hidden: Annotated[int, param("mlp: units of the hidden layer.", ge=1, le=4096)] = 100
    features: FeatureKind = "lsa"
    l2: Penalty = 3e-3
    lr: LearningRate = 2e-5
    epochs: Epochs = 5
    batch: Batch = 32
    max_length: MaxLength = 512

    state_type = Experts
    quality = "expected share"

    def targets(self, known: Known) -> Targets:
        """The soft labels (r, m)."""
        return Targets.even(softmax_labels(known.scores, self.temperature), "kl")

    def learn(self, known: Known, featurizer: Featurizer, x: Features, rng: Rng) -> Any:
        """Keeps the known questions, or fits what the classifier needs."""
        if self.network in ("linear", "encoder"):
            return super().learn(known, featurizer, x, rng)
        labels = self.targets(known).y
        n_members = labels.shape[1]
        head = Head(featurizer, known.spending, 0.0, np.empty((0, n_members)), np.zeros(n_members), "kl")
        if self.network == "knn":
            return _experts(head, rows=x, labels=labels)
        return _experts(head, net=fit_mlp(x, labels, rng, hidden=(self.hidden,), loss="bce"))

    def finish(self, head: Head, known: Known, held: NDArray[np.int64], p: Floats) -> Experts:
        return _experts(head)

    def utility(self, x: Features, state: Experts) -> Floats:
        """(n, m) expected labels."""
        if self.network == "knn":
            return nearest_mean(cosines(state.rows, x), state.labels, self.k)
        if self.network == "mlp":
            return activated(state.net.outputs(x), "bce")
        return super().utility(x, state)


def _experts(
    head: Head, rows: Features | None = None, labels: Floats | None = None, net: Mlp | None = None
) -> Experts:
    """A state of which only what the classifier uses is filled."""
    none = np.empty((0, len(head.bias)))
    return Experts(
        **vars(head),
        rows=none if rows is None else rows,
        labels=none if labels is None else labels,
        net=Mlp((), np.empty(0)) if net is None else net,
    )
