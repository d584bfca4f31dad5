"""Non-cascade: every member answers in full, all at once; a method then combines the candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from septet.core.caps import Caps
from septet.core.errors import NoCandidate
from septet.core.method import Asking, Method, Plan, Rng, SeatPool, asking
from septet.core.money import Load
from septet.core.types import Completion, Query, Verdict


class NonCascadeMethod(Method):
    """Gives `combine`. A method that samples has the hyper-parameters `samples` (per member) and
    `temperature`; without them each member answers once, as it is used to. One that reads the tokens of the
    answers says with `logprobs` how many alternatives per token it wants; 0: no log-probabilities."""

    samples: int = 1
    temperature: float | None = None
    logprobs: int = 0

    def combine(
        self, query: Query, candidates: Sequence[Completion], pool: SeatPool, state: Any, rng: Rng
    ) -> Verdict | Asking[Verdict]:
        """The verdict over the candidates, or a generator of asks that comes to one.

        Candidates are in the order of members, then samples; those of failed members are left out. Each
        carries its member and its seat's weight. `Verdict.chosen` indexes them.
        """
        raise NotImplementedError

    def needs(self) -> Caps:
        return Caps(text=True, samples=self.samples > 1, logprobs=self.logprobs > 0, topk=self.logprobs)

    def worst(self, query: Query, pool: SeatPool) -> dict[str, Load]:
        """Each member is asked once for all samples; one that is an ensemble answers them one by one."""
        n = self.samples
        return {m.name: Load(n, n, n * (query.max_tokens or 0)) for m in pool.members}

    def plan(self, query: Query, pool: SeatPool, state: Any, rng: Rng) -> Plan:
        asked = query
        if query.temperature is None and self.temperature is not None:
            asked = query.but(temperature=self.temperature)
        replies = yield [m.complete(asked, n=self.samples, logprobs=self.logprobs) for m in pool.members]
        candidates = [
            replace(c, member=m.name, weight=m.weight)
            for m, reply in zip(pool.members, replies, strict=True)
            if reply.ok
            for c in reply.value
        ]
        errors = "; ".join(str(reply.error) for reply in replies if not reply.ok)
        if not candidates:
            raise NoCandidate(f"every member failed: {errors}")
        verdict = yield from asking(self.combine(query, candidates, pool, state, rng))
        return replace(verdict, reason=f"{verdict.reason}; failed: {errors}") if errors else verdict
