"""Hybrid-LLM: the weak member answers where it is likely to be about as good as the strong one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray

from septet.core.caps import PoolRule
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
from septet.parts.learning.features import FeatureKind
from septet.parts.learning.targets import Targets
from septet.parts.routing.calibrate import drop_threshold
from septet.parts.routing.choose import best, net_utility
from septet.parts.routing.labels import at_least, gaps, relaxation
from septet.parts.routing.network import Head
from septet.parts.routing.records import Known

NEVER = 2.0
"""A threshold that no probability reaches: the weak member always answers."""

CARD = Card(
    paper="2404.14618",
    title="Hybrid LLM: Cost-Efficient and Quality-Aware Query Routing",
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
        "by default a linear head on features stands in for the paper's DeBERTa-v3-large; network = encoder"
        " fine-tunes one",
        "quality is the table's score; the paper's is BARTScore",
        "labels use ≥ throughout; the paper writes > for the transformed ones",
        "probabilities are over all pairs of a weak and a strong sample, as in the successor's code",
        "t* is searched over all sizes of negative gaps (at most 512 of them), which is where the labels change",
        "the threshold is set on a fifth of the fitted table; the paper has 500 validation questions",
        "with a price of cost, the cost that the weak member saves is added to its side",
        "lr, batch and max_length are those of the successor's code",
    ),
)


@dataclass(frozen=True)
class Hybrid(Head):
    """A head, and the `threshold` on P(the strong member is needed) from which on it answers."""

    threshold: float


@method(CARD)
class HybridLlm(NetworkRouter):
    """Deterministic, probabilistic and transformed routers (2404.14618, section 3).

    H(x) = quality of the weak − of the strong member, over all pairs of their samples. The label of x is
    det: 1[H ≥ 0] of the first samples; prob: P(H ≥ 0); trans: y(t*) = P(H ≥ −t*), with t* = argmax over t ≥ 0 of
    (1/r²)·Σ_ij |y_i(t) − y_j(t)|. p_w(x) minimises the cross-entropy with it; p = 1 − p_w; utility (n, 2) is
    [p_w, p], and the strong member answers iff p ≥ threshold: the largest threshold whose mean score on
    held-out questions is at least (1 − max_drop) times the strong member's.
    Cost: one product with the head, or one pass of the encoder.
    Fails where the weak member is hardly ever as good: the labels are nearly constant (trans is for that).

    >>> from septet.core.table import Table
    >>> rows = [{"query": f"{q} {i}", "model": m, "score": s} for i in range(20)
    ...         for q, scores in [("add the numbers up to", (1, 1)), ("prove the theorem of chapter", (0, 1))]
    ...         for m, s in zip(("weak", "strong"), scores)]
    >>> router = HybridLlm()
    >>> state = router.fit(Table.of(rows), {}, np.random.default_rng(0))
    >>> q = router.utility(state.featurizer.rows(["add the numbers up to 99", "prove the theorem of 99"]), state)
    >>> router.choose(q, 0 * q, np.zeros(2), state, np.random.default_rng(0)).weights.tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """

    labels: Annotated[
        Literal["det", "prob", "trans"],
        param("Label: from one sample each, the share of all pairs, or that after the best relaxation."),
    ] = "trans"
    max_drop: Annotated[
        float,
        param("Share of the strong member's mean score that may be lost on held-out questions.", ge=0, le=1),
    ] = 0.01
    threshold: Annotated[
        float | None,
        param("P(strong is needed) from which on it answers; none: as max_drop says.", ge=0, le=1),
    ] = None
    network: NetworkKind = "linear"
    features: FeatureKind = "lsa"
    l2: Penalty = 3e-3
    lr: LearningRate = 1e-5
    epochs: Epochs = 5
    batch: Batch = 32
    max_length: MaxLength = 128

    state_type = Hybrid
    quality = "probability of being the right choice"
    held_out_share = 0.2

    @property
    def sets_on_held_out(self) -> bool:
        """The threshold is."""
        return self.threshold is None

    def targets(self, known: Known) -> Targets:
        """(r, 1) how surely the weak member is as good."""
        found = gaps(known, single=self.labels == "det")
        t = relaxation(found) if self.labels == "trans" else 0.0
        return Targets.even(at_least(found, t)[:, None], "bce")

    def finish(self, head: Head, known: Known, held: NDArray[np.int64], p: Floats) -> Hybrid:
        """Sets the threshold on the held-out questions."""
        if self.threshold is not None:
            return Hybrid(**vars(head), threshold=self.threshold)
        weak, strong = known.scores[held].T
        threshold = drop_threshold(1 - p[:, 0], weak, strong, self.max_drop)
        return Hybrid(**vars(head), threshold=min(threshold, NEVER))

    def to_quality(self, p: Floats, state: Hybrid) -> Floats:
        """(n, 2) how likely the weak member suffices, and how likely not."""
        return np.hstack([p, 1 - p])

    def choose(self, q: Floats, c: Floats, prefer: Floats, state: Hybrid, rng: Rng) -> Choice:
        """The strong member iff p ≥ threshold; with a price λ of cost, iff 2p − λ·(its extra cost) ≥ 2·threshold."""
        level = q + np.array([2 * state.threshold - 1, 0.0])  # both sides are equal at the threshold
        strong_first = best(net_utility(level, c, prefer)[:, ::-1])  # equal: the strong member
        return Choice(strong_first[:, ::-1])
