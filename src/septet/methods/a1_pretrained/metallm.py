"""MetaLLM: a linear bandit per member; who is expected to earn most, or is still unknown enough, answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np

from septet.core.errors import BadParameter
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy, Utility
from septet.core.method import Card, Choice, Rng, method, param
from septet.core.types import Battle, Decision, Floats
from septet.methods.a1_pretrained._family import PretrainedRouter
from septet.parts.learning.features import N_DIRECTIONS, FeatureKind, Featurizer
from septet.parts.learning.rows import Features, dense
from septet.parts.learning.tfidf import TfIdf
from septet.parts.routing.bandit import WIDEST, LinearArms, upper_confidence
from septet.parts.routing.choose import best, net_utility
from septet.parts.routing.cost import Spending
from septet.parts.routing.records import Fitted, Known

CARD = Card(
    paper="2407.10834",
    title="MetaLLM: A High-performant and Cost-efficient Dynamic Framework for Wrapping LLMs",
    facets=Facets(
        family=Family.PRETRAINED,
        strategy=Strategy.SELECTION,
        granularity=Granularity.RESPONSE,
        goal=Goal.COST,
        supervised=True,
        efficiency_aware=True,
        utility=Utility.CONTINUOUS,
    ),
    online=True,
    differs=(
        "alpha is 1, not the released script's 0, which never explores; after a fit on outcomes of all members"
        " both choose alike",
        "features are hashed TF-IDF reduced to 128 directions, not e5-mistral or Sentence-BERT embeddings; before"
        " any fit the directions are random signs",
        "a column of ones stands beside the features, penalised like them: sentence embeddings have a common"
        " direction by themselves, hashed words have none; constant = false leaves it out",
        "a member's price is its mean USD per call so far, divided by the largest of the pool; where no cost is"
        " known it is 0",
        "it was read in the authors' code; the paper's text may state other constants",
        "a request's price of cost λ comes on top of the one in the reward; the paper has only that one",
    ),
)

_BUCKETS = 2**12
"""Buckets of the words behind the features before a fit."""


@dataclass(frozen=True)
class Bandit(Fitted):
    """The arms, and how many calls of each member (m,) were billed: `spending.usd` is their mean."""

    members: tuple[str, ...]
    arms: LinearArms
    billed: Floats


@method(CARD)
class MetaLLM(PretrainedRouter):
    """Disjoint LinUCB with the cost inside the reward (2407.10834).

    Per member A = ridge·I + Σ x·xᵀ (d, d), b = Σ r·x (d,), r = score − price·usd_m / max usd;
    u_m(x) = xᵀA⁻¹b + alpha·√(xᵀA⁻¹x), (n, m), and the largest answers. With a discount γ < 1, A ← γA + xxᵀ
    and b ← γb + r·x: what is old fades, the ridge too. A fit on outcomes fills A and b ("past context"): with
    alpha = 0 that is ridge regression without intercept. Feedback moves the member that was asked.
    Cost: n·m·d² operations for a decision, d² for feedback, m·d² numbers of state.
    Fails where rewards are not linear in the features. From nothing, the paper's ridge of 12.94 makes the bonus so
    small that the first member with fair rewards is kept (measured: below random); ridge = 1 explores.

    >>> from septet.core.method import SeatPool
    >>> from septet.core.types import Completion, Query
    >>> from septet.testing.scripted import drive, seat
    >>> router, rng = MetaLLM(ridge=1.0), np.random.default_rng(0)
    >>> state = router.begin(("sum", "wit"))
    >>> bad = Decision("add two and two", {"sum": 1.0}, 1.0, member="sum", score=0.0)
    >>> state = router.update(state, [bad], rng)
    >>> def script(ask):
    ...     if ask.do == "decide":
    ...         return router.choose(**ask.args, state=state, rng=rng)
    ...     return [Completion(member=ask.to.name, text="4")]
    >>> pool = SeatPool((seat("sum"), seat("wit")))
    >>> drive(router.plan(Query.of("add two and two"), pool, state, rng), script)[0].reason
    'upper bound of the reward: sum 0.816, wit 1.41; so wit was asked'
    """

    alpha: Annotated[float, param("How much being unsure of a member speaks for it.", ge=0, le=10)] = 1.0
    ridge: Annotated[float, param("Weight of the squared norm in each regression.", gt=0, le=1e6)] = 12.94
    discount: Annotated[float, param("How much of the past is left after one answer.", gt=0.5, le=1)] = 1.0
    price: Annotated[
        float, param("What an answer of the dearest member costs, in units of a right answer.", ge=0, le=10)
    ] = 0.0
    constant: Annotated[bool, param("Whether a column of ones stands beside the features.")] = True
    features: FeatureKind = "lsa"

    state_type = Bandit
    quality = "upper bound of the reward"

    def begin(self, members: Sequence[str]) -> Bandit | None:
        """Nothing learned; None for features that need known questions or a role."""
        if self.features in ("task", "embedder"):
            return None
        featurizer = _unfitted(self.features)
        width = self._widened(featurizer.rows(["?"])).shape[1]
        unknown = np.full(len(members), np.nan)
        arms = LinearArms.start(len(members), width, self.ridge)
        spending = Spending(unknown, unknown, unknown, unknown)
        return Bandit(featurizer, spending, 0.0, tuple(members), arms, np.zeros(len(members)))

    def learn(self, known: Known, featurizer: Featurizer, x: Features, rng: Rng) -> Bandit:
        """Every known score as an answer, in the order of the questions."""
        arms = LinearArms.of(self._widened(x), known.scores, self.ridge, self.discount)
        billed = (~np.isnan(known.usd)).sum(axis=0).astype(np.float64)
        return Bandit(featurizer, known.spending, 0.0, known.members, arms, billed)

    def update(self, state: Bandit, events: Sequence[Battle | Decision], rng: Rng) -> Bandit:
        """The state after scored decisions, in their order; battles and unscored decisions teach nothing."""
        scored = [e for e in events if isinstance(e, Decision) and not np.isnan(e.score)]
        if scored and state.featurizer.kind == "embedder":
            raise BadParameter(
                "features", "embedder", "cannot learn while it serves: feedback has no embedding"
            )
        if not scored:
            return state
        rows = self._widened(state.featurizer.rows([e.query for e in scored], [e.task for e in scored]))
        for event, x in zip(scored, rows, strict=True):
            i = _place(state.members, event.member)
            usd, billed = state.spending.usd.copy(), state.billed.copy()
            billed[i] += 1
            before = 0.0 if np.isnan(usd[i]) else usd[i]
            usd[i] = before + (event.spent - before) / billed[i]
            state = replace(
                state,
                spending=replace(state.spending, usd=usd),
                arms=state.arms.learn(i, x, event.score, self.discount),
                billed=billed,
            )
        return state

    def utility(self, x: Features, state: Bandit) -> Floats:
        """(n, m) θᵀx + alpha·√(xᵀA⁻¹x), the reward being the score less the price of the member."""
        less = self.price * relative(state.spending.usd)
        return upper_confidence(state.arms, self._widened(x), self.alpha, less)

    def choose(self, q: Floats, c: Floats, prefer: Floats, state: Bandit, rng: Rng) -> Choice:
        """The largest bound less the price of cost; equals, as all are at first, go by their names."""
        by_name = sorted(range(len(state.members)), key=state.members.__getitem__)
        weights = np.zeros(q.shape)
        weights[:, by_name] = best(net_utility(q, c, prefer)[:, by_name])
        return Choice(weights)

    def _widened(self, x: Features) -> Floats:
        """(n, d) the features, and a column of ones if there is to be one."""
        if x.shape[1] > WIDEST:
            raise BadParameter(
                "features", self.features, f"must give at most {WIDEST} columns for a bandit: lsa does"
            )
        rows = dense(x)
        return np.column_stack([rows, np.ones(len(rows))]) if self.constant else rows


def relative(usd: Floats) -> Floats:
    """(m,) costs divided by the largest; 0 where unknown.

    >>> relative(np.array([2., 1., np.nan])).tolist()
    [1.0, 0.5, 0.0]
    """
    known = np.where(np.isnan(usd), 0.0, usd)
    share: Floats = known / max(float(known.max(initial=0.0)), 1e-300)
    return share


def _place(members: Sequence[str], member: str) -> int:
    if member not in members:
        raise BadParameter("member", member, f"must be one of {list(members)}")
    return members.index(member)


def _unfitted(kind: Any) -> Featurizer:
    """Words that all weigh alike, projected on random signs; signs of "surface" that are not standardised."""
    none = np.empty(0)
    if kind == "surface":
        width = Featurizer.of("surface", ["?"]).center.shape[0]
        return Featurizer(kind, TfIdf.unused(), none, np.zeros(width), np.ones(width), ())
    words = TfIdf(np.ones(_BUCKETS))
    if kind == "tf-idf":
        return Featurizer(kind, words, none, none, none, ())
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (_BUCKETS, N_DIRECTIONS))
    return Featurizer(kind, words, signs, none, none, ())
