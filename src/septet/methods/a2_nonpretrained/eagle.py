"""Eagle: ratings from won and lost comparisons, over all questions and once more over those like this one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np

from septet.core.errors import BadParameter
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy, Utility
from septet.core.method import Card, Choice, Rng, method, param
from septet.core.types import Battle, Decision, Floats
from septet.methods.a2_nonpretrained._family import NonPretrainedRouter
from septet.parts.learning.features import Featurizer
from septet.parts.learning.rows import Features, cosines, joined
from septet.parts.routing.choose import best, net_utility
from septet.parts.routing.elo import Board, Ratings, expected, replays
from septet.parts.routing.neighbours import nearest
from septet.parts.routing.records import Known

CARD = Card(
    paper="2409.15518",
    title="Eagle: Efficient Training-Free Router for Multi-LLM Inference",
    facets=Facets(
        family=Family.NONPRETRAINED,
        strategy=Strategy.SELECTION,
        granularity=Granularity.RESPONSE,
        goal=Goal.COST,
        supervised=True,
        efficiency_aware=True,
        utility=Utility.DISCRETE,
    ),
    trained=True,
    online=True,
    differs=(
        "features are hashed TF-IDF, whose weights stay those of the fit; the paper has sentence embeddings",
        "the global rating is the mean over time, as the paper's word 'average' may mean; rating = last is the"
        " other reading",
        "the utility is the score as an expected share of wins against the pool's mean score, which ranks alike"
        " and gives a price of cost its unit",
        "battles of one question are replayed in the order of the names, so that the order of members changes"
        " nothing",
        "`trained` means that it wants battles before its first answer; no weights are trained",
    ),
)


@method(CARD)
class Eagle(NonPretrainedRouter):
    """Global and local Elo (2409.15518, section 3).

    R ← R + K·(S − E), E = 1/(1 + 10^((R_opponent − R)/400)), S ∈ {1, ½, 0}. Global: all battles in order.
    Local: from the global ratings, the battles of the N nearest questions once more, oldest first.
    score_m = P·Global_m + (1 − P)·Local_m, (m,). The highest score among the members whose expected cost is
    within the budget answers; if none is, the cheapest.
    Cost: one product with the known questions and a replay of N questions' battles; an update costs the same.
    Fails with few battles near a question: K = 32 follows the last of them.

    >>> from septet.core.method import SeatPool
    >>> from septet.core.table import Table
    >>> from septet.core.types import Completion, Query
    >>> from septet.testing.scripted import drive, seat
    >>> rows = [{"query": q, "model": m, "score": float(m == right)}
    ...         for q, right in [("add two and two", "sum"), ("who wrote Faust", "wit")] for m in ("sum", "wit")]
    >>> router, rng = Eagle(n=1), np.random.default_rng(0)
    >>> board = router.fit(Table.of(rows), {}, rng)
    >>> def script(ask):
    ...     if ask.do == "decide":
    ...         return router.choose(**ask.args, state=board, rng=rng)
    ...     return [Completion(member=ask.to.name, text="4")]
    >>> pool = SeatPool((seat("sum"), seat("wit")))
    >>> verdict, _ = drive(router.plan(Query.of("add two and one"), pool, board, rng), script)
    >>> verdict.reason
    'expected share of wins: sum 0.521, wit 0.479; so sum was asked'
    """

    p: Annotated[float, param("Share of the global rating in the score.", ge=0, le=1)] = 0.5
    n: Annotated[int, param("Nearest questions whose battles are replayed.", ge=0, le=10000)] = 20
    k: Annotated[float, param("How far one battle moves a rating.", gt=0, le=400)] = 32.0
    rating: Annotated[
        Literal["mean", "last"],
        param("The global rating: its mean over time, or the one after the last battle."),
    ] = "mean"
    budget_usd: Annotated[
        float | None, param("The most that one answer may be expected to cost; none: no limit.", ge=0)
    ] = None

    state_type = Board
    quality = "expected share of wins"

    def learn(self, known: Known, featurizer: Featurizer, x: Features, rng: Rng) -> Board:
        """A board of the battles between members that answered the same question: the higher score wins."""
        none = np.array([], dtype=np.int32)
        empty = Board(
            featurizer,
            known.spending,
            0.0,
            known.members,
            Ratings.start(len(known.members)),
            featurizer.rows([]),
            none,
            none,
            none,
            np.array([]),
        )
        return self.update(empty, known.table.battles(), rng)

    def update(self, state: Board, events: Sequence[Battle | Decision], rng: Rng) -> Board:
        """The board after more battles, in their order; a decision teaches nothing."""
        battles = _in_order([e for e in events if isinstance(e, Battle)])
        texts = list(dict.fromkeys(b.query for b in battles))
        row = {text: len(state.rows) + i for i, text in enumerate(texts)}
        place = {name: i for i, name in enumerate(state.members)}
        a, b = [place[x.a] for x in battles], [place[x.b] for x in battles]
        outcome = [share_of_a(x) for x in battles]
        return dataclasses.replace(
            state,
            ratings=state.ratings.after(zip(a, b, outcome, strict=True), self.k),
            rows=joined(state.rows, state.featurizer.rows(texts)),
            question=np.append(state.question, [row[x.query] for x in battles]).astype(np.int32),
            a=np.append(state.a, a).astype(np.int32),
            b=np.append(state.b, b).astype(np.int32),
            outcome=np.append(state.outcome, outcome),
        )

    def utility(self, x: Features, state: Board) -> Floats:
        """(n, m) expected share of wins against the mean score of the pool."""
        scores = self.scores(x, state)
        return expected(scores, scores.mean(axis=1, keepdims=True))

    def scores(self, x: Features, state: Board) -> Floats:
        """(n, m) P·Global + (1 − P)·Local, in Elo points."""
        overall = self.overall(state)
        local = np.tile(overall, (len(x), 1))
        if self.n and len(state.rows):
            similarity = cosines(state.rows, x)
            # equally near questions: the latest, as what was learned last is what holds now
            near = len(state.rows) - 1 - nearest(similarity[:, ::-1], self.n)
            local = replays(state, overall, near, self.k)
        return self.p * overall + (1 - self.p) * local

    def overall(self, state: Board) -> Floats:
        """(m,) the global ratings."""
        return state.ratings.mean if self.rating == "mean" else state.ratings.last

    def choose(self, q: Floats, c: Floats, prefer: Floats, state: Any, rng: Rng) -> Choice:
        """The largest q − prefer·c within the budget; where nothing fits it, the cheapest."""
        net = net_utility(q, c, prefer)
        if self.budget_usd is None:
            return Choice(best(net))
        fits = c <= self.budget_usd  # an unknown cost fits no budget
        cheapest = np.where(np.isnan(q), np.nan, -c)
        return Choice(best(np.where(fits.any(axis=1, keepdims=True), np.where(fits, net, np.nan), cheapest)))

    def reason(self, q: Floats, c: Floats, prefer: float, names: Sequence[str]) -> str:
        """What was predicted, and what the budget left."""
        said = super().reason(q, c, prefer, names)
        if self.budget_usd is None:
            return said
        within = [name for name, cost in zip(names, c, strict=True) if cost <= self.budget_usd]
        return f"{said}; expected to cost at most ${self.budget_usd:g}: {', '.join(within) or 'none'}"


def _in_order(battles: Sequence[Battle]) -> list[Battle]:
    """Questions as they came; the battles of one question that follow each other by the names in them."""
    turn, turns = 0, []
    for i, battle in enumerate(battles):
        turn += bool(i) and battle.query != battles[i - 1].query
        turns.append(turn)
    key = [(t, tuple(sorted((b.a, b.b)))) for t, b in zip(turns, battles, strict=True)]
    return [battles[i] for i in sorted(range(len(battles)), key=key.__getitem__)]


def share_of_a(battle: Battle) -> float:
    """1 if a won, 0 if b did, ½ for a tie."""
    shares = {"tie": 0.5, battle.b: 0.0, battle.a: 1.0}
    if battle.winner not in shares:
        raise BadParameter("winner", battle.winner, f"must be {battle.a!r}, {battle.b!r} or 'tie'")
    return shares[battle.winner]
