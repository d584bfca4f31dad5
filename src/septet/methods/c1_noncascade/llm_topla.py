"""LLM-TOPLA: a team that fails in different ways, and a network that learns whom of them to believe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray

from septet.core.caps import PoolRule
from septet.core.errors import BadParameter
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Card, Plan, Rng, Seat, SeatPool, method, param
from septet.core.table import Table
from septet.core.types import Completion, Floats, Posterior, Query, Verdict
from septet.methods.c1_noncascade._family import NonCascadeMethod
from septet.parts.answers.diversity import best_team, focal
from septet.parts.answers.extract import canonical, final_answer
from septet.parts.answers.vote import VOID, outcome
from septet.parts.routing.adam import Adam, batches, softmax
from septet.parts.routing.mlp import Mlp, untrained

CARD = Card(
    paper="2410.03953",
    title="LLM-TOPLA: Efficient LLM Ensemble by Maximising Diversity",
    facets=Facets(
        family=Family.NONCASCADE,
        strategy=Strategy.SELECTION,
        granularity=Granularity.RESPONSE,
        goal=Goal.PERFORMANCE,
        supervised=True,
    ),
    pool=PoolRule(at_least=2),
    trained=True,
    differs=(
        "only TOPLA-Weighted is built; TOPLA-Summary needs a long sequence-to-sequence model that is not among ours",
        "how accuracy and focal diversity are weighed could not be verified: here a mean of the two, with the accuracy"
        " of the team's plurality",
        "teams have a fixed size; the released code has no pruning, and its genetic search could not be verified: ours"
        " has a population of 40 and 40 generations",
        "hidden units are rectified linear, the released code's are sigmoids; training stops after `patience` passes"
        " without a lower loss on a tenth of the questions",
        "a member that never fails adds a diversity of 0, since the measure is not defined for it",
        "the temperature of the ten samples could not be verified",
        "an answer that was cut off, or has no final answer, is in no slot",
    ),
)

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Team:
    """What was learned: the `members` of the team by name, in the order in which the network reads them; the network
    from (members · slots) shares to a logit per slot; its slots."""

    members: tuple[str, ...]
    network: Mlp
    slots: int


@method(CARD)
class LlmTopla(NonCascadeMethod):
    """Focal-diversity pruning and a learned combiner (2410.03953).

    The team S of `team` members maximises w·focal(S) + (1 − w)·accuracy(S) over the questions of the fit. Its answers
    are shares x ∈ [0, 1]^(s·k) over k slots, per member: the options A, B, …, or the answers most given, in order. A
    network of two hidden layers gives logits over slots; argmax over the slots that anybody filled is the answer.
    Cost: one call for each member of the team, for all its samples; the rest of the pool is not asked. Fails where no
    member is right: it only selects; and with few labels, where it learns no more than the vote.

    >>> from septet.testing.scripted import drive, seat
    >>> pool = SeatPool((seat("ada"), seat("bob"), seat("cyd")))
    >>> believe_cyd = Mlp((4, 2), np.array([1., 0, 0, 1, 3, 0, 0, 3, 0, 0]))  # weights (4, 2), bias (2,)
    >>> state = Team(("ada", "cyd"), believe_cyd, 2)
    >>> plan = LlmTopla(samples=1, answers="options").plan(Query.of("A or B?"), pool, state, np.random.default_rng(0))
    >>> verdict, yielded = drive(plan, {"ada": "A", "cyd": "The answer is B."})
    >>> len(yielded[0]), verdict.chosen, verdict.reason
    (2, 1, "'B' has probability 0.88 among 2 answers of 2 members: cyd")
    """

    samples: Annotated[int, param("Answers that each member of the team gives.", ge=1, le=100)] = 10
    temperature: Annotated[float, param("Temperature of the samples.", ge=0, le=2)] = 0.7
    team: Annotated[int, param("Members of the team, at most.", ge=2, le=50)] = 4
    diversity: Annotated[
        float, param("w: how much diversity counts, against the accuracy of the vote.", ge=0, le=1)
    ] = 0.5
    answers: Annotated[
        Literal["ranked", "options"],
        param("What slots are: the answers by how often they were given, or the letters of options."),
    ] = "ranked"
    slots: Annotated[int, param("k: answers that the network can tell apart.", ge=2, le=26)] = 10
    hidden: Annotated[int, param("Units of each of the two hidden layers.", ge=1, le=1000)] = 100
    epochs: Annotated[int, param("Passes over the questions, at most.", ge=1, le=10_000)] = 300
    patience: Annotated[int, param("Passes without a lower loss on questions held out.", ge=1)] = 30
    rate: Annotated[float, param("Step size of Adam.", gt=0, le=1)] = 1e-3

    state_type = Team

    def fit(self, table: Table, roles: Mapping[str, tuple[Seat, ...]], rng: Rng) -> Team:
        """The team, then the network, from questions of which somebody's answer is known to be right."""
        names = tuple(sorted(table.members))
        x, gold = self._read(table, names)
        if not len(x):
            raise BadParameter(
                "table", len(table), "must hold questions that somebody answered rightly (score ≥ .5)"
            )
        scores = table.matrix("score")[:, [table.members.index(name) for name in names]]
        fails = ~(scores[~np.isnan(scores).all(axis=1)] >= 0.5)  # who said nothing failed, too

        def worth(team: Sequence[int]) -> float:
            chosen = list(team)
            right = float((x[:, chosen].sum(axis=1).round(9).argmax(axis=1) == gold).sum()) / len(fails)
            return self.diversity * focal(fails[:, chosen]) + (1 - self.diversity) * right

        team = list(best_team(len(names), min(self.team, len(names)), worth, rng))
        members = tuple(names[i] for i in team)
        if self.answers == "ranked":  # slots are ranked by what the team says
            x, gold = self._read(table.of_members(members), members)
        else:
            x = x[:, team]
        return Team(members, self._trained(x.reshape(len(x), -1), gold, rng), self.slots)

    def _read(self, table: Table, names: Sequence[str]) -> tuple[Floats, NDArray[np.int64]]:
        """Shares (q, m, k) of the members by these names, and the slot of the right answer (q,), of the questions
        whose right answer was given and has a slot."""
        place = [names.index(m) for m in table.members]
        said: list[list[list[str]]] = [[[] for _ in names] for _ in table.queries]
        right: list[dict[str, list[float]]] = [{} for _ in table.queries]
        for r in np.lexsort((table.sample, table.member, table.query)).tolist():
            q, text = int(table.query[r]), table.text[r]
            answer = canonical(str(table.answer[r] or "")) or (final_answer(str(text)) if text else None)
            if answer is None:
                continue
            said[q][place[int(table.member[r])]].append(answer)
            if not np.isnan(table.score[r]):
                right[q].setdefault(answer, []).append(float(table.score[r]))
        rows, gold = [], []
        for answers, marks in zip(said, right, strict=True):
            best = max(marks, key=lambda a: float(np.mean(marks[a])), default=None)
            labels = self._labels(answers)
            if best is not None and np.mean(marks[best]) >= 0.5 and best in labels:
                rows.append(_shares(answers, labels, self.slots))
                gold.append(labels.index(best))
        return np.array(rows).reshape(-1, len(names), self.slots), np.array(gold, dtype=np.int64)

    def _labels(self, answers: Sequence[Sequence[str]]) -> list[str]:
        """The answers of the slots, in order; ties → the first seen, by the members' names."""
        if self.answers == "options":
            return list(LETTERS[: self.slots])
        weight: dict[str, float] = {}
        for own in answers:
            for answer in own:
                weight[answer] = weight.get(answer, 0.0) + 1 / len(own)
        order = list(weight)
        return sorted(order, key=lambda a: (-round(weight[a], 9), order.index(a)))[: self.slots]

    def _trained(self, x: Floats, gold: NDArray[np.int64], rng: Rng) -> Mlp:
        """The network with the least cross-entropy on a tenth of the rows, on which it does not learn."""
        net = untrained((x.shape[1], self.hidden, self.hidden, self.slots), rng)
        shuffled = rng.permutation(len(x))
        n_out = len(x) // 10
        out, rest = shuffled[:n_out], shuffled[n_out:]
        checked = out if n_out else rest
        target = np.eye(self.slots)[gold]
        step = Adam([net.theta], rate=self.rate)
        best, least, since = net.theta.copy(), np.inf, 0
        for _ in range(self.epochs):
            for part in batches(len(rest), 64, rng):
                rows = rest[part]
                inside = net.activations(x[rows])
                step.step([net.gradient(inside, (softmax(inside[-1]) - target[rows]) / len(rows))])
            p = softmax(net.outputs(x[checked]))[np.arange(len(checked)), gold[checked]]
            loss = float(-np.log(np.maximum(p, 1e-12)).mean())
            since = 0 if loss < least else since + 1
            if loss < least:
                best, least = net.theta.copy(), loss
            if since >= self.patience:
                break
        return Mlp(net.sizes, best)

    def plan(self, query: Query, pool: SeatPool, state: Team, rng: Rng) -> Plan:
        """Only the team is asked."""
        team = pool.only([i for i, name in enumerate(pool.names) if name in state.members])
        return (yield from super().plan(query, team, state, rng))

    def combine(
        self, query: Query, candidates: Sequence[Completion], pool: SeatPool, state: Team, rng: Rng
    ) -> Verdict:
        outcomes = [outcome(c) for c in candidates]
        answers: list[list[str]] = [[] for _ in state.members]
        for c, o in zip(candidates, outcomes, strict=True):
            if o not in VOID:
                answers[state.members.index(c.member)].append(o)
        labels = self._labels(answers)
        x = _shares(answers, labels, state.slots)
        filled = np.flatnonzero(x.sum(axis=0) > 0)
        if not len(filled):
            place = next((i for i, o in enumerate(outcomes) if o not in VOID), 0)
            return Verdict(chosen=place, reason="no answer is in a slot, so the first whole one is taken")
        logits = np.full(state.slots, -np.inf)
        logits[filled] = state.network.outputs(x.reshape(1, -1))[0, filled]
        p = softmax(logits[None])[0]
        best = int(p.round(12).argmax())
        backing = [i for i, o in enumerate(outcomes) if o == labels[best]]
        who = ", ".join(sorted(dict.fromkeys(candidates[i].member for i in backing)))
        return Verdict(
            chosen=min(backing, key=lambda i: (candidates[i].member, candidates[i].sample)),
            posterior=_posterior(outcomes, labels, p),
            confidence=float(p[best]),
            reason=f"{labels[best]!r} has probability {p[best]:.2f} among {len(filled)}"
            f" answer{'s' if len(filled) > 1 else ''} of {sum(map(bool, answers))} members: {who}",
        )


def _shares(answers: Sequence[Sequence[str]], labels: Sequence[str], slots: int) -> Floats:
    """(m, slots) how often each member gave each label, as shares of its answers; what has no slot is nowhere."""
    found = np.zeros((len(answers), slots))
    for row, own in zip(found, answers, strict=True):
        for answer in own:
            if answer in labels:
                row[labels.index(answer)] += 1 / len(own)
    return found


def _posterior(outcomes: Sequence[str], labels: Sequence[str], p: Floats) -> Posterior:
    """Each distinct outcome with the probability of its slot; none where it has no slot."""
    names = tuple(dict.fromkeys(outcomes))
    share = np.array([p[labels.index(n)] if n in labels else 0.0 for n in names])
    return Posterior(classes=names, p=share / share.sum(), of=tuple(names.index(o) for o in outcomes))
