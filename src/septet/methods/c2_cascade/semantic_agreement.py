"""Semantic agreement: small members answer together, and the most central answer stands if they mean the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np

from septet.core.caps import Caps, PoolRule
from septet.core.errors import BadParameter, NoCandidate
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Asking, Card, Plan, Rng, SeatPool, method, param
from septet.core.money import Load
from septet.core.types import Completion, Query, Verdict
from septet.methods.c2_cascade._family import Cascade, comparison
from septet.parts.answers.relations import related
from septet.parts.answers.vote import VOID, outcome
from septet.parts.deferral.confidence import mean_similarity

CARD = Card(
    paper="2509.21837",
    title="Semantic Agreement Enables Efficient Open-Ended LLM Cascades",
    facets=Facets(
        family=Family.CASCADE,
        strategy=Strategy.SELECTION,
        granularity=Granularity.RESPONSE,
        goal=Goal.COST,
        supervised=False,
        efficiency_aware=True,
    ),
    pool=PoolRule(at_least=2, order="cost"),
    permutes=False,
    differs=(
        "which similarities the paper compares and which thresholds it takes could not be verified; token F1 is the"
        " default since it needs nothing else, and the threshold fits it and no other",
        "a tier may also be repeated samples of its members",
        "an answer that was cut off or is empty lowers the agreement of the others, and is never returned where the"
        " tier has a whole one",
        "a tier of which one answer is left says nothing about agreement, so the next tier is asked",
        "in the last tier, if it has several members, the most central answer is returned whatever the agreement",
    ),
)


@method(CARD)
class SemanticAgreement(Cascade):
    """Agreement of meaning as confidence (2509.21837).

    The members of a tier answer at once; s_i = mean_{j≠i} S[i, j] over their n answers, S (n, n) the similarity of
    answer i to answer j. If max_i s_i ≥ threshold, answer argmax_i s_i stands, else the next tier is asked; the
    last tier's stands always. With unit embeddings z of mean c, s_i = (n⟨z_i, c⟩ − 1)/(n − 1).
    Cost: one call per member of each tier that is asked; per tier one call of the embedder (cosine), or one of the
    classifier per answer (nli). Fails on answers of a few words, and where members share a mistake.

    >>> from septet.testing.scripted import drive, seat
    >>> pool = SeatPool((seat("ada"), seat("bob"), seat("big")))
    >>> said = {"ada": "The sky is blue today.", "bob": "The sky is blue.", "big": "Blue."}
    >>> verdict, asks = drive(SemanticAgreement().plan(Query.of("?"), pool, None, np.random.default_rng(0)), said)
    >>> verdict.chosen, len(asks), verdict.reason
    (0, 1, 'agreement 0.86 ≥ 0.60 among ada, bob; the answer of ada is the most central')
    """

    tiers: Annotated[
        tuple[int, ...],
        param(
            "How many members each tier has, in the pool's order; none: all but the last, then it.",
            min_length=0,
        ),
    ] = ()
    similarity: Annotated[
        Literal["token-f1", "bleu", "chrf", "rouge-l", "cosine", "nli"],
        param("How alike two answers are; cosine needs the role `embedder`, nli the role `nli`."),
    ] = "token-f1"
    threshold: Annotated[float, param("Agreement from which a tier's answer stands.", ge=-1, le=1)] = 0.6
    samples: Annotated[int, param("Answers of each member of a tier.", ge=1, le=100)] = 1
    temperature: Annotated[float, param("Temperature, where there are several samples.", ge=0, le=2)] = 0.7

    def needs(self) -> Caps:
        return Caps(text=True, samples=self.samples > 1)

    def roles(self) -> Mapping[str, Caps]:
        if self.similarity == "cosine":
            return {"embedder": Caps(embed=True)}
        return {"nli": Caps(rate=True)} if self.similarity == "nli" else {}

    def prepare(self, pool: Any) -> None:
        self._tiers(len(pool.members))

    def _tiers(self, n_members: int) -> list[tuple[int, ...]]:
        """The members of each tier."""
        sizes = self.tiers or (n_members - 1, 1)
        name = f"{self.name}.tiers"
        if any(size < 1 for size in sizes) or sum(sizes) != n_members:
            raise BadParameter(name, sizes, f"must be sizes of at least 1 that add up to {n_members} members")
        if any(size * self.samples < 2 for size in sizes[:-1]):
            raise BadParameter(
                name, sizes, "must hold two answers in every tier but the last: more members, or samples = 2"
            )
        starts = np.cumsum([0, *sizes])
        return [tuple(range(a, b)) for a, b in zip(starts.tolist(), starts[1:].tolist(), strict=False)]

    def worst(self, query: Query, pool: SeatPool) -> dict[str, Load]:
        """All samples of all members, and what compares them, once per tier."""
        n = self.samples
        loads = {m.name: Load(n, n, n * (query.max_tokens or 0)) for m in pool.members}
        for role in self.roles():
            for seat in pool.role(role):
                calls = sum(
                    1 if role == "embedder" else len(tier) * n for tier in self._tiers(len(pool.members))
                )
                loads[seat.name] = loads.get(seat.name, Load()) + Load(calls, calls, 0)
        return loads

    def plan(self, query: Query, pool: SeatPool, state: Any, rng: Rng) -> Plan:
        """Tier by tier, until one agrees."""
        put = query
        if query.temperature is None and self.samples > 1:
            put = query.but(temperature=self.temperature)
        candidates: list[Completion] = []
        failed: list[str] = []
        story: list[str] = []
        kept: Central | None = None
        tiers = self._tiers(len(pool.members))
        for place, tier in enumerate(tiers):
            last = place == len(tiers) - 1
            seats = [pool.members[i] for i in tier]
            replies = yield [seat.complete(put, n=self.samples) for seat in seats]
            failed += [
                f"{s.name}: {reply.error}" for s, reply in zip(seats, replies, strict=True) if not reply.ok
            ]
            found = [
                replace(c, member=seat.name, weight=seat.weight)
                for seat, reply in zip(seats, replies, strict=True)
                if reply.ok
                for c in reply.value
            ]
            central = yield from self._central(query, found, len(candidates), pool)
            candidates += found
            kept = _better(kept, central)
            names = ", ".join(seat.name for seat in seats)
            story.append(self._said(central, names, last))
            if central is not None and (last or central.agreement >= self.threshold):
                break
        if kept is None:
            raise NoCandidate("every member failed: " + "; ".join(failed))
        chosen = candidates[kept.index]
        story.append(f"the answer of {chosen.member} is the most central")
        if failed:
            story.append("failed: " + "; ".join(failed))
        known = None if np.isnan(kept.agreement) else kept.agreement
        return Verdict(chosen=kept.index, confidence=known, reason="; ".join(story))

    def _central(
        self, query: Query, found: Sequence[Completion], before: int, pool: SeatPool
    ) -> Asking[Central | None]:
        """The most central of a tier's answers; `before`: how many candidates there are already."""
        if not found:
            return None
        whole = np.array([outcome(c) not in VOID for c in found])
        if len(found) == 1:
            return Central(before, float("nan"), bool(whole[0]))
        s = yield from related(self.similarity, query, [c.text for c in found], pool)
        means = mean_similarity(np.asarray(s, dtype=np.float64))  # (n,)
        best = int(np.where(whole, means, -np.inf).argmax()) if whole.any() else int(means.argmax())
        return Central(before + best, float(means[best]) if whole.any() else float("nan"), bool(whole.any()))

    def _said(self, central: Central | None, names: str, last: bool) -> str:
        """What came of a tier, as a part of a sentence."""
        if central is None:
            return f"nobody of {names} answered"
        if np.isnan(central.agreement):
            return f"{names} {'is last and always accepted' if last else 'cannot be compared'}"
        if last:
            return f"agreement {central.agreement:.2f} among {names}, who are last and always accepted"
        return f"agreement {comparison(central.agreement, self.threshold)} among {names}"


@dataclass(frozen=True)
class Central:
    """The candidate that is most like the others of its tier, how like (NaN: nothing to compare), and whether it is
    whole."""

    index: int
    agreement: float
    whole: bool


def _better(kept: Central | None, new: Central | None) -> Central | None:
    """What is returned if nobody else answers: a whole answer before a broken one, then that of the later tier."""
    if kept is None or new is None:
        return new if kept is None else kept
    return kept if kept.whole and not new.whole else new
