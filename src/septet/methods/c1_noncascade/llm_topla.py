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
from septet.core.types import Completion, Floats, Query, Verdict
from septet.methods.c1_noncascade._family import NonCascadeMethod
from septet.parts.answers.combiner import fit_combiner
from septet.parts.answers.diversity import best_team, focal
from septet.parts.answers.extract import canonical, final_answer
from septet.parts.answers.slots import LETTERS, posterior_of, ranked, shares_of
from septet.parts.answers.vote import VOID, outcome
from septet.parts.learning.adam import softmax
from septet.parts.learning.mlp import Mlp

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
        network = fit_combiner(
            x.reshape(len(x), -1),
            gold,
            self.slots,
            rng,
            hidden=self.hidden,
            epochs=self.epochs,
            patience=self.patience,
            rate=self.rate,
        )
        return Team(members, network, self.slots)

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
                rows.append(shares_of(answers, labels, self.slots))
                gold.append(labels.index(best))
        return np.array(rows).reshape(-1, len(names), self.slots), np.array(gold, dtype=np.int64)

    def _labels(self, answers: Sequence[Sequence[str]]) -> list[str]:
        """The answers of the slots, in order; of equally frequent ones the first by the members' names."""
        return list(LETTERS[: self.slots]) if self.answers == "options" else ranked(answers, self.slots)

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
        x = shares_of(answers, labels, state.slots)
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
            posterior=posterior_of(outcomes, labels, p),
            confidence=float(p[best]),
            reason=f"{labels[best]!r} has probability {p[best]:.2f} among {len(filled)}"
            f" answer{'s' if len(filled) > 1 else ''} of {sum(map(bool, answers))} members: {who}",
        )
