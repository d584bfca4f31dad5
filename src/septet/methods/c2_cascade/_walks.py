"""What a policy over members learns from: recorded answers as a world in which it walks from member to member."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from septet.core.types import Floats
from septet.methods.c2_cascade._estimates import Known
from septet.parts.deferral.policy import Ppo, Steps, returns, rewards, shares, update
from septet.parts.deferral.scorer import Given
from septet.parts.learning.adam import Adam, batches, sigmoid
from septet.parts.learning.features import Featurizer
from septet.parts.learning.mlp import Mlp, untrained
from septet.parts.learning.rows import dense

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

PATIENCE = 15
"""The terminator's fit ends when the loss on what is held out has not fallen for so many passes."""

EVERY = 5
"""Updates between two looks at what is held out."""


@dataclass(frozen=True)
class Reader:
    """Questions (n, dx) and answers (n, dy) as numbers; of an answer its words, and its log length and whether its end
    looks unfinished, standardised by `center` and `scale` (2,)."""

    question: Featurizer
    answer: Featurizer
    center: Floats
    scale: Floats

    @classmethod
    def of(cls, kind: Literal["lsa", "surface"], questions: Sequence[str], answers: Sequence[str]) -> Reader:
        """The reader that these questions and answers give."""
        signs = _signs(answers)
        spread = signs.std(axis=0)
        return cls(
            Featurizer.of(kind, questions),
            Featurizer.of(kind, answers),
            signs.mean(axis=0),
            np.where(spread > 1e-9, spread, 1.0),
        )

    def questions(self, texts: Sequence[str]) -> Floats:
        """(n, dx)"""
        return dense(self.question.rows(texts))

    def answers(self, texts: Sequence[str]) -> Floats:
        """(n, dy)"""
        words = dense(self.answer.rows(texts))
        return np.column_stack([words, (_signs(texts) - self.center) / self.scale])


def _signs(texts: Sequence[str]) -> Floats:
    given = Given(texts, texts, np.zeros(len(texts), dtype=np.int32), np.full(len(texts), np.nan))
    return given.signs()[:, 1:]


def state_of(x: Floats, y: Floats, last: Ints, asked: Bools) -> Floats:
    """(n, dx + dy + 2m) what the policy sees: question x (n, dx), last answer y (n, dy), zeros where there is none, who
    gave it (`last` (n,), −1: nobody) and who was asked already (n, m). The terminator sees all but the last m."""
    gave = np.zeros(asked.shape)
    there = last >= 0
    gave[there, last[there]] = 1.0
    return np.column_stack([x, np.where(there[:, None], y, 0.0), gave, asked])


@dataclass(frozen=True)
class World:
    """q questions x (q, dx), the m members' answers y (q, m, dy), their scores (q, m), the members' penalties (m,), and
    the rules of `rewards`; the limit is at most m."""

    x: Floats
    y: Floats
    score: Floats
    penalty: Floats
    good: float
    limit: int
    gain: float = 5.0
    bonus: float = 2.0
    from_zero: bool = True

    @classmethod
    def of(cls, known: Known, reader: Reader, penalty: Floats, **rules: Any) -> World:
        """The recorded answers as a reader sees them; `rules`: good, limit, gain, bonus, from_zero."""
        texts = [c.text for row in known.answers for c in row]
        y = reader.answers(texts).reshape(*known.scores.shape, -1)
        rules["limit"] = min(rules["limit"], known.scores.shape[1])
        return cls(reader.questions(known.questions), y, known.scores, penalty, **rules)

    def states(self, rows: Ints, last: Ints, asked: Bools) -> Floats:
        """(n, …) states of the questions `rows` (n,)."""
        return state_of(self.x[rows], self.y[rows, np.maximum(last, 0)], last, asked)

    def judged(self, rows: Ints) -> tuple[Floats, Floats]:
        """What a terminator learns from: every answer to the questions, (n·m, …), and whether it is good (n·m,)."""
        m = self.score.shape[1]
        which, member = np.repeat(rows, m), np.tile(np.arange(m), len(rows))
        seen = self.states(which, member, np.zeros((len(which), m), dtype=bool))[:, :-m]
        return seen, (self.score[which, member] >= self.good).astype(np.float64)


@dataclass(frozen=True)
class Walks:
    """n chains of at most L answers: members and scores (n, L), −1 and NaN after the end, and the steps taken, one for
    each answer, in the order of time; `chain` and `time` (k,) say which answer each step is."""

    member: Ints
    score: Floats
    state: Floats
    allowed: Bools
    logp: Floats
    chain: Ints
    time: Ints

    def earned(self, world: World) -> Floats:
        """(n, L) the rewards."""
        penalty = np.where(self.member >= 0, world.penalty[self.member], np.nan)
        return rewards(
            self.score,
            penalty,
            good=world.good,
            limit=world.limit,
            gain=world.gain,
            bonus=world.bonus,
            from_zero=world.from_zero,
        )

    def steps(self, world: World, discount: float) -> Steps:
        """What PPO learns from."""
        returned = returns(self.earned(world), discount)[self.chain, self.time]
        return Steps(self.state, self.allowed, self.member[self.chain, self.time], self.logp, returned)


