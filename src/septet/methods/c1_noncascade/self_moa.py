"""Self-MoA: several samples of the best member alone, from which the fuser writes one answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from septet.core.caps import Caps
from septet.core.errors import BadParameter, NoCandidate
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Card, Plan, Rng, Seat, SeatPool, method, param
from septet.core.money import Load
from septet.core.table import Table
from septet.core.types import Floats, Query
from septet.methods.c1_noncascade._family import NonCascadeMethod
from septet.methods.c1_noncascade._regeneration import FUSER, last_word, with_fuser
from septet.parts.answers.regenerate import fusion

CARD = Card(
    paper="2502.00674",
    title="Rethinking Mixture-of-Agents: Is Mixing Different Large Language Models Beneficial?",
    facets=Facets(
        family=Family.NONCASCADE,
        strategy=Strategy.REGENERATION,
        granularity=Granularity.RESPONSE,
        goal=Goal.PERFORMANCE,
        supervised=True,
    ),
    trained=True,
    differs=(
        "the best member is the one with the greatest mean score in the fit, or the one at the place `member`",
        "a best member that fails, or says nothing, is followed by the next best; the paper has one model",
        "the sequential variant shows the text so far `reserved` times in each later window; that it stands more than"
        " once, and how often, is known to us from a re-implementation only",
        "each answer stands in a block that is closed by a nonce; the prompt is ours and that of mixture-of-agents",
    ),
)


@dataclass(frozen=True)
class Means:
    """What was learned: each member's mean score (m,); NaN where it has none."""

    score: Floats


@method(CARD)
class SelfMoa(NonCascadeMethod):
    """Samples of one model, aggregated (2502.00674, section 3, and Self-MoA-Seq).

    y_1..y_n ~ LLM_best(q); `at-once`: fuser(q ⊕ {y_1..y_n}). `sequential`: f_1 = fuser(q ⊕ {y_1..y_w}), then f_t =
    fuser(q ⊕ {f_{t−1} × r, the next w − r samples}) until none is left, so no prompt holds more than w answers.
    Cost: n samples of one member and 1 call of the fuser, or 1 + ⌈(n − w) / (w − r)⌉. Fails where no member is clearly
    best, where samples of one are alike, and where the fuser is too weak to judge.

    >>> from septet.testing.scripted import drive, seat
    >>> pool = SeatPool((seat("ada"), seat("bob")), {"fuser": (seat("eve"),)})
    >>> plan = SelfMoa(samples=3).plan(Query.of("2+3?"), pool, Means(np.array([.4, .7])), np.random.default_rng(0))
    >>> verdict, asks = drive(plan, {"bob": ["5", "6", "5"], "eve": "It is 5."})
    >>> [len(items) for items in asks], verdict.reason
    ([1, 1], 'eve wrote from 3 answers of bob')
    """

    samples: Annotated[int, param("n: answers of the best member.", ge=2, le=100)] = 6
    temperature: Annotated[float, param("Temperature of the samples.", ge=0, le=2)] = 0.7
    member: Annotated[
        int, param("Place of the member that is sampled, from 1; 0: the best of the fit.", ge=0, le=1000)
    ] = 0
    order: Annotated[
        Literal["at-once", "sequential"],
        param("Whether the fuser reads all samples in one prompt, or window by window."),
    ] = "at-once"
    window: Annotated[int, param("w: answers in one prompt of the sequential variant.", ge=2, le=100)] = 6
    reserved: Annotated[int, param("r: how often the text so far stands in a later window.", ge=1, le=99)] = 3

    state_type = Means

    def __post_init__(self) -> None:
        if self.reserved >= self.window:
            raise BadParameter("reserved", self.reserved, f"must be less than the window, {self.window}")

    def needs(self) -> Caps:
        return Caps(text=True, samples=True)

    def roles(self) -> Mapping[str, Caps]:
        return FUSER

    def begin(self, members: Sequence[str]) -> Means | None:
        """A member that is named needs no fit."""
        if self.member > len(members):
            raise BadParameter(
                "member", self.member, f"must be a place among the {len(members)} members, or 0"
            )
        if not self.member:
            return None
        return Means(np.where(np.arange(len(members)) == self.member - 1, 1.0, 0.0))

    def fit(self, table: Table, roles: Mapping[str, tuple[Seat, ...]], rng: Rng) -> Means:
        found = np.full(len(table.members), np.nan)
        for i in range(len(found)):
            scores = table.score[(table.member == i) & ~np.isnan(table.score)]
            if len(scores):
                found[i] = scores.mean()
        if np.isnan(found).all():
            raise BadParameter("table", len(table), "must hold scores: the best member is learned from them")
        return Means(found)

    def windows(self, n: int) -> int:
        """How many prompts the fuser reads for n samples."""
        if self.order == "at-once" or n <= self.window:
            return 1
        return 1 - (self.window - n) // (self.window - self.reserved)

    def worst(self, query: Query, pool: SeatPool) -> dict[str, Load]:
        """Every member might fail but the last, each after all its samples were asked for."""
        return with_fuser(
            super().worst(query, pool), pool.role("fuser")[0], query, self.windows(self.samples)
        )

    def plan(self, query: Query, pool: SeatPool, state: Means, rng: Rng) -> Plan:
        asked = query if query.temperature is not None else query.but(temperature=self.temperature)
        rank = np.argsort(-np.nan_to_num(state.score, nan=-np.inf), kind="stable")
        errors, texts, name = [], [], ""
        for i in (
            [self.member - 1, *(i for i in rank.tolist() if i != self.member - 1)] if self.member else rank
        ):
            name = pool.names[i]
            (reply,) = yield [pool.members[i].complete(asked, n=self.samples, purpose="proposal")]
            texts = [c.text for c in reply.value if c.text.strip()] if reply.ok else []
            if texts:
                break
            errors.append(f"{name} says nothing" if reply.ok else str(reply.error))
        if not texts:
            raise NoCandidate(f"no member has answered: {'; '.join(errors)}")
        fuser = pool.role("fuser")[0]
        what = f"{len(texts)} answer{'s' if len(texts) > 1 else ''} of {name}"
        n_windows = self.windows(len(texts))
        if n_windows > 1:
            what += f" in {n_windows} windows"
        shown, rest = (texts, []) if n_windows == 1 else (texts[: self.window], texts[self.window :])
        while rest:
            (reply,) = yield [fuser.complete(fusion(query, shown, "mixture", rng), purpose="proposal")]
            if not reply.ok:
                said = "; ".join([str(reply.error), *errors])
                raise NoCandidate(f"the fuser {fuser.name} failed before its last window: {said}")
            so_far = reply.value[0].text
            n_new = self.window - self.reserved
            # an empty text says nothing, so it takes no place
            shown = [so_far] * self.reserved * bool(so_far.strip()) + rest[:n_new]
            rest = rest[n_new:]
        return (yield from last_word(fuser, query, shown, what, "; ".join(errors), rng))
