"""PickLLM: one session learns from the rewards of its own answers whom to ask, without looking at the questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal
from zlib import crc32

import numpy as np

from septet.core.errors import BadParameter
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy, Utility
from septet.core.method import Card, Choice, Plan, Rng, SeatPool, method, param
from septet.core.types import Battle, Decision, Floats, Query
from septet.methods.a2_nonpretrained._family import NonPretrainedRouter
from septet.parts.learning.features import Featurizer
from septet.parts.learning.rows import Features
from septet.parts.routing.bandit import moved_value, reward_inaction
from septet.parts.routing.choose import epsilon_greedy, net_utility
from septet.parts.routing.cost import Spending
from septet.parts.routing.records import Fitted, Known

CARD = Card(
    paper="2412.12170",
    title="PickLLM: Context-Aware RL-Assisted Large Language Model Routing",
    facets=Facets(
        family=Family.NONPRETRAINED,
        strategy=Strategy.SELECTION,
        granularity=Granularity.RESPONSE,
        goal=Goal.COST,
        supervised=False,
        efficiency_aware=True,
        utility=Utility.CONTINUOUS,
    ),
    online=True,
    permutes=False,
    differs=(
        "the reward is a weighted sum by default; as printed in the one source we could read it is a product of"
        " cost and latency that vanishes at one second (scoring = product)",
        "the paper's weights, rates and epsilon could not be read; the defaults are ours",
        "a reward outside 0..1 is cut to it for the automaton, which needs that range",
        "an unknown latency counts as none",
        "a session is an ensemble: what one user's feedback teaches holds for all who ask it",
        "a fit plays recorded questions as one session; the paper starts from nothing",
        "a price of cost is taken off the values of q, and does nothing to the automaton",
    ),
)


@dataclass(frozen=True)
class Session(Fitted):
    """`p` (m,) probabilities of the automaton, `values` (m,) of q, and how many answers of each (m,) taught."""

    members: tuple[str, ...]
    p: Floats
    values: Floats
    n: Floats


@method(CARD)
class PickLLM(NonPretrainedRouter):
    """A bandit without features (2412.12170).

    R = w_score·score − w_cost·(usd / usd_scale) − w_latency·log10(1 + seconds) (sum), or
    R = w_score·score − w_cost·(usd / usd_scale)·w_latency·log10(seconds) (product, as printed).
    lri, a linear reward–inaction automaton on R cut to 0..1: p_chosen += rate·R·(1 − p_chosen), the others shrink;
    a member is drawn from p. q: Q_m ← Q_m + rate·(R − Q_m), the largest Q answers, with probability epsilon any.
    Cost: m numbers of state; nothing beside the answer.
    Fails where members suit different questions: it settles on one. The automaton never learns from a bad answer
    (R = 0 changes nothing) and can settle on the wrong one; q with epsilon = 0 keeps the first that earned.

    >>> pick, rng = PickLLM(learner="lri", rate=0.1, w_cost=0.0, w_latency=0.0), np.random.default_rng(0)
    >>> good = Decision("2 + 2?", {"ada": 0.5, "bob": 0.5}, 0.5, member="ada", score=1.0)
    >>> pick.update(pick.begin(("ada", "bob")), [good], rng).p.tolist()
    [0.55, 0.45]
    """

    learner: Annotated[
        Literal["lri", "q"],
        param("lri: reward–inaction automaton; q: stateless Q with epsilon-greedy choice."),
    ] = "q"
    rate: Annotated[float, param("How far one reward moves what was learned.", gt=0, le=1)] = 0.1
    epsilon: Annotated[float, param("q: probability of asking anybody.", ge=0, le=1)] = 0.1
    scoring: Annotated[
        Literal["sum", "product"], param("How cost and latency enter the reward: added, or multiplied.")
    ] = "sum"
    w_score: Annotated[float, param("Weight of the score.", ge=0, le=1000)] = 1.0
    w_cost: Annotated[float, param("Weight of the cost in units of usd_scale.", ge=0, le=1000)] = 0.1
    w_latency: Annotated[float, param("Weight of the logarithm of the seconds.", ge=0, le=1000)] = 0.1
    usd_scale: Annotated[float, param("USD that count as one unit of cost.", gt=0, le=1000)] = 0.01

    state_type = Session
    quality = "learned value"

    def begin(self, members: Sequence[str]) -> Session:
        """Everybody alike."""
        m = len(members)
        unknown, none = np.full(m, np.nan), np.zeros(m)
        spending = Spending(unknown, unknown, unknown, unknown)
        return Session(Featurizer.unused(), spending, 0.0, tuple(members), np.full(m, 1 / m), none, none)

    def learn(self, known: Known, featurizer: Featurizer, x: Features, rng: Rng) -> Session:
        """One session over the known questions in their order: who is drawn answers as recorded."""
        state = replace(self.begin(known.members), spending=known.spending)
        for scores, usd, seconds in zip(known.scores, known.usd, known.seconds, strict=True):
            i = int(rng.choice(len(scores), p=self._probabilities(state.values[None], state)[0]))
            if not np.isnan(scores[i]):
                state = self._taught(state, i, self.reward(scores[i], usd[i], seconds[i]))
        return state

    def update(self, state: Session, events: Sequence[Battle | Decision], rng: Rng) -> Session:
        """The session after scored decisions, in order; battles and unscored decisions teach nothing."""
        for event in events:
            if isinstance(event, Decision) and not np.isnan(event.score):
                if event.member not in state.members:
                    raise BadParameter("member", event.member, f"must be one of {list(state.members)}")
                reward = self.reward(event.score, event.spent, event.seconds)
                state = self._taught(state, state.members.index(event.member), reward)
        return state

    def reward(self, score: float, usd: float, seconds: float) -> float:
        """R of one answer; an unknown cost or latency costs nothing."""
        cost = self.w_cost * float(np.nan_to_num(usd)) / self.usd_scale
        if self.scoring == "sum":
            latency = self.w_latency * float(np.nan_to_num(np.log10(1 + seconds)))
            return float(self.w_score * score - cost - latency)
        slow = 0.0 if np.isnan(seconds) else self.w_latency * float(np.log10(max(seconds, 1e-3)))
        return float(self.w_score * score - cost * slow)

    def _taught(self, state: Session, i: int, reward: float) -> Session:
        """The session after member i earned a reward."""
        p = reward_inaction(state.p, i, min(max(reward, 0.0), 1.0), self.rate)
        return replace(
            state,
            p=p / p.sum(),  # rounding must not add up over a long session
            values=moved_value(state.values, i, reward, self.rate),
            n=state.n + np.eye(len(state.n))[i],
        )

    def _probabilities(self, net: Floats, state: Session) -> Floats:
        """(n, m) how likely each member is asked, from net values (n, m)."""
        if self.learner == "lri":
            return np.tile(state.p, (len(net), 1))
        return epsilon_greedy(net, self.epsilon)

    def featurise(self, queries: Sequence[Query], pool: SeatPool, state: Any) -> Features:
        """(n, 0): it does not look at the questions."""
        return np.empty((len(queries), 0))

    def utility(self, x: Features, state: Session) -> Floats:
        """(n, m) probabilities of the automaton, or values."""
        return np.tile(state.p if self.learner == "lri" else state.values, (len(x), 1))

    def choose(self, q: Floats, c: Floats, prefer: Floats, state: Session, rng: Rng) -> Choice:
        """The automaton's probabilities, or one of the best value with exploration."""
        return Choice(self._probabilities(net_utility(q, c, prefer), state))

    def plan(self, query: Query, pool: SeatPool, state: Session, rng: Rng) -> Plan:
        """As every router, but what is drawn also depends on the question: one seed serves many requests."""
        keyed = np.random.default_rng([*rng.integers(2**32, size=2), crc32(query.text.encode())])
        return (yield from super().plan(query, pool, state, keyed))
