"""The kNN router: quality and cost of a member are its means over the known questions most like this one."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np

from septet.core.errors import BadParameter
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy, Utility
from septet.core.method import Card, Choice, Rng, SeatPool, method, param
from septet.core.types import Floats
from septet.methods.a1_pretrained._family import PretrainedRouter
from septet.parts.learning.features import FeatureKind, Featurizer
from septet.parts.learning.rows import Features
from septet.parts.routing.choose import cheapest_best, net_utility
from septet.parts.routing.records import Known
from septet.parts.routing.smoothed import Neighbourhoods, alike, cross_validated, known_mean, light

CARD = Card(
    paper="2505.12601",
    title="Rethinking Predictive LLM Routing: When Simple kNN Beats Complex Learned Routers",
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
        "features are hashed TF-IDF reduced to 128 directions; the paper embeds with BERT and SFR",
        "k = 0 chooses k by five-fold cross-validation at a price of cost of 0: the least squared error among the"
        " k whose realised score is within one standard error of the highest; the paper has k = 10 and 100",
        "in the selection variant a question on which several members are best gives each an equal part of its"
        " vote; what the paper does is not known to us",
        "of members with equal utility the cheaper answers",
    ),
)

KS = (5, 10, 20, 40, 80, 160, 320)
"""What k = 0 chooses from."""


@method(CARD)
class KnnRouter(PretrainedRouter):
    """Means over nearest neighbours (2505.12601).

    q̂_m(x) = (1/k) Σ_{i ∈ N_k(x)} S[i, m], ĉ_m(x) likewise, each (n, m), over the k known questions of highest
    cosine for which member m is known; π(x) = argmax_m q̂_m(x) − λ·ĉ_m(x). The selection variant fixes a price
    of cost at the fit, and q̂_m is the share of the k neighbours on which m was the best at that price.
    Cost: two products with the known questions; the fit is free, or quadratic in them with k = 0.
    Fails where words do not tell questions apart, or where k neighbours are too few to tell members apart.

    >>> from septet.core.table import Table
    >>> rows = [{"query": q, "model": m, "score": float(right == m), "cost_usd": 0.001}
    ...         for q, right in [("add two and two", "sum"), ("add one and two", "sum"), ("who wrote it", "wit")]
    ...         for m in ("sum", "wit")]
    >>> router = KnnRouter(k=2, features="tf-idf")
    >>> state = router.fit(Table.of(rows), {}, np.random.default_rng(0))
    >>> router.utility(state.featurizer.rows(["add two and one"]), state).tolist()
    [[1.0, 0.0]]
    """

    variant: Annotated[
        Literal["utility", "selection"],
        param(
            "utility: neighbours' mean score and cost; selection: the share of neighbours on which it was best."
        ),
    ] = "utility"
    k: Annotated[int, param("Neighbours; 0: chosen by cross-validation.", ge=0, le=10000)] = 100
    trade: Annotated[
        float,
        param("Price of cost of the selection variant, per largest mean cost of a member.", ge=0, le=100),
    ] = 0.1
    features: FeatureKind = "lsa"

    state_type = Neighbourhoods

    def learn(self, known: Known, featurizer: Featurizer, x: Features, rng: Rng) -> Neighbourhoods:
        """Keeps every scored question once."""
        scores = known.scores if self.variant == "utility" else votes(known.scores, self.price(known))
        k = self.k or cross_validated(light(x), scores, KS, rng).best()[0]
        return Neighbourhoods.of(known, featurizer, x, scores, k, k)

    def price(self, known: Known) -> Floats:
        """(r, m) what each answer costs at the selection variant's price, in quality units."""
        if not self.trade:
            return np.zeros_like(known.usd)
        usd = known_mean(known.usd)
        if np.isnan(usd).any():
            lacking = [m for m, mean in zip(known.members, usd, strict=True) if np.isnan(mean)]
            raise BadParameter("cost_usd", lacking, "must be recorded for every member when trade is above 0")
        largest = float(usd.max()) or 1.0
        return self.trade / largest * np.where(np.isnan(known.usd), usd, known.usd)

    def utility(self, x: Features, state: Neighbourhoods) -> Floats:
        """(n, m) mean over the neighbours."""
        return state.quality.near(alike(state.rows, x), state.k)

    def cost(self, x: Features, state: Neighbourhoods, pool: SeatPool) -> Floats:
        """(n, m) mean USD over the neighbours; where no cost is recorded, what the member's price says."""
        expected: Floats = state.spending.expected_usd([m.price for m in pool.members])
        if np.isnan(state.usd.prior).all():
            return np.tile(expected, (len(x), 1))
        near = state.usd.near(alike(state.rows, x), state.k_cost)
        return np.where(np.isnan(near), expected, near)

    def choose(self, q: Floats, c: Floats, prefer: Floats, state: Neighbourhoods, rng: Rng) -> Choice:
        """The member with the largest q − prefer·c; of equal ones the cheaper."""
        return Choice(cheapest_best(net_utility(q, c, prefer), c))


def votes(scores: Floats, price: Floats) -> Floats:
    """(r, m) each row's vote for its best member by scores − price, split evenly among equals.

    A row in which a member is unknown votes among the others, and says nothing about that member.

    >>> votes(np.array([[1., 1., 0.], [np.nan, .4, 0.]]), np.zeros((2, 3))).tolist()
    [[0.5, 0.5, 0.0], [nan, 1.0, 0.0]]
    """
    net = scores - price
    top = net >= np.nanmax(net, axis=1, keepdims=True) - 1e-12
    return np.where(np.isnan(net), np.nan, top / top.sum(axis=1, keepdims=True))
