"""ZOOTER: a classifier learns how a reward model divides its favour among the members' answers."""

from __future__ import annotations

from typing import Annotated

from septet.core.facets import Facets, Family, Goal, Granularity, Strategy, Utility
from septet.core.method import Card, method, param
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
from septet.parts.routing.labels import softmax_labels, tag_smoothed
from septet.parts.routing.network import Head
from septet.parts.routing.records import Known

CARD = Card(
    paper="2311.08692",
    title="Routing to the Expert: Efficient Reward-guided Ensemble of Large Language Models",
    facets=Facets(
        family=Family.PRETRAINED,
        strategy=Strategy.SELECTION,
        granularity=Granularity.RESPONSE,
        goal=Goal.PERFORMANCE,
        supervised=False,
        utility=Utility.DISCRETE,
    ),
    trained=True,
    differs=(
        "by default a linear head on features stands in for the paper's mDeBERTa; network = encoder fine-tunes one",
        "rewards are the table's scores, whatever made them",
        "a question's one tag is its task; the paper tags questions with a language model",
        "the loss is KL(label ‖ router), whose gradient is that of cross-entropy; the paper prints the router first",
        "batch and max_length are ours, and there is no weight decay of 5e-7",
        "the price of cost is ours: the paper has none",
    ),
)


@method(CARD)
class Zooter(NetworkRouter):
    """Reward-guided distillation with tag-based label enhancement (2311.08692, section 3).

    s(x) = softmax of the m members' rewards / temperature, (m,); s_t = mean of s over the questions with tag t;
    s*(x) = β·s(x) + (1 − β)·mean over the tags of x of s_t. The router Z(x), (m,), minimises the mean
    KL(s*(x) ‖ Z(x)); the largest answers.
    Cost: one product with the head, or one pass of the encoder.
    Fails where rewards are bounded and close: their softmax is nearly uniform (a lower temperature helps), and
    where tags say all there is to know, it routes by tag.

    >>> import numpy as np
    >>> from septet.core.table import Table
    >>> rows = [{"query": q, "task": t, "model": m, "score": s}
    ...         for q, t, scores in [("add two and two", "sums", (2, 0)), ("add one and two", "sums", (1, 0)),
    ...                              ("who wrote it", "facts", (0, 1)), ("who said it", "facts", (0, 1))]
    ...         for m, s in zip(("sum", "wit"), scores)]
    >>> router = Zooter(beta=1.0)
    >>> state = router.fit(Table.of(rows), {}, np.random.default_rng(0))
    >>> router.utility(state.featurizer.rows(["add two and one", "who wrote that"]), state).argmax(axis=1)
    array([0, 1])
    """

    beta: Annotated[float, param("Share of a question's own label; the rest is its tag's.", ge=0, le=1)] = 0.3
    temperature: Annotated[float, param("Divides the rewards before the softmax.", ge=0, le=1000)] = 1.0
    network: NetworkKind = "linear"
    features: FeatureKind = "lsa"
    l2: Penalty = 3e-3
    lr: LearningRate = 1e-5
    epochs: Epochs = 5
    batch: Batch = 32
    max_length: MaxLength = 512

    state_type = Head
    quality = "expected share of reward"

    def targets(self, known: Known) -> Targets:
        """The smoothed labels s* (r, m)."""
        labels = softmax_labels(known.scores, self.temperature)
        tags = [[task] if task else [] for task in known.tasks]
        return Targets.even(tag_smoothed(labels, tags, self.beta), "kl")
