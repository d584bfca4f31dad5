"""RouteLLM: ask the strong member only where it is likely to win, as learned from who won on other questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from septet.core.caps import Caps, PoolRule
from septet.core.errors import BadParameter, ConfigError
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy, Utility
from septet.core.method import Asking, Card, Choice, Rng, SeatPool, method, param
from septet.core.types import Floats, Query
from septet.methods.a1_pretrained._family import PretrainedRouter
from septet.methods.a1_pretrained._network import Batch, Epochs, LearningRate, MaxLength, Penalty, encoded
from septet.parts.learning.adam import softmax
from septet.parts.learning.bilinear import Bilinear, fit_bilinear
from septet.parts.learning.features import FeatureKind, Featurizer
from septet.parts.learning.rows import Features, cosines, dense
from septet.parts.learning.targets import Targets, held_out
from septet.parts.routing.calibrate import share_threshold
from septet.parts.routing.network import Head
from septet.parts.routing.records import Fitted, Known
from septet.parts.routing.two_arms import weak_or_strong
from septet.parts.stats.bradley_terry import similarity_weights

CARD = Card(
    paper="2406.18665",
    title="RouteLLM: Learning to Route LLMs with Preference Data",
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
        "features are 128 main directions of hashed TF-IDF by default; the paper has 1536-dimensional embeddings",
        "battles are those of the two members, by their scores; the paper groups 64 models into ten tiers",
        "between two members the weighted Bradley-Terry fit has a closed form, the weighted share of wins",
        "mf makes 100 passes as the example script does; the paper states about 10, over many more battles",
        "the threshold for a share of strong calls is set on a tenth of the questions, which are then not fitted",
        "causal is the paper's softmax over five label tokens where the role `encoder` is a causal language model:"
        " a linear head on its last token's state, with a bias; a text encoder there has the head on its row",
        "causal reads the question and an end token, without an instruction; unless the role says otherwise all of"
        " its layers learn, as in the paper",
        "causal reads the weak member's grade as 1 + 4 times its score, rounded; the paper has a judge's grade",
        "the encoders make 3 passes; the paper states about 2,000 steps",
        "a price of cost moves the threshold by half the price of the two members' difference: ours",
    ),
)

BLOCK = 512
"""Queries that are compared with all known questions at once."""

ABOVE_ALL = 2.0
"""A threshold that no probability reaches: never strong. Infinity is no JSON number."""


@dataclass(frozen=True)
class Preferences(Fitted):
    """Strong where P ≥ `threshold`. For sw `rows` (r, d) of known questions and the strong member's `share`
    (r,) of each battle: 1, ½ or 0; for mf `factors`; for an encoder neither."""

    threshold: float
    rows: Features | None
    share: Floats
    factors: Bilinear | None


@method(CARD)
class RouteLLM(PretrainedRouter):
    """Win-probability threshold between a weak and a strong member (2406.18665, sections 3 and 4).

    Strong where P(strong wins | x) ≥ t; P (n,). sw: ω_i = γ^(1 + S_i) for battle i, S the scaled cosine,
    P = Σ ω_i·share_i / Σ ω_i. mf: δ(m, x) = wᵀ(v_m ⊙ W x), P = σ(δ_strong − δ_weak); with two members that is a
    logistic regression without intercept. bert: P = 1 − p(tie) − p(weak wins), of three labels; causal:
    P = 1 − p(4) − p(5), of five grades of the weak answer, as a softmax over label tokens. Utility [1 − P, P] (n, 2).
    Cost: sw one product with the known questions, mf one with (d, 128), encoders one call.
    Fails out of domain: with the paper's arena battles it is at or below chance on MMLU and GSM8K.

    >>> from septet.core.table import Table
    >>> from septet.parts.routing.cost import Spending
    >>> rows = [{"query": q, "model": m, "score": s} for q, weak in [("add two", 1.0), ("prove it", 0.0)]
    ...         for m, s in (("small", weak), ("large", 1.0))]
    >>> router, rng = RouteLLM(features="tf-idf"), np.random.default_rng(0)
    >>> state = router.fit(Table.of(rows), {}, rng)
    >>> router.utility(state.featurizer.rows(["prove it"]), state).round(3).tolist()  # (½·10 + 1·100) / 110
    [[0.045, 0.955]]
    """

    router: Annotated[
        Literal["sw", "mf", "bert", "causal"],
        param("Similarity-weighted battles, matrix factorisation, a text encoder, or a language model."),
    ] = "sw"
    strong_share: Annotated[
        float | None,
        param("Share of strong calls that the threshold is set for; none: the threshold is 0.5.", ge=0, le=1),
    ] = None
    gamma: Annotated[float, param("sw: base of the weights.", ge=1, le=1e6)] = 10.0
    scaling: Annotated[
        Literal["query", "none"],
        param("sw: cosines divided by the query's largest one, as in the code, or plain, as in the paper."),
    ] = "query"
    size: Annotated[int, param("mf: length of a member's vector.", ge=1, le=4096)] = 128
    noise: Annotated[float, param("mf: deviation of the noise on features while fitting.", ge=0, le=10)] = 0.1
    mf_lr: Annotated[float, param("mf: learning rate.", gt=0, le=1)] = 3e-4
    mf_decay: Annotated[float, param("mf: weight decay.", ge=0, le=1)] = 1e-5
    mf_batch: Annotated[int, param("mf: battles per step.", ge=1, le=65536)] = 64
    mf_epochs: Annotated[int, param("mf: times that the battles are seen.", ge=1, le=10000)] = 100
    l2: Penalty = 1e-4
    lr: LearningRate = 1e-5
    epochs: Epochs = 3
    batch: Batch = 16
    max_length: MaxLength = 512
    features: FeatureKind = "lsa"

    state_type = Preferences
    quality = "chance that it is the one to ask"

    # --- the fit --------------------------------------------------------------------------------------

    @property
    def trainer(self) -> str:
        """What of `septet.training` fits it."""
        return "encoder" if self.router in ("bert", "causal") else ""

    def held_out(self, n_rows: int, rng: Rng) -> NDArray[np.bool_]:
        """(r,) true for the questions on which the threshold is set; an encoder also stops early on them."""
        wanted = self.strong_share is not None or bool(self.trainer)
        return held_out(n_rows, 0.1 if wanted else 0.0, rng)

    def targets(self, known: Known) -> Targets:
        """bert: strong wins, tie, weak wins (r, 3); causal: the weak member's grade, 1 to 5 (r, 5)."""
        weak = known.scores[:, 0]
        if self.router == "causal":
            place, unknown, n = np.rint(4 * np.nan_to_num(weak)).astype(int), np.isnan(weak), 5
        else:
            share = share_of_strong(known.scores)
            place, unknown, n = np.rint(2 - 2 * np.nan_to_num(share)).astype(int), np.isnan(share), 3
        return Targets.even(np.where(unknown[:, None], np.nan, np.eye(n)[np.clip(place, 0, n - 1)]), "ce")

    def finish(self, head: Head, known: Known, held: NDArray[np.int64], p: Floats) -> Preferences:
        """The state of an encoder, whose activated outputs on the held-out questions are p (v, c)."""
        threshold = self._threshold(self._of_labels(p))
        return Preferences(head.featurizer, head.spending, 0.0, threshold, None, np.empty(0), None)

    def learn(self, known: Known, featurizer: Featurizer, x: Features, rng: Rng) -> Preferences:
        """Keeps the battles or fits the factors, then sets the threshold on questions that were held out."""
        if self.trainer:
            raise ConfigError(f"routellm with router = {self.router!r} is fitted by septet.training")
        share = share_of_strong(known.scores)
        kept = self.held_out(len(known), rng)
        fitted = np.flatnonzero(~kept & ~np.isnan(share))
        if not len(fitted):
            raise BadParameter("table", len(known), "must hold questions that both members answered")
        state = Preferences(featurizer, known.spending, 0.0, 0.5, x[fitted], share[fitted], None)
        if self.router == "mf":
            state = Preferences(
                featurizer, known.spending, 0.0, 0.5, None, np.empty(0), self._factors(x, known, fitted, rng)
            )
        if not kept.any():
            return state
        p = self.utility(x[np.flatnonzero(kept)], state)[:, 1]
        return Preferences(
            featurizer, known.spending, 0.0, self._threshold(p), state.rows, state.share, state.factors
        )

    def _factors(self, x: Features, known: Known, fitted: NDArray[np.int64], rng: Rng) -> Bilinear:
        return fit_bilinear(
            x[fitted],
            known.scores[fitted],
            known.members,
            rng,
            loss="pairwise",
            size=self.size,
            rate=self.mf_lr,
            batch=self.mf_batch,
            epochs=self.mf_epochs,
            decay=self.mf_decay,
            noise=self.noise,
        )

    def _threshold(self, p: Floats) -> float:
        """The threshold that strong_share of P (v,) on held-out questions reach, or one half."""
        if self.strong_share is None:
            return 0.5
        return min(share_threshold(p, self.strong_share), ABOVE_ALL)

    # --- the short form -------------------------------------------------------------------------------

    def roles(self) -> dict[str, Caps]:
        """The encoder of bert and causal, else what the features need."""
        return {"encoder": Caps(rate=True)} if self.trainer else super().roles()

    def featurise(self, queries: Sequence[Query], pool: SeatPool, state: Any) -> Features | Asking[Features]:
        """(n, d) features, or (n, c) raw outputs of the role `encoder`: one call per query."""
        return encoded(queries, pool) if self.trainer else super().featurise(queries, pool, state)

    def utility(self, x: Features, state: Preferences) -> Floats:
        """(n, 2) [1 − P, P], P the chance that the strong member wins or is needed."""
        if self.trainer:
            p = self._of_labels(softmax(dense(x)))
        elif state.factors is not None:
            p = state.factors.wins(x, 1, 0)
        else:
            assert state.rows is not None
            p = np.concatenate([self._weighted(x[i : i + BLOCK], state) for i in range(0, len(x), BLOCK)])
        return np.column_stack([1 - p, p])

    def _weighted(self, x: Features, state: Preferences) -> Floats:
        """(n,) weighted share of the battles that the strong member won."""
        assert state.rows is not None
        weight = similarity_weights(cosines(state.rows, x), gamma=self.gamma, scaling=self.scaling)
        share: Floats = weight @ state.share / weight.sum(axis=1)
        return share

    def _of_labels(self, p: Floats) -> Floats:
        """(n,) P from the probabilities p (n, c) of labels or grades."""
        n = 5 if self.router == "causal" else 3
        if p.shape[1] != n:
            raise BadParameter("encoder", p.shape[1], f"must give {n} outputs for router = {self.router!r}")
        strong: Floats = 1 - p[:, -2:].sum(axis=1)  # tie and weak wins, or the grades 4 and 5
        return strong

    def choose(self, q: Floats, c: Floats, prefer: Floats, state: Preferences, rng: Rng) -> Choice:
        """Strong where P reaches the threshold, moved by the price of cost."""
        return Choice(weak_or_strong(q, c, prefer, state.threshold))


def share_of_strong(scores: Floats) -> Floats:
    """(r,) 1 where the strong member scored more, ½ where alike, 0 where less; NaN where either is unknown."""
    weak, strong = scores.T
    return np.where(np.isnan(weak) | np.isnan(strong), np.nan, 0.5 * (1 + np.sign(strong - weak)))
