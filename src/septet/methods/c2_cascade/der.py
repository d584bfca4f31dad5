"""DER: a learned policy says whom to ask next, who is told the last answer, and a learned classifier when to stop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np

from septet.core.caps import PoolRule
from septet.core.errors import NoCandidate
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Card, Rng, Seat, SeatPool, method, param
from septet.core.table import Table
from septet.core.types import Floats, Query
from septet.methods.c2_cascade._estimates import Known
from septet.methods.c2_cascade._family import Cascade, Run, Stop, Tried, comparison, most_confident
from septet.methods.c2_cascade._walks import Reader, World, fit_policy, fit_terminator, state_of
from septet.parts.answers.regenerate import fusion
from septet.parts.deferral.policy import Ppo, shares
from septet.parts.learning.adam import sigmoid
from septet.parts.learning.mlp import Mlp

CARD = Card(
    paper="2412.07448",
    title="Efficient Dynamic Ensembling for Multiple LLM Experts",
    facets=Facets(
        family=Family.CASCADE,
        strategy=Strategy.REGENERATION,
        granularity=Granularity.RESPONSE,
        goal=Goal.COST,
        supervised=True,
        efficiency_aware=True,
    ),
    pool=PoolRule(at_least=2),
    trained=True,
    permutes=False,
    differs=(
        "policy, value network and terminator are small networks on features of question and last answer; the paper's"
        " are OPT-125M fine-tuned on their text",
        "their state also says who gave the last answer and who was asked",
        "the first answer has its gain, from a quality of zero; without it, as published (start = paper), a bad answer"
        " before a good one earns more than the good one alone, and the policy learns to begin badly",
        "quality P is the score of the outcomes; the paper's is BERTScore-F1 of bert-base-multilingual-cased, for which"
        " its p0 of .73 was chosen",
        "the fit walks over recorded answers, which were given without the last answer of another; the paper asks the"
        " members anew at every step",
        "so nobody is asked twice about one question, and the limit is at most the number of members",
        "a member's penalty is in proportion to its mean cost; the paper's go by size, from .006 to .016",
        "the terminator is ours: the paper does not say how its own is built, and none was released",
        "chains of the fit end by the recorded score, as in the released code, those of a request by the terminator",
        "advantages are returns less the value network's, standardised; whether the paper uses another estimate is"
        " unverified, as are its entropy bonus and its number of updates",
        "one learning rate of .003 in place of 1e-5 and 1e-6",
        "policy and terminator are those that did best on a share of the questions that they did not see",
        "the likeliest member is asked; whether the paper draws from the policy is unverified",
        "the wording of the knowledge-transfer prompt is ours",
        "a member that fails is passed over and does not count as an answer",
    ),
)


@dataclass(frozen=True)
class Der:
    """What was learned: how texts are read, the policy's logits (d, h, m), the terminator's (d − m, h, 1), and the
    penalties (m,) that it was fitted with."""

    reader: Reader
    policy: Mlp
    terminator: Mlp
    penalty: Floats


@method(CARD)
class DER(Cascade):
    """Members as actions of a Markov decision process (2412.07448, section 3).

    State s_t: question and last answer. π(m | s_t) = softmax over those not asked yet; the likeliest is asked, from the
    second on with the last answer before it as the advice of another student. It ends where
    σ(terminator(s_{t+1})) ≥ `stop_at`, or after `limit` answers. π maximises Σ γ^t r_t by PPO, with
    r_t = P_t − pen_m + gain·(P_t − P_{t−1}), P_{−1} = 0, +bonus for an end with P ≥ good, and −bonus for one below it
    at the limit.
    Cost: between one call and `limit`, one after the other; a fit of some seconds.
    Fails where the terminator cannot tell good answers, and where members do not take good advice: the fit assumes
    that they answer as they would alone.

    >>> from septet.core.method import SeatPool
    >>> from septet.core.table import Table
    >>> from septet.testing.scripted import drive, seat
    >>> rows = [{"query": f"{kind} of case {i}", "model": m, "response": "It is so." if m == kind else "Who knows",
    ...          "score": float(m == kind)} for i in range(20) for kind in ("sum", "wit") for m in ("sum", "wit")]
    >>> der, rng = DER(), np.random.default_rng(0)
    >>> state = der.fit(Table.of(rows), {}, rng)
    >>> pool = SeatPool((seat("sum"), seat("wit")))
    >>> said = {"sum": "It is so.", "wit": "It is so."}
    >>> asked = [Query.of("sum of case 3"), Query.of("wit of case 3")]
    >>> [drive(der.plan(q, pool, state, rng), said)[1][0][0].to.name for q in asked]
    ['sum', 'wit']
    """

    limit: Annotated[int, param("The most answers to one question.", ge=1, le=20)] = 5
    stop_at: Annotated[
        float, param("The terminator's probability of a good answer from which it stops.", ge=0, le=1)
    ] = 0.5
    answer: Annotated[
        Literal["last", "surest"],
        param("Which answer stands at the limit: the last, or the terminator's surest."),
    ] = "last"
    good: Annotated[float, param("The score from which an answer is good: p0.", ge=0, le=1)] = 0.73
    penalty: Annotated[float, param("What an answer of the dearest member costs.", ge=0, le=10)] = 0.016
    gain: Annotated[
        float, param("What one point of quality more than the last answer's earns.", ge=0, le=100)
    ] = 5.0
    start: Annotated[
        Literal["zero", "paper"],
        param(
            "The first answer's gain: from a quality of zero, or as published none, which pays bad starts."
        ),
    ] = "zero"
    bonus: Annotated[
        float, param("What a good end earns, and the limit without one costs.", ge=0, le=100)
    ] = 2.0
    discount: Annotated[float, param("What a reward one step later is worth.", ge=0, le=1)] = 0.95
    clip: Annotated[float, param("How far PPO lets a probability's ratio move.", gt=0, lt=1)] = 0.3
    rounds: Annotated[int, param("Updates of the policy.", ge=1, le=100_000)] = 100
    epochs: Annotated[int, param("Gradient steps per update.", ge=1, le=100)] = 4
    batch: Annotated[int, param("Questions per update.", ge=1, le=65536)] = 256
    entropy: Annotated[float, param("Weight of the policy's entropy.", ge=0, le=10)] = 0.01
    hidden: Annotated[int, param("Hidden units of each network.", ge=1, le=4096)] = 32
    lr: Annotated[float, param("Learning rate of all networks.", gt=0, le=1)] = 3e-3
    decay: Annotated[float, param("Squared penalty on the terminator's weights.", ge=0, le=10)] = 1e-3
    held_out: Annotated[
        float, param("Share of the questions by which the best weights are chosen.", gt=0, lt=1)
    ] = 0.2
    features: Annotated[
        Literal["lsa", "surface"], param("How texts are read: main directions of their words, or looks.")
    ] = "lsa"

    state_type = Der

    def fit(self, table: Table, roles: Mapping[str, tuple[Seat, ...]], rng: Rng) -> Der:
        """Reader and terminator from the questions seen, then the policy; the best weights by those held out."""
        known = Known.of(table)
        order, n_held = rng.permutation(len(known.questions)), round(self.held_out * len(known.questions))
        n_held = min(max(n_held, 1), len(order) - 1)
        seen, held = np.sort(order[n_held:]), np.sort(order[:n_held])
        answers = [c.text for i in seen.tolist() for c in known.answers[i]]
        reader = Reader.of(self.features, [known.questions[i] for i in seen.tolist()], answers)
        cost = known.cost.mean(axis=0)
        penalty = self.penalty * cost / cost.max()
        world = World.of(known, reader, penalty, **self.rules)
        terminator = fit_terminator(
            world.judged(seen),
            world.judged(held),
            rng,
            hidden=self.hidden,
            rate=self.lr,
            decay=self.decay,
            epochs=self.rounds,
        )
        policy = fit_policy(
            world,
            seen,
            held,
            terminator,
            rng,
            how=Ppo(clip=self.clip, epochs=self.epochs, entropy=self.entropy),
            hidden=self.hidden,
            rate=self.lr,
            rounds=self.rounds,
            batch=self.batch,
            discount=self.discount,
            stop_at=self.stop_at,
        )
        return Der(reader, policy, terminator, penalty)

    @property
    def rules(self) -> dict[str, Any]:
        """What a walk over recorded answers is rewarded by."""
        return {
            "good": self.good,
            "limit": self.limit,
            "gain": self.gain,
            "bonus": self.bonus,
            "from_zero": self.start == "zero",
        }

    def confidence(self, query: Query, so_far: Sequence[Tried], pool: SeatPool, state: Der) -> float:
        """The terminator's probability that the last answer is good."""
        seen = _state(query, so_far, pool, state)[:, : -len(pool.members)]
        return float(sigmoid(state.terminator.outputs(seen)[0, 0]))

    def next_step(
        self, query: Query, so_far: Sequence[Tried], pool: SeatPool, state: Der, rng: Rng
    ) -> Stop | Run:
        """Stop at a good answer or at the limit; else the likeliest of those that were not asked."""
        given = [i for i, t in enumerate(so_far) if t.completion is not None]
        if so_far and so_far[-1].completion is not None and so_far[-1].confidence >= self.stop_at:
            return Stop(len(so_far) - 1, f"{self._story(so_far, pool)}, so it stopped")
        allowed = np.ones((1, len(pool.members)), dtype=bool)
        allowed[0, [t.member for t in so_far]] = False
        if len(given) >= self.limit or not allowed.any():
            if not given:
                failures = "; ".join(f"{pool.names[t.member]}: {t.error}" for t in so_far)
                raise NoCandidate(f"every member failed: {failures}")
            index = given[-1] if self.answer == "last" else most_confident(so_far)
            which = f"the {self.answer} answer, {pool.names[so_far[index].member]}'s, stands"
            return Stop(index, f"{self._story(so_far, pool)}; nobody more is asked, {which}")
        p = shares(state.policy.outputs(_state(query, so_far, pool, state)), allowed)[0]
        advised = _advised(query, so_far[given[-1]], rng) if given else None
        return Run(int(p.argmax()), query=advised)

    def _story(self, so_far: Sequence[Tried], pool: SeatPool) -> str:
        """Who was asked, and what the terminator said of each answer."""
        return "; ".join(
            f"{pool.names[t.member]} failed"
            if t.completion is None
            else f"{pool.names[t.member]}: probability of a good answer {comparison(t.confidence, self.stop_at)}"
            for t in so_far
        )


def _advised(query: Query, last: Tried, rng: Rng) -> Query:
    """The query with the last answer before its question, in a block that it cannot close."""
    assert last.completion is not None
    return fusion(query, [last.completion.text], "advice", rng)


def _state(query: Query, so_far: Sequence[Tried], pool: SeatPool, state: Der) -> Floats:
    """(1, d) what the policy sees; an answer that failed leaves the one before it the last."""
    last = next((t for t in reversed(so_far) if t.completion is not None), None)
    said = "" if last is None or last.completion is None else last.completion.text
    asked = np.zeros((1, len(pool.members)), dtype=bool)
    asked[0, [t.member for t in so_far]] = True
    who = np.array([-1 if last is None else last.member])
    return state_of(state.reader.questions([query.text]), state.reader.answers([said]), who, asked)
