"""IRT-Router: members have abilities, questions ask for some of them, and the fit finds both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from septet.core.facets import Facets, Family, Goal, Granularity, Strategy, Utility
from septet.core.method import Card, Rng, method, param
from septet.core.types import Floats
from septet.methods.a1_pretrained._family import PretrainedRouter
from septet.parts.learning.adam import sigmoid
from septet.parts.learning.bilinear import Bilinear
from septet.parts.learning.features import FeatureKind, Featurizer
from septet.parts.learning.rows import Features, cosines, dense
from septet.parts.routing.irt import NeuralIrt, fit_mirt, fit_nirt
from septet.parts.routing.neighbours import nearest
from septet.parts.routing.records import Fitted, Known

CARD = Card(
    paper="2506.01048",
    title="IRT-Router: Effective and Interpretable Multi-LLM Routing via Item Response Theory",
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
        "a member's ability is a free vector; the paper makes it from an embedding of the member's profile",
        "features are 128 main directions of hashed TF-IDF by default, not BERT embeddings",
        "which abilities a question needs is a softmax of its features; the paper has an LLM name them",
        "the monotone network has 64 hidden units; a re-implementation has 512",
        "the price of cost per USD takes the place of α and β: it is β/α",
        "there are at least 150 steps: ten passes over few questions leave the random start in charge; with 7680"
        " scores or more nothing changes; steps = 1 leaves it out",
        "the authors' code could not be read: sizes and rates are a re-implementation's, the warm-up's share is"
        " unverified",
    ),
)


@dataclass(frozen=True)
class Abilities(Fitted):
    """The known questions `rows` (r, d), for the warm-up, and the fitted model of either kind."""

    rows: Features
    mirt: Bilinear | None
    nirt: NeuralIrt | None


@method(CARD)
class IrtRouter(PretrainedRouter):
    """Item-response theory on features (2506.01048, section 3).

    mirt: q_m(x) = σ(a(x)ᵀθ_m − b(x)), a ≥ 0 (n, k), θ (m, k). nirt: q_m(x) = σ(monotone network of
    d(x)·(z_m − h(x)) ⊙ r(x)), with discrimination d, ability z, difficulty h and relevance r. q is (n, m), the
    chance to be right. A new question is warmed up: x ← (1 − w)·x + w·(mean of its k nearest known questions).
    Cost: one product with (d, k), and one with the known questions for the warm-up.
    Fails where all questions need the same abilities: then all of them rank the members alike.

    >>> from septet.core.table import Table
    >>> rows = [{"query": q, "model": m, "score": float(m == right)}
    ...         for q, right in [("add two and two", "sum"), ("who wrote Faust", "wit")] for m in ("sum", "wit")]
    >>> router, rng = IrtRouter(features="tf-idf", epochs=300, lr=0.05), np.random.default_rng(0)
    >>> state = router.fit(Table.of(rows), {}, rng)
    >>> router.utility(state.featurizer.rows(["add two", "who wrote"]), state).argmax(axis=1).tolist()
    [0, 1]
    """

    model: Annotated[
        Literal["mirt", "nirt"], param("Multidimensional IRT, or its neural form with a monotone network.")
    ] = "mirt"
    size: Annotated[int, param("Abilities.", ge=1, le=1024)] = 25
    hidden: Annotated[int, param("nirt: hidden units of the monotone network.", ge=1, le=4096)] = 64
    dropout: Annotated[float, param("nirt: share of hidden units left out per step.", ge=0, lt=1)] = 0.5
    lr: Annotated[float, param("Learning rate of Adam.", gt=0, le=1)] = 1e-3
    epochs: Annotated[int, param("Times that the scores are seen.", ge=1, le=10000)] = 10
    batch: Annotated[int, param("Scores per step.", ge=1, le=1_000_000)] = 512
    steps: Annotated[
        int, param("Steps at least: few scores are seen more often than `epochs` times.", ge=1, le=1_000_000)
    ] = 150
    warm_up: Annotated[
        float, param("Share of the nearest known questions in a new one's features.", ge=0, le=1)
    ] = 0.3
    k: Annotated[int, param("Known questions that warm up a new one.", ge=1, le=1000)] = 5
    features: FeatureKind = "lsa"

    state_type = Abilities
    quality = "chance to be right"

    def learn(self, known: Known, featurizer: Featurizer, x: Features, rng: Rng) -> Abilities:
        """Fits abilities and what questions ask for, by Adam on the BCE of all known scores."""
        mirt = nirt = None
        if self.model == "mirt":
            mirt = fit_mirt(
                x,
                known.scores,
                known.members,
                rng,
                size=self.size,
                rate=self.lr,
                batch=self.batch,
                epochs=self.epochs,
                steps=self.steps,
            )
        else:
            nirt = fit_nirt(
                x,
                known.scores,
                known.members,
                rng,
                size=self.size,
                hidden=self.hidden,
                rate=self.lr,
                batch=self.batch,
                epochs=self.epochs,
                steps=self.steps,
                dropout=self.dropout,
            )
        return Abilities(featurizer, known.spending, 0.0, x, mirt, nirt)

    def utility(self, x: Features, state: Abilities) -> Floats:
        """(n, m) the chance that each member is right."""
        fitted = state.mirt or state.nirt
        assert fitted is not None
        return sigmoid(fitted.outputs(self.warmed(x, state.rows)))

    def warmed(self, x: Features, known: Features) -> Features:
        """(n, d) features mixed with the mean of their k nearest known questions; equally near: the first."""
        if not self.warm_up:
            return x
        own, k = dense(x), min(self.k, len(known))
        near = nearest(cosines(known, x), k)
        around = np.array([dense(known[row]).mean(axis=0) for row in near]).reshape(own.shape)
        mixed: Floats = (1 - self.warm_up) * own + self.warm_up * around
        return mixed
