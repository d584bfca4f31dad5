"""The router we stand behind: neighbours where they know something, the means over all questions where not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np

from septet.core.facets import Facets, Family, Goal, Granularity, Strategy, Utility
from septet.core.method import Card, Choice, Rng, method, param
from septet.core.types import Battle, Decision, Floats
from septet.methods.a1_pretrained._family import PretrainedRouter
from septet.parts.learning.features import FeatureKind, Featurizer
from septet.parts.learning.rows import Features
from septet.parts.routing.choose import cheapest_best, net_utility
from septet.parts.routing.known_ground import KnownGround, excerpt
from septet.parts.routing.records import Known
from septet.parts.routing.smoothed import (
    Smoothed,
    alike,
    cross_validated,
    light,
    nearest,
    nearness,
)

CARD = Card(
    paper="septet",
    title="The default router: nearest neighbours, shrunk to the means over all questions",
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
    online=True,
    differs=(
        "no paper: it joins the kNN router (2505.12601), shrinkage and the guard of benchmark routing (2309.15789)",
        "k and the pseudo-counts are those of least squared error in five-fold cross-validation among those whose"
        " realised score at a price of cost of 0 is within one standard error of the highest",
        "the expected cost of a member is its mean over all questions, not over the neighbours",
        "a decision with a score becomes a known question, and moves the member's estimate everywhere by the mean"
        " surprise; with features = embedder it does only the second, measured against the member's mean",
        "battles teach nothing; of members with equal utility the cheaper answers",
    ),
)

KS = (8, 16, 32, 64, 128, 256)
"""Numbers of neighbours to choose from."""

PSEUDOS = (0.0, 8.0, 32.0, 128.0)
"""Pseudo-counts of the means over all questions to choose from."""


@method(CARD)
class SeptetRouter(PretrainedRouter):
    """Shrunk nearest neighbours with a fallback.

    q̂_m(x) = (e·Σ_i w_i S[i, m]/Σ_i w_i + n₀·S̄_m)/(e + n₀) + B_m, (n, m), over the k nearest known questions,
    w_i = max(cos, 0)^power, e = (Σ w)²/Σ w² and S̄ the means over all questions; where the nearest `kappa` are
    less alike than all but a share `far` of the known questions are to theirs, q̂ = S̄ + B: the best single member.
    B_m = Σ(score − q̂_m)/(n_m + patience) over n_m scored decisions. The largest q̂ − λ·c answers; λ is the
    request's, else the one that a budget calibrated.
    Cost: one product with the known questions; the fit is quadratic in them, an update linear in the events.
    Fails where words do not tell questions apart: there it is the best single member, and no better.

    >>> from septet.core.table import Table
    >>> rows = [{"query": f"add {i} and {i}" if right == "sum" else f"who wrote book {i}", "model": m,
    ...          "score": float(right == m)} for i in range(10) for right in ("sum", "wit") for m in ("sum", "wit")]
    >>> router = SeptetRouter()
    >>> state = router.fit(Table.of(rows), {}, np.random.default_rng(0))
    >>> router.utility(state.featurizer.rows(["add 3 and 4", "who wrote this"]), state).argmax(axis=1).tolist()
    [0, 1]
    """

    power: Annotated[
        float, param("How fast a neighbour's weight falls with its cosine; 0: all weigh alike.", ge=0, le=16)
    ] = 2.0
    far: Annotated[
        float, param("Share of the known questions that count as far from the others.", ge=0, lt=1)
    ] = 0.01
    kappa: Annotated[
        int, param("Neighbours that say how far a question is; with fewer known it is far.", ge=1, le=1000)
    ] = 10
    patience: Annotated[
        float, param("Scored decisions after which half of a member's surprise is believed.", gt=0, le=1e6)
    ] = 20.0
    remembered: Annotated[
        int, param("Scored decisions that are kept as known questions; older ones go.", ge=0, le=1_000_000)
    ] = 10_000
    features: FeatureKind = "lsa"

    state_type = KnownGround

    def learn(self, known: Known, featurizer: Featurizer, x: Features, rng: Rng) -> KnownGround:
        """Keeps every scored question once; cross-validation says how many neighbours to ask and to believe."""
        x = light(x)
        tried = cross_validated(x, known.scores, KS, rng, pseudos=PSEUDOS, power=self.power, kappa=self.kappa)
        k, pseudo = tried.best()
        none = np.zeros(len(known.members))
        return KnownGround(
            featurizer,
            known.spending,
            0.0,
            known.members,
            x,
            Smoothed.of(known.scores),
            known.usd,
            tuple(excerpt(text) for text in known.questions),
            k,
            pseudo,
            float(np.quantile(tried.closeness, self.far)),
            len(known),
            none,
            none,
        )

    # --- the decision -----------------------------------------------------------------------------

    def utility(self, x: Features, state: KnownGround) -> Floats:
        """(n, m) expected score."""
        return self.estimate(alike(state.rows, x), state) + self.bias(state)

    def estimate(self, similarity: Floats, state: KnownGround) -> Floats:
        """(n, m) what the known questions say, given the similarity (n, r) to them."""
        q = state.table.near(similarity, state.k, self.power, state.pseudo)
        q[self.is_far(similarity, state)] = state.table.prior
        return q

    def is_far(self, similarity: Floats, state: KnownGround) -> np.ndarray:
        """(n,) questions that are unlike the known ones, or of which too few are known."""
        if similarity.shape[1] < self.kappa:
            return np.ones(len(similarity), dtype=bool)
        return nearness(similarity, self.kappa) < state.reach

    def bias(self, state: KnownGround) -> Floats:
        """(m,) how much better members have been than estimated, as far as it is believed."""
        moved: Floats = state.surprise / (state.heard + self.patience)
        return moved

    def choose(self, q: Floats, c: Floats, prefer: Floats, state: KnownGround, rng: Rng) -> Choice:
        """The member with the largest q − prefer·c; of equal ones the cheaper."""
        return Choice(cheapest_best(net_utility(q, c, prefer), c))

    # --- what it learns while it serves -----------------------------------------------------------

    def update(self, state: KnownGround, events: Sequence[Battle | Decision], rng: Rng) -> KnownGround:
        """The state after decisions that were scored; all are measured against the estimates before them."""
        place = {name: i for i, name in enumerate(state.members)}
        scored = [
            e for e in events if isinstance(e, Decision) and e.member in place and not np.isnan(e.score)
        ]
        if not scored:
            return state
        member = np.array([place[e.member] for e in scored])
        score = np.array([e.score for e in scored])
        if self.features == "embedder":
            return state.surprised(member, score - state.table.prior[member])
        texts = [e.query for e in scored]
        x = state.featurizer.rows(texts, [e.task for e in scored])
        q = self.estimate(alike(state.rows, x), state)[np.arange(len(scored)), member]
        spent = np.array([e.spent for e in scored])
        grown = state.grown(texts, x, member, score, spent, self.remembered)
        return grown.surprised(member, score - q)

    # --- the explanation --------------------------------------------------------------------------

    def reasons(
        self, x: Features, state: KnownGround, q: Floats, c: Floats, prefer: Floats, names: Sequence[str]
    ) -> tuple[str, ...]:
        """What was predicted, and from which questions: what the winner scored on them and what that cost."""
        similarity = alike(state.rows, x)
        near = nearest(similarity, max(3, self.kappa))  # as many as also say whether the question is far
        alikeness = np.take_along_axis(similarity, near[:, : self.kappa], axis=1).mean(
            axis=1, dtype=np.float64
        )
        far = (alikeness < state.reach) | (similarity.shape[1] < self.kappa)
        winner = cheapest_best(net_utility(q, c, prefer), c).argmax(axis=1)
        said = super().reasons(x, state, q, c, prefer, names)
        return tuple(
            f"{said[i]}; "
            + (
                "no known question is near, so the means over all of them decide"
                if far[i]
                else f"nearest of {state.k}: "
                + ", ".join(
                    state.shown(int(row), similarity[i, row], winner[i], names) for row in near[i, :3]
                )
            )
            for i in range(len(said))
        )