def walk(
    actor: Mlp,
    world: World,
    rows: Ints,
    *,
    rng: np.random.Generator | None = None,
    terminator: Mlp | None = None,
    stop_at: float = 0.5,
) -> Walks:
    """Chains for the questions `rows` (n,): members drawn from the policy, or without `rng` its likeliest.

    A chain ends where the terminator's probability is at least `stop_at`; without a terminator where the recorded score
    is good; and at the limit.
    """
    n, m = len(rows), world.score.shape[1]
    member, score = np.full((n, world.limit), -1), np.full((n, world.limit), np.nan)
    last, asked, going = np.full(n, -1), np.zeros((n, m), dtype=bool), np.arange(n)
    taken: list[tuple[Floats, Bools, Floats, Ints, Ints]] = []
    for t in range(world.limit):
        state, allowed = world.states(rows[going], last[going], asked[going]), ~asked[going]
        p = shares(actor.outputs(state), allowed)
        with np.errstate(divide="ignore"):
            log_p = np.log(p)
        noise = (
            0.0 if rng is None else rng.gumbel(size=p.shape)
        )  # the largest of log p + noise is a draw from p
        chosen = (log_p + noise).argmax(axis=1)
        taken.append((state, allowed, log_p[np.arange(len(going)), chosen], going, np.full(len(going), t)))
        member[going, t], score[going, t] = chosen, world.score[rows[going], chosen]
        last[going], asked[going, chosen] = chosen, True
        if terminator is None:
            ends = score[going, t] >= world.good
        else:
            seen = world.states(rows[going], last[going], asked[going])[:, :-m]
            ends = sigmoid(terminator.outputs(seen)[:, 0]) >= stop_at
        going = going[~ends]
        if not len(going):
            break
    parts = [np.concatenate(part) for part in zip(*taken, strict=True)]
    return Walks(member, score, *parts)


def fit_terminator(
    seen: tuple[Floats, Floats],
    held: tuple[Floats, Floats],
    rng: np.random.Generator,
    *,
    hidden: int,
    rate: float,
    decay: float,
    epochs: int,
    batch: int = 128,
) -> Mlp:
    """The network (d, hidden, 1) of the logit that an answer is good: cross-entropy on `seen` (x (r, d), y (r,)).

    Kept are the weights with the least cross-entropy on `held`, those before the first step included, which give every
    answer about the share of good ones (one of each added).
    """
    x, y = seen
    net = untrained((x.shape[1], hidden, 1), rng)
    share = (y.sum() + 1) / (len(y) + 2)
    net.layers()[-1][1][:] = np.log(share / (1 - share))
    step = Adam([net.theta], rate=rate, decay=decay)
    best, kept, since = _cross_entropy(net, *held), net.theta.copy(), 0
    for _ in range(epochs):
        for part in batches(len(x), batch, rng):
            inside = net.activations(x[part])
            error = sigmoid(inside[-1]) - y[part, None]
            step.step([net.gradient(inside, error / len(part))])
        loss = _cross_entropy(net, *held)
        since = since + 1 if loss >= best else 0
        if loss < best:
            best, kept = loss, net.theta.copy()
        if since > PATIENCE:
            break
    return replace(net, theta=kept)


def _cross_entropy(net: Mlp, x: Floats, y: Floats) -> float:
    z = net.outputs(x)[:, 0]
    return float((np.logaddexp(0, z) - y * z).mean())


def fit_policy(
    world: World,
    seen: Ints,
    held: Ints,
    terminator: Mlp,
    rng: np.random.Generator,
    *,
    how: Ppo,
    hidden: int,
    rate: float,
    rounds: int,
    batch: int,
    discount: float,
    stop_at: float,
) -> Mlp:
    """The policy (d, hidden, m) by PPO on chains over the questions `seen`, which end by the recorded score.

    Kept is the policy with the largest mean return on the questions `held`, its likeliest members asked and the
    terminator deciding on the end, as when it serves.
    """
    d, m = world.x.shape[1] + world.y.shape[2] + 2 * world.score.shape[1], world.score.shape[1]
    actor, critic = untrained((d, hidden, m), rng), untrained((d, hidden, 1), rng)
    step = Adam([actor.theta, critic.theta], rate=rate)

    def value() -> float:
        walked = walk(actor, world, held, terminator=terminator, stop_at=stop_at)
        return float(returns(walked.earned(world), discount)[:, 0].mean())

    best, kept = value(), actor.theta.copy()
    for i in range(1, rounds + 1):
        rows = seen if len(seen) <= batch else rng.choice(seen, batch, replace=False)
        update(actor, critic, step.step, walk(actor, world, rows, rng=rng).steps(world, discount), how)
        if i % EVERY == 0 and (now := value()) > best:
            best, kept = now, actor.theta.copy()
    return replace(actor, theta=kept)
