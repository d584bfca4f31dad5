"""RouterDC: questions and members share one space, where a question lies near the members that answer it well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray

from septet.core.caps import Caps
from septet.core.errors import ConfigError, MissingExtra
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy, Utility
from septet.core.method import Asking, Card, Rng, SeatPool, method, param
from septet.core.types import Floats, Query
from septet.methods.a1_pretrained._family import PretrainedRouter
from septet.parts.learning.features import FeatureKind, Featurizer, unit
from septet.parts.learning.rows import Features, dense
from septet.parts.learning.targets import held_out
from septet.parts.routing.contrastive import (
    Adam,
    Contrast,
    Pull,
    even_over_tasks,
    line_through,
    through_length,
)
from septet.parts.routing.plan import embedded
from septet.parts.routing.records import Fitted, Known

CARD = Card(
    paper="2409.19886",
    title="RouterDC: Query-Based Router by Dual Contrastive Learning",
    facets=Facets(
        family=Family.PRETRAINED,
        strategy=Strategy.SELECTION,
        granularity=Granularity.RESPONSE,
        goal=Goal.PERFORMANCE,
        supervised=True,
        utility=Utility.DISCRETE,
    ),
    trained=True,
    differs=(
        "by default a linear map of the question's features takes the encoder's place, with a learning rate"
        " of its own; network = encoder fine-tunes a text encoder, as the paper does with mDeBERTa-v3-base",
        "the encoder's row is pooled as its own files say (MiniLM: the mean), not always its first token",
        "clusters are k-means on the features without the t-SNE before it",
        "a member is a negative only of positives that scored more, so that pools of fewer than six work and equals"
        " are not contrasted",
        "a question's partner in the batch is never the question itself, as the code may draw it",
        "the weights kept are those with the lowest loss to members on a held-out tenth; the released loop keeps"
        " those with the best test score",
        "a line through the cosines of the held-out tenth gives quality the unit of the scores; it leaves the"
        " choice as it is, and the price of cost, which the paper has not, gets a meaning",
        "gradients are clipped to length 1 and the encoder's learning rate falls to 0 along a line",
    ),
)

ENOUGH = 30
"""Held-out questions below which the line is drawn through all questions."""


@dataclass(frozen=True)
class Embedded(Fitted):
    """`map` (d, w) of the features, without rows where an encoder gives the rows; `arms` (m, w) of length one, NaN
    for a member without scores; `line` (2,) intercept and slope from cosine to quality."""

    map: Floats
    arms: Floats
    line: Floats

    def rows(self, x: Features) -> Floats:
        """(n, w) rows of length one for features or encoded rows x (n, d)."""
        return unit(dense(x) @ self.map) if len(self.map) else unit(dense(x))


@method(CARD)
class RouterDc(PretrainedRouter):
    """Dual contrastive learning (2409.19886, equations 3 to 6).

    q (n, m) = a + b·cos(h(x), k_m), h (n, w) the encoded questions, k (m, w) the members' embeddings. Loss on
    a batch = sample–LLM + sample_weight · sample–sample. Sample–LLM: for each of the `positives` best members
    with a score above 0, cross-entropy of it against the `negatives` worst ones of at most ½, of
    cosines / temperature. Sample–sample: the same for one question of the cluster against `others` of other clusters.
    Cost: one product, and with an encoder one reading of the question; the fit is `steps` batches.
    Fails where no member stands out: equal scores pull nothing, and the embeddings stay where they began.

    >>> from septet.core.table import Table
    >>> rows = [{"query": f"{word} {i}", "task": "t", "model": m, "score": float(right == m), "cost_usd": 0.001}
    ...         for i in range(20) for word, right in (("add", "sum"), ("write", "wit")) for m in ("sum", "wit")]
    >>> router, rng = RouterDc(steps=100), np.random.default_rng(0)
    >>> state = router.fit(Table.of(rows), {}, rng)
    >>> q = router.utility(state.featurizer.rows(["add 3", "write 4"]), state)
    >>> q.argmax(axis=1).tolist()
    [0, 1]
    """

    network: Annotated[
        Literal["linear", "encoder"],
        param(
            "linear: a map of the features; encoder: a text encoder fine-tuned for it, by the role of that name."
        ),
    ] = "linear"
    temperature: Annotated[float, param("What cosines to members are divided by.", gt=0, le=10)] = 1.0
    positives: Annotated[int, param("Best members that a question is drawn to.", ge=1, le=100)] = 3
    negatives: Annotated[int, param("Worst members that it is pushed from.", ge=1, le=100)] = 3
    sample_weight: Annotated[float, param("Weight of the loss among questions.", ge=0, le=100)] = 1.0
    clusters: Annotated[int, param("Clusters of questions that count as alike.", ge=1, le=1000)] = 5
    others: Annotated[int, param("Questions of other clusters that one is pushed from.", ge=1, le=100)] = 3
    steps: Annotated[int, param("Batches that are learned from.", ge=1, le=100_000)] = 1000
    batch: Annotated[int, param("Questions in a batch.", ge=2, le=4096)] = 16
    lr: Annotated[float, param("Encoder: learning rate, also of the members' embeddings.", gt=0, le=0.1)] = (
        5e-5
    )
    max_length: Annotated[
        int, param("Encoder: the last so many tokens of a question are read.", ge=8, le=8192)
    ] = 512
    start: Annotated[
        Literal["random", "frozen"],
        param("Encoder: members start at random, or where they best fit the encoder as it is."),
    ] = "random"
    linear_lr: Annotated[float, param("Linear: learning rate.", gt=0, le=1)] = 0.01
    width: Annotated[int, param("Linear: most axes of the shared space.", ge=2, le=4096)] = 128
    features: FeatureKind = "lsa"

    state_type = Embedded

    # --- the fit ------------------------------------------------------------------------------------

    @property
    def trainer(self) -> str:
        """Its own file of `septet.training`, for an encoder."""
        return "router-dc" if self.network == "encoder" else ""

    @property
    def pull(self) -> Pull:
        """The loss."""
        return Pull(self.temperature, self.sample_weight, self.others)

    def learn(self, known: Known, featurizer: Featurizer, x: Features, rng: Rng) -> Embedded:
        """Fits the linear map, from where it changes no angle, and the members' embeddings, from random ones."""
        if self.network == "encoder":
            raise ConfigError("router-dc with network = 'encoder' is fitted by septet.training")
        rows = dense(x)
        sets, kept = self.contrast(known, rows, rng), held_out(len(known), 0.1, rng)
        first = self._first_map(rows.shape[1], rng)
        arms = self.first_arms(len(known.members), first.shape[1], rng)
        found, arms = self.descend(rows, first, arms, sets, self.chances(known, kept), rng)
        return self.state(known, featurizer, found, arms, unit(rows @ found), kept)

    def _first_map(self, d: int, rng: Rng) -> Floats:
        """(d, w) the identity, or a random projection of features that are wider than `width`."""
        if d <= self.width:
            return np.eye(d)
        return rng.normal(0.0, 1.0 / np.sqrt(self.width), (d, self.width))

    def contrast(self, known: Known, rows: Floats, rng: Rng) -> Contrast:
        """What each known question pulls and pushes; rows (r, d) say which questions are alike."""
        return Contrast.of(known.scores, self._cluster(rows, rng), self.positives, self.negatives)

    def chances(self, known: Known, kept: NDArray[np.bool_]) -> Floats:
        """(r,) how likely a question is to be drawn: held-out ones never, tasks alike."""
        chances = np.where(kept, 0.0, even_over_tasks(known.tasks))
        found: Floats = chances / chances.sum()
        return found

    def first_arms(self, n_members: int, width: int, rng: Rng) -> Floats:
        """(m, w) random embeddings of the members, N(0, 0.78²)."""
        return rng.normal(0.0, 0.78, (n_members, width))

    def descend(
        self, rows: Floats, map: Floats | None, arms: Floats, sets: Contrast, chances: Floats, rng: Rng
    ) -> tuple[Floats, Floats]:
        """The map (d, w) and the arms (m, w) after `steps` batches of rows (r, d); without a map, rows stay."""
        size = min(self.batch, int(np.count_nonzero(chances)))
        moved, moved_arms = Adam(self.linear_lr), Adam(self.linear_lr)
        for _ in range(self.steps):
            index = rng.choice(len(rows), size, replace=False, p=chances)
            x = rows[index]
            raw = x if map is None else x @ map
            length = np.maximum(np.linalg.norm(raw, axis=1, keepdims=True), 1e-12)
            e = raw / length
            _, slope, arms_slope = self.pull.loss(e, arms, sets.only(index), rng)
            if map is not None:
                map = moved.next(map, x.T @ through_length(slope, e, length))
            arms = moved_arms.next(arms, arms_slope)
        return np.empty((0, 0)) if map is None else map, arms

    def state(
        self,
        known: Known,
        featurizer: Featurizer,
        map: Floats,
        arms: Floats,
        rows: Floats,
        kept: NDArray[np.bool_],
    ) -> Embedded:
        """What is kept; rows (r, w) of length one are those of the known questions."""
        unseen = np.all(np.isnan(known.scores), axis=0, keepdims=True).T  # (m, 1)
        arms = np.where(unseen, np.nan, unit(arms))
        judged = kept if kept.sum() >= ENOUGH else np.ones_like(kept)
        line = line_through(rows[judged] @ np.nan_to_num(arms).T, known.scores[judged])
        return Embedded(featurizer, known.spending, 0.0, map, arms, line)

    def _cluster(self, rows: Floats, rng: Rng) -> NDArray[np.int64]:
        try:
            from sklearn.cluster import KMeans
        except ImportError:
            raise MissingExtra("scikit-learn", "fit") from None
        n_clusters = min(self.clusters, len(np.unique(rows, axis=0)))
        found = KMeans(n_clusters, n_init=4, random_state=int(rng.integers(2**31))).fit_predict(rows)
        return np.asarray(found, dtype=np.int64)

    # --- the short form -----------------------------------------------------------------------------

    def roles(self) -> dict[str, Caps]:
        """The encoder, if there is one, else what the features need."""
        return {"encoder": Caps(embed=True)} if self.network == "encoder" else super().roles()

    def featurise(
        self, queries: Sequence[Query], pool: SeatPool, state: Embedded
    ) -> Features | Asking[Features]:
        """(n, d) features, or rows of the fine-tuned encoder."""
        if self.network == "encoder":
            return embedded([q.text for q in queries], pool.role("encoder"))
        return super().featurise(queries, pool, state)

    def utility(self, x: Features, state: Embedded) -> Floats:
        """(n, m) the line through the cosines."""
        intercept, slope = state.line
        q: Floats = intercept + slope * (state.rows(x) @ state.arms.T)
        return q
