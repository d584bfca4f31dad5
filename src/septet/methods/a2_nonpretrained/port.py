"""PORT: a stream of queries and a budget per member; the start of the stream sets a price on each budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from septet.core.errors import BadParameter
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy, Utility
from septet.core.method import Asking, Card, Choice, Rng, SeatPool, method, param
from septet.core.types import Battle, Decision, Floats
from septet.methods.a2_nonpretrained._family import NonPretrainedRouter
from septet.parts.learning.features import FeatureKind, Featurizer
from septet.parts.learning.rows import Features, cosines
from septet.parts.routing.dual import dual_prices
from septet.parts.routing.neighbours import nearest_mean
from septet.parts.routing.records import Fitted, Known

CARD = Card(
    paper="2509.02718",
    title="Efficient Training-Free Online Routing for High-Volume Multi-LLM Serving",
    facets=Facets(
        family=Family.NONPRETRAINED,
        strategy=Strategy.SELECTION,
        granularity=Granularity.RESPONSE,
        goal=Goal.COST,
        supervised=True,
        efficiency_aware=True,
        utility=Utility.CONTINUOUS,
    ),
    trained=True,
    online=True,
    scope="stream",
    permutes=False,
    differs=(
        "by default nobody is dropped while there is any budget: the warm-up draws among members that can pay,"
        " and later the next best that can pays; lose = true is the paper's rule",
        "a choice spends the predicted cost, since the real one is not known yet; feedback settles the difference",
        "neighbours are found exactly, not by a graph, on hashed TF-IDF reduced to 128 directions, not on bge",
        "the paper splits the total budget in six ways that we could not all read; four are here",
        "the dual is solved with the paper's L-BFGS-B, or exactly (solver = lp)",
        "the dual may leave a query to nobody (nobody = true), as its budgets need not suffice for all; the"
        " released code's may not, and then all prices rise to their cap",
        "a request's price of cost λ comes on top of the learned prices; the paper has none",
        "it was read in the authors' code, not in the paper's text",
    ),
)


@dataclass(frozen=True)
class Stream(Fitted):
    """History: `rows` (r, d), `scores` and `usd` (r, m). Budgets in USD: `budget` at the start and `left` (m,).
    `prices` γ (m,), 0 until the warm-up is over; `seen` queries; what was predicted for those of the warm-up,
    `gain` and `cost` (w, m)."""

    members: tuple[str, ...]
    rows: Features
    scores: Floats
    usd: Floats
    budget: Floats
    left: Floats
    prices: Floats
    seen: int
    gain: Floats
    cost: Floats


@method(CARD)
class Port(NonPretrainedRouter):
    """Online routing with learned dual prices (2509.02718, algorithm 1).

    q, c (n, m) = mean score and USD of the k nearest known questions. Phase 1, the first warm_up·stream queries:
    a member at random. Then once γ = argmin over [0, 1]^m of warm_up·γᵀB + Σ_j max(0, max_m(alpha·q_jm − γ_m·c_jm))
    over the queries of phase 1. Phase 2: argmax alpha·q − γ·c. A choice spends c from its member's budget B_m.
    Cost: one product with the known questions; the dual once, in the request that ends the warm-up.
    Fails where the start of the stream is unlike the rest, and where the stream is not as long as stated. A price
    is at most 1, so alpha has to be small against cost divided by quality.

    >>> from septet.core.table import Table
    >>> table = Table.of({"query": "2 + 2?", "model": m, "score": s, "cost_usd": usd}
    ...                  for m, s, usd in (("big", 1.0, 0.02), ("small", 0.5, 0.001)))
    >>> port, rng = Port(stream=4, warm_up=0.0, budget_usd=0.045), np.random.default_rng(0)
    >>> state = port.fit(table, {}, rng)
    >>> q, c = np.array([[1.0, 0.5]] * 3), np.array([[0.02, 0.001]] * 3)
    >>> choice = port.choose(q, c, np.zeros(3), state, rng)
    >>> choice.weights.argmax(axis=1).tolist(), choice.state.left.round(4).tolist()
    ([0, 1, 1], [0.0025, 0.0205])
    """

    stream: Annotated[int, param("How many queries the budget has to last for.", ge=1, le=10**9)] = 10_000
    budget_usd: Annotated[
        float | None,
        param("USD for the whole stream; none: what the cheapest member costs for all of it.", ge=0),
    ] = None
    split: Annotated[
        Literal["equal", "cost", "score", "efficiency"],
        param("How the budget is split: equally, or by a member's mean cost, score, or score per cost."),
    ] = "equal"
    warm_up: Annotated[float, param("Share of the stream that is routed at random first.", ge=0, le=1)] = (
        0.025
    )
    alpha: Annotated[float, param("Weight of quality against cost in USD.", gt=0, le=1000)] = 1e-4
    k: Annotated[int, param("Known questions that count as neighbours.", ge=1, le=1000)] = 5
    lose: Annotated[
        bool, param("Whether a query is lost when the chosen member cannot pay, and some of the warm-up too.")
    ] = False
    solver: Annotated[
        Literal["l-bfgs-b", "lp"], param("How the dual is solved: as in the paper, or exactly.")
    ] = "l-bfgs-b"
    nobody: Annotated[
        bool, param("Whether the dual may leave queries to nobody, or as released must serve them all.")
    ] = True
    features: FeatureKind = "lsa"

    state_type = Stream
    steady = True

    @property
    def n_warm(self) -> int:
        """Queries of phase 1."""
        return round(self.warm_up * self.stream)

    def learn(self, known: Known, featurizer: Featurizer, x: Features, rng: Rng) -> Stream:
        """Keeps the history and hands out the budgets of a new stream."""
        m = len(known.members)
        budget = self._budgets(known)
        none = np.empty((0, m))
        return Stream(
            featurizer,
            known.spending,
            0.0,
            known.members,
            x,
            known.scores,
            known.usd,
            budget,
            budget,
            np.zeros(m),
            0,
            none,
            none,
        )

    def _budgets(self, known: Known) -> Floats:
        """(m,) USD of each member for the stream; without a budget and without recorded costs, no limit."""
        usd, m = known.spending.usd, len(known.members)
        total = self.budget_usd
        if total is None:
            if np.isnan(usd).all():
                return np.full(m, np.inf)
            total = self.stream * float(np.nanmin(usd))
        seen = ~np.isnan(known.scores)
        with np.errstate(invalid="ignore", divide="ignore"):
            score = np.where(seen, known.scores, 0.0).sum(axis=0) / seen.sum(axis=0)
            share = {"equal": np.ones(m), "cost": usd, "score": score, "efficiency": score / usd}[self.split]
        if not np.isfinite(share).all() or share.sum() <= 0:
            raise BadParameter("split", self.split, "must be equal where a member's cost or score is unknown")
        budgets: Floats = total * share / share.sum()
        return budgets

    def utility(self, x: Features, state: Stream) -> Floats:
        """(n, m) mean score of the nearest known questions."""
        return nearest_mean(cosines(state.rows, x), state.scores, self.k)

    def cost(self, x: Features, state: Stream, pool: SeatPool) -> Floats | Asking[Floats]:
        """(n, m) mean USD of the nearest known questions; where it is unknown, as every router has it."""
        near = self._near_usd(x, state)
        stated: Floats = state.spending.expected_usd([m.price for m in pool.members])
        return np.where(np.isnan(near), stated, near)

    def _near_usd(self, x: Features, state: Stream) -> Floats:
        return nearest_mean(cosines(state.rows, x), state.usd, self.k)

    def choose(self, q: Floats, c: Floats, prefer: Floats, state: Stream, rng: Rng) -> Choice:
        """Query by query, in order: each spends before the next is decided."""
        weights, reasons = np.zeros(q.shape), []
        seed = [int(s) for s in rng.integers(2**32, size=2)]
        for i in range(len(q)):
            with np.errstate(invalid="ignore"):  # a budget without limit
                pays = np.nan_to_num(c[i]) <= state.left + 1e-9 * state.budget  # rounding wastes no last call
            if state.seen < self.n_warm:
                # one seed serves the whole stream: what is known of the query makes the draw its own
                own = crc32(q[i].tobytes() + c[i].tobytes())
                pick = self._at_random(pays, np.random.default_rng([*seed, own]))
                reasons.append("the start of the stream is routed at random")
            else:
                net = self.alpha * (q[i] - prefer[i] * np.nan_to_num(c[i])) - state.prices * np.nan_to_num(
                    c[i]
                )
                pick = self._by_price(net, pays)
                reasons.append(self._said(q[i], state))
            if pick is None:
                reasons[-1] += ", but there was no budget left for it"
            else:
                weights[i, pick] = 1.0
            state = self._after(state, q[i], c[i], pick)
        return Choice(weights, state=state, reasons=tuple(reasons))

    def _at_random(self, pays: NDArray[np.bool_], rng: Rng) -> int | None:
        """Any member, or with `lose` anyone or nobody, whether or not there is budget for it."""
        open_to = np.arange(len(pays) + 1) if self.lose else np.flatnonzero(pays)
        pick = int(rng.choice(open_to)) if len(open_to) else len(pays)
        return pick if pick < len(pays) and pays[pick] else None

    def _by_price(self, net: Floats, pays: NDArray[np.bool_]) -> int | None:
        """The largest; if it cannot pay, nobody with `lose`, else the largest of those who can. Where even the
        largest is not worth its price, `lose` leaves the query to nobody as well, if the dual may."""
        net = np.where(np.isnan(net), -np.finfo(np.float64).max, net)
        net = net if self.lose else np.where(pays, net, -np.inf)
        pick = int(net.argmax())
        worth = net[pick] >= 0 or not (self.lose and self.nobody)
        return pick if pays[pick] and worth else None

    def _after(self, state: Stream, q: Floats, c: Floats, pick: int | None) -> Stream:
        """The state after one decision; the one that ends the warm-up solves the dual."""
        left = state.left.copy()
        if pick is not None:
            left[pick] -= np.nan_to_num(c[pick])
        state = replace(state, left=left, seen=state.seen + 1)
        if state.seen > self.n_warm:
            return state
        state = replace(state, gain=np.vstack([state.gain, q]), cost=np.vstack([state.cost, c]))
        if state.seen < self.n_warm:
            return state
        gain = self.alpha * state.gain
        prices = dual_prices(gain, state.cost, state.budget, self.warm_up, self.solver, self.nobody)
        return replace(state, prices=prices)

    def _said(self, q: Floats, state: Stream) -> str:
        said = ", ".join(
            f"{name} {value:.3g} (less {price / self.alpha:.3g} per USD)"
            for name, value, price in zip(state.members, q, state.prices, strict=True)
        )
        return f"{self.quality}: {said}"

    def update(self, state: Stream, events: Sequence[Battle | Decision], rng: Rng) -> Stream:
        """Settles what decisions really spent against what was taken for them; nothing else is learned."""
        paid = [e for e in events if isinstance(e, Decision) and e.member]
        if not paid:
            return state
        if state.featurizer.kind == "embedder":
            raise BadParameter("features", "embedder", "cannot settle costs: feedback has no embedding")
        unknown = [e.member for e in paid if e.member not in state.members]
        if unknown:
            raise BadParameter("member", unknown[0], f"must be one of {list(state.members)}")
        x = state.featurizer.rows([e.query for e in paid], [e.task for e in paid])
        near = self._near_usd(x, state)
        taken = np.nan_to_num(np.where(np.isnan(near), state.spending.usd, near))
        left = state.left.copy()
        for event, row in zip(paid, taken, strict=True):
            i = state.members.index(event.member)
            left[i] += row[i] - event.spent
        return replace(state, left=left)
