"""Routoo: predict who will be right, spend a budget where it buys most, and choose a pool that covers most."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from septet.core.errors import ConfigError
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy, Utility
from septet.core.method import Card, Rng, method, param
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
from septet.parts.learning.bilinear import Bilinear, fit_bilinear
from septet.parts.learning.features import FeatureKind, Featurizer
from septet.parts.learning.rows import Features
from septet.parts.learning.targets import Targets, activated
from septet.parts.routing.calibrate import price_for_budget
from septet.parts.routing.labels import right
from septet.parts.routing.network import Head
from septet.parts.routing.pool_choice import greedy_pool
from septet.parts.routing.records import Known

CARD = Card(
    paper="2401.13979",
    title="Routoo: Learning to Route to Large Language Models Effectively",
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
        "the paper's predictor is a small decoder that reads the question and an embedding of the model; here it is"
        " a head per member, a bilinear form with an embedding per member, or a fine-tuned encoder",
        "its internals are not public, so all constants of the fit are ours",
        "the budget is kept by a price of cost set on held-out questions; the paper solves it over a batch",
        "the cost of a member is its mean in the table",
        "the self-play generation of training questions is left out",
    ),
)


@dataclass(frozen=True)
class Performance(Head):
    """A head or a bilinear `net` (its other fields are empty), and `pool` (m,): the members that may be asked."""

    pool: NDArray[np.bool_]
    net: Bilinear


@method(CARD)
class Routoo(NetworkRouter):
    """Performance predictor, cost-aware selector and universe constructor (2401.13979).

    q_m(x) = sigmoid of one output per member, fitted by cross-entropy to whether it was right (score ≥ ½); the
    member of largest q − λ·c answers, with c its mean USD and λ the least price that keeps the mean cost of
    held-out questions within the budget. Pool: greedily, the member that adds most to Σ_i max_{m in pool} S_im.
    Cost: one product with the head, or one pass of the encoder.
    Fails where the predictor only knows who is good on average: then λ buys the same member everywhere.

    >>> from septet.core.table import Table
    >>> rows = [{"query": q, "model": m, "score": s, "cost_usd": 0.001}
    ...         for q, scores in [("add two and two", (1, 0, 0)), ("add one and two", (1, 0, 0)),
    ...                           ("who wrote it", (0, 1, 1)), ("who said it", (0, 1, 0))]
    ...         for m, s in zip(("sum", "wit", "wag"), scores)]
    >>> router = Routoo(pool_size=2)
    >>> state = router.fit(Table.of(rows), {}, np.random.default_rng(0))
    >>> state.pool.tolist()
    [True, True, False]
    >>> router.utility(state.featurizer.rows(["who wrote that"]), state).round(1).tolist()
    [[0.0, 1.0, nan]]
    """

    predictor: Annotated[
        Literal["head", "bilinear"],
        param("One output per member, or a vector per member times one per question."),
    ] = "head"
    budget_usd: Annotated[
        float | None,
        param("Mean USD of an answer that λ is set to keep; none: as the request or the fit says.", gt=0),
    ] = None
    pool_size: Annotated[
        int | None, param("Members that may be asked, chosen by coverage; none: all.", ge=1, le=1000)
    ] = None
    size: Annotated[int, param("bilinear: length of the vectors.", ge=1, le=1024)] = 32
    passes: Annotated[int, param("bilinear: times that the questions are seen.", ge=1, le=10000)] = 50
    network: NetworkKind = "linear"
    features: FeatureKind = "lsa"
    l2: Penalty = 3e-3
    lr: LearningRate = 2e-5
    epochs: Epochs = 5
    batch: Batch = 32
    max_length: MaxLength = 512

    state_type = Performance
    quality = "probability of being right"

    def __post_init__(self) -> None:
        if self.predictor == "bilinear" and self.network == "encoder":
            raise ConfigError(
                "routoo: predictor = 'bilinear' works on features, not with network = 'encoder'"
            )

    @property
    def sets_on_held_out(self) -> bool:
        """The price of cost is."""
        return self.budget_usd is not None

    def targets(self, known: Known) -> Targets:
        """(r, m) who was right."""
        return Targets.even(right(known.scores), "bce")

    def learn(self, known: Known, featurizer: Featurizer, x: Features, rng: Rng) -> Any:
        """Fits the predictor, then λ on held-out questions."""
        if self.predictor == "head":
            return super().learn(known, featurizer, x, rng)
        kept, y = self.held_out(len(known), rng), self.targets(known).y
        net = fit_bilinear(
            x[~kept],
            y[~kept],
            known.members,
            rng,
            loss="bce",
            size=self.size,
            rate=1e-2,
            batch=64,
            epochs=self.passes,
            decay=1e-4,
        )
        head = Head(featurizer, known.spending, 0.0, np.empty((0, y.shape[1])), np.zeros(y.shape[1]), "bce")
        held = np.flatnonzero(kept)
        p = activated(net.outputs(x[held]), "bce")
        return replace(self.finish(head, known, held, p), net=net)

    def finish(self, head: Head, known: Known, held: NDArray[np.int64], p: Floats) -> Performance:
        """Chooses the pool, and sets λ to the budget."""
        pool = np.ones(len(known.members), dtype=bool)
        if self.pool_size is not None and self.pool_size < len(pool):
            pool[:] = False
            pool[greedy_pool(known.scores, self.pool_size)] = True
        none = np.empty(0)
        state = Performance(**vars(head), pool=pool, net=Bilinear(none, none, none, none, none))
        if self.budget_usd is None:
            return state
        q = self.to_quality(p, state)
        c = np.where(np.isnan(q), np.nan, known.spending.usd)
        return replace(state, prefer=price_for_budget(q, c, self.budget_usd))

    def utility(self, x: Features, state: Performance) -> Floats:
        """(n, m) probability of being right; NaN outside the pool."""
        if self.predictor == "bilinear":
            return self.to_quality(activated(state.net.outputs(x), "bce"), state)
        return super().utility(x, state)

    def to_quality(self, p: Floats, state: Performance) -> Floats:
        """(n, m) NaN for members outside the pool."""
        return np.where(state.pool, p, np.nan)
