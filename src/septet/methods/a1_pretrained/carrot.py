"""CARROT: what an answer will be worth and what it will cost are estimated apart, and weighed when asked."""

from __future__ import annotations

from typing import Annotated

import numpy as np

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
    paper="2502.03261",
    title="CARROT: A Cost Aware Rate Optimal Router",
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
        "only the kNN plug-in is built, not the RoBERTa one; features are hashed TF-IDF reduced to 128 directions",
        "recorded USD are estimated directly; only where none are recorded, predicted output tokens and mean"
        " prompt tokens are multiplied by the price (the paper knows the prompt's own tokens)",
        "all costs are in USD; the released code divides output tokens by a thousand and prompt tokens by a"
        " million",
        "k is the one of least squared error; how the released code scores its cross-validation is unverified",
        "of members with equal utility the cheaper answers",
    ),
)

KS = tuple(2**i for i in range(1, 10))
"""What k = 0 chooses from: 2^1 to 2^9."""


@method(CARD)
class Carrot(PretrainedRouter):
    """Plug-in estimates by nearest neighbours (2502.03261).

    q̂_m(x) = mean score and ĉ_m(x) = mean cost over the k_q and k_c known questions of highest cosine, (n, m);
    π(x) = argmax_m (1 − μ)·q̂_m(x) − μ·ĉ_m(x), which is q̂ − λ·ĉ with λ = μ/(1 − μ) per USD. μ stands for
    requests that state no price of cost, until a budget calibrates it.
    Cost: two products with the known questions; the fit is quadratic in them, twice.
    Fails like any neighbours: where words do not tell questions apart.

    >>> from septet.core.table import Table
    >>> rows = [{"query": q, "model": m, "score": 1.0, "cost_usd": usd}
    ...         for q, usd in [("prove it", 0.4), ("prove that", 0.6), ("hello", 0.1)] for m in ("a", "b")]
    >>> router = Carrot(k=2, mu=0.5, features="tf-idf")
    >>> state = router.fit(Table.of(rows), {}, np.random.default_rng(0))
    >>> state.prefer, state.usd.near(alike(state.rows, state.featurizer.rows(["prove"])), 2).round(3).tolist()
    (1.0, [[0.5, 0.5]])
    """

    mu: Annotated[float, param("Weight of a USD of cost against 1 − mu for quality.", ge=0, lt=1)] = 0.0
    k: Annotated[
        int, param("Neighbours for quality and cost; 0: each chosen by cross-validation.", ge=0, le=10000)
    ] = 0
    features: FeatureKind = "lsa"

    state_type = Neighbourhoods

    def learn(self, known: Known, featurizer: Featurizer, x: Features, rng: Rng) -> Neighbourhoods:
        """Chooses k for quality and for cost, and keeps every scored question once."""
        x = light(x)
        k = self.k or cross_validated(x, known.scores, KS, rng).most_exact()[0]
        spent = known.completion_tokens if np.isnan(known.usd).all() else known.usd
        k_cost = self.k or (k if np.isnan(spent).all() else self.validated(x, spent, rng))
        price = self.mu / (1 - self.mu)
        return Neighbourhoods.of(known, featurizer, x, known.scores, k, k_cost, price)

    def validated(self, x: Features, spent: Floats, rng: Rng) -> int:
        """k for the cost, each member's in units of its mean, so that the dearest does not decide alone."""
        mean = known_mean(spent)
        return cross_validated(x, spent / np.where(mean > 0, mean, 1.0), KS, rng).most_exact()[0]

    def utility(self, x: Features, state: Neighbourhoods) -> Floats:
        """(n, m) mean score over the neighbours."""
        return state.quality.near(alike(state.rows, x), state.k)

    def cost(self, x: Features, state: Neighbourhoods, pool: SeatPool) -> Floats:
        """(n, m) mean USD over the neighbours, else price × tokens as they wrote, else the member's mean."""
        prices = [m.price for m in pool.members]
        cost = np.tile(state.spending.expected_usd(prices), (len(x), 1))
        similarity = alike(state.rows, x)
        if not np.isnan(state.usd.prior).all():
            near = state.usd.near(similarity, state.k_cost)
            cost = np.where(np.isnan(near), cost, near)
        unpriced = np.isnan(state.usd.prior) & ~np.isnan(state.written.prior)
        if any(price and unpriced[i] for i, price in enumerate(prices)):
            written = state.written.near(similarity, state.k_cost)
            for i, price in enumerate(prices):
                read = state.spending.prompt_tokens[i]
                if price and unpriced[i] and not price.usd_per_second and not np.isnan(read):
                    cost[:, i] = (price.usd_per_mtok_in * read + price.usd_per_mtok_out * written[:, i]) / 1e6
        return cost

    def choose(self, q: Floats, c: Floats, prefer: Floats, state: Neighbourhoods, rng: Rng) -> Choice:
        """The member with the largest q − prefer·c; of equal ones the cheaper."""
        return Choice(cheapest_best(net_utility(q, c, prefer), c))
