"""A member asked on its own, through the same engine as an ensemble: one final ask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from septet.core.caps import Caps
from septet.core.method import Method, Plan, Rng, SeatPool
from septet.core.money import Load
from septet.core.types import Query, Verdict


class Direct(Method):
    """Not a method of the survey and not in the catalogue: what `septet ask -e MEMBER` runs."""

    name = "member"

    def offers(self, members: Sequence[Caps]) -> Caps:
        return members[0]

    def worst(self, query: Query, pool: SeatPool) -> dict[str, Load]:
        return {pool.members[0].name: Load(1, 1, query.max_tokens or 0)}

    def plan(self, query: Query, pool: SeatPool, state: Any, rng: Rng) -> Plan:
        (reply,) = yield [pool.members[0].complete(query, final=True)]
        return Verdict(chosen=0) if reply.value is not None else Verdict(abstained=True)
