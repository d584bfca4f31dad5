"""Smoothie: keep the answer that stands nearest to the centre of all answers, or trust the member that usually does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from septet.core.caps import Caps, PoolRule
from septet.core.errors import BadParameter, NoCandidate
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Asking, Card, Plan, Rng, Seat, SeatPool, method, param
from septet.core.money import Load
from septet.core.table import Table
from septet.core.types import Completion, Floats, Query, Verdict
from septet.methods.c1_noncascade._family import NonCascadeMethod
from septet.parts.answers.centroid import distances
from septet.parts.answers.vote import VOID, outcome, shares

CARD = Card(
    paper="2412.04692",
    title="Smoothie: Label Free Language Model Routing",
    facets=Facets(
        family=Family.NONCASCADE,
        strategy=Strategy.SELECTION,
        granularity=Granularity.RESPONSE,
        goal=Goal.PERFORMANCE,
        supervised=False,
    ),
    pool=PoolRule(at_least=2),
    trained=True,
    labels="none",
    differs=(
        "chosen by the least distance to the centroid, which is the released estimate by all triplets in closed form;"
        " the paper's weights d/(2δ) have no meaning where an estimate is negative",
        "scope query and neighbours count this question's own answers, as the paper's n₀ = 1 does",
        "two members stand equally near to their centre, so the first of them is taken; the triplets need three",
        "an answer that was cut off or is empty is never chosen where there is a whole one",
        "answers are embedded as they are; the paper keeps the first lines of short tasks",
        "confidence is the share of closeness 1 − r among the members, not a probability",
    ),
)

BATCH = 256
"""Texts per call of the embedder when fitting."""


@dataclass(frozen=True)
class Places:
    """What was learned: `r` (m,) mean squared distances to the centroid; for neighbours also `asked` (q, d) and
    `answers` (q, m, d), the embeddings of questions and answers (q = 0: none)."""

    r: Floats
    asked: Floats
    answers: Floats


@method(CARD)
class Smoothie(NonCascadeMethod):
    """Errors of embeddings without labels (2412.04692, section 4), as distance to the centroid.

    With answers z_i ∈ R^d of m members, r_i = mean over queries of ‖z_i − mean_j z_j‖²; the released estimate of
    E‖z_i − z*‖² is [m(m−1) r_i − Σ_j r_j] / [(m−1)(m−2)], so the least r is the least error. The queries are this one
    (`query`), it and its n₀ − 1 nearest (`neighbours`), or those of the fit (`dataset`); `train` asks only the member
    that was nearest in the fit. Cost: m answers and one call of the embedder; `train`: one answer.
    Fails where members err alike: then the centre is wrong. Needs the role `embedder`.

    >>> from septet.testing.scripted import drive, seat, texts
    >>> pool = SeatPool((seat("ada"), seat("bob"), seat("cyd")), {"embedder": (seat("box", embed=True),)})
    >>> z = np.array([[1., 0.], [0.8, 0.6], [0., 1.]])
    >>> said = texts({"ada": "north", "bob": "north-east", "cyd": "east"})
    >>> state = Smoothie().begin(pool.names)
    >>> plan = Smoothie().plan(Query.of("Where?"), pool, state, np.random.default_rng(0))
    >>> verdict, _ = drive(plan, lambda ask: z if ask.do == "embed" else said(ask))
    >>> verdict.chosen, verdict.reason
    (1, 'bob is nearest to the centre of 3 answers: squared distance 0.04')
    """

    scope: Annotated[
        Literal["query", "neighbours", "dataset", "train"],
        param(
            "Over which questions nearness is averaged; train: the nearest member of the fit answers alone."
        ),
    ] = "query"
    neighbours: Annotated[int, param("n₀: questions that count, this one among them.", ge=1, le=1000)] = 20

    state_type = Places

    def roles(self) -> Mapping[str, Caps]:
        return {"embedder": Caps(embed=True)}

    def begin(self, members: Sequence[str]) -> Places | None:
        """One question's answers need nothing that was learned."""
        return Places(np.zeros(0), np.zeros((0, 0)), np.zeros((0, 0, 0))) if self.scope == "query" else None

    def fit(self, table: Table, roles: Mapping[str, tuple[Seat, ...]], rng: Rng) -> Asking[Places]:
        """Embeds the recorded answers, whose scores are not read."""
        m = len(table.members)
        texts: dict[tuple[int, int], str] = {}
        for q, i, text in zip(table.query.tolist(), table.member.tolist(), table.text, strict=True):
            if text:
                texts.setdefault((q, i), str(text))
        whole = [q for q in range(len(table.queries)) if all((q, i) in texts for i in range(m))]
        if not whole:
            raise BadParameter(
                "table", len(table), "must hold questions that every member has answered in words"
            )
        embedder = roles["embedder"][0]
        z = yield from _embedded(embedder, [texts[q, i] for q in whole for i in range(m)])
        answers = z.reshape(len(whole), m, -1)
        asked = np.zeros((0, z.shape[1]))
        if self.scope == "neighbours":
            asked = yield from _embedded(embedder, [table.questions[q] for q in whole])
        return Places(distances(answers), asked, answers if self.scope == "neighbours" else answers[:0])

    def worst(self, query: Query, pool: SeatPool) -> dict[str, Load]:
        loads = super().worst(query, pool)
        if self.scope != "train":
            name = pool.role("embedder")[0].name
            loads[name] = loads.get(name, Load()) + Load(1, 1, 0)
        return loads

    def plan(self, query: Query, pool: SeatPool, state: Places, rng: Rng) -> Plan:
        if self.scope != "train":
            return (yield from super().plan(query, pool, state, rng))
        order = np.argsort(state.r, kind="stable").tolist()
        errors = []
        for place, i in enumerate(order):
            (reply,) = yield [pool.members[i].complete(query, final=True)]
            if reply.ok:
                said = "nearest" if place == 0 else f"number {place + 1} in nearness"
                return Verdict(chosen=0, reason=f"{pool.names[i]} was {said} to the centre in the fit")
            errors.append(str(reply.error))
        raise NoCandidate(f"every member failed: {'; '.join(errors)}")

    def combine(
        self, query: Query, candidates: Sequence[Completion], pool: SeatPool, state: Places, rng: Rng
    ) -> Asking[Verdict]:
        outcomes = [outcome(c) for c in candidates]
        able = [i for i, o in enumerate(outcomes) if o not in VOID] or list(range(len(candidates)))
        if len(able) == 1:
            return Verdict(chosen=able[0], confidence=None, reason="one answer is whole, so it is taken")
        r = yield from self._nearness(query, [candidates[i] for i in able], pool, state)
        best = int(np.argmin(r.round(12)))
        full = np.zeros(len(candidates))
        full[able] = np.maximum(1 - r, 0.0)
        posterior = shares([c.text for c in candidates], full)
        chosen = able[best]
        where = {
            "query": f"of {len(able)} answers",
            "neighbours": f"on {min(self.neighbours, len(state.asked) + 1)} questions",
            "dataset": "in the fit",
        }[self.scope]
        return Verdict(
            chosen=chosen,
            posterior=posterior,
            confidence=float(posterior.p[posterior.of[chosen]]),
            reason=f"{candidates[chosen].member} is nearest to the centre {where}: squared distance {r[best]:.2f}",
        )

    def _nearness(
        self, query: Query, able: Sequence[Completion], pool: SeatPool, state: Places
    ) -> Asking[Floats]:
        """(n,) r of the members that gave these answers."""
        members = [pool.names.index(c.member) for c in able]
        if self.scope == "dataset":
            return state.r[members]
        texts = [c.text for c in able] + ([query.text] if self.scope == "neighbours" else [])
        (reply,) = yield [pool.role("embedder")[0].embed(texts)]
        z = np.asarray(reply.value, dtype=np.float64)
        here = z[: len(able)][None]
        if self.scope == "query":
            return distances(here)
        near = np.argsort(-(state.asked @ z[-1]), kind="stable")[: self.neighbours - 1]
        return distances(np.concatenate([here, state.answers[near][:, members]]))


def _embedded(seat: Seat, texts: Sequence[str]) -> Asking[Floats]:
    """(n, d) in as many calls as it takes."""
    rows = []
    for start in range(0, len(texts), BATCH):
        (reply,) = yield [seat.embed(list(texts[start : start + BATCH]))]
        rows.append(np.asarray(reply.value, dtype=np.float64))
    return np.concatenate(rows)
