"""Cascades of two members: the first answers, and the second is asked where a rule says so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from septet.core.errors import NoCandidate
from septet.core.method import Asking, Reply, Rng, SeatPool
from septet.core.types import Query
from septet.methods.c2_cascade._family import Cascade, Run, Stop, Tried


class PairCascade(Cascade):
    """Gives `asks_on`, and `confidence` as every cascade."""

    def asks_on(self, query: Query, first: Tried, pool: SeatPool, state: Any) -> tuple[bool, str]:
        """Whether the second member is asked after this answer, and why, as the beginning of a sentence."""
        raise NotImplementedError

    def next_step(
        self, query: Query, so_far: Sequence[Tried], pool: SeatPool, state: Any, rng: Rng
    ) -> Stop | Run | Asking[Stop | Run]:
        """The first member, then the second if the rule or a failure says so; an answer that there is stands."""
        if not so_far:
            return Run(0)
        names = pool.names
        first, second = so_far[0], so_far[1] if len(so_far) > 1 else None
        if first.completion is None:
            if second is None:
                return Run(1)
            if second.completion is None:
                raise NoCandidate(
                    f"every member failed: {names[0]}: {first.error}; {names[1]}: {second.error}"
                )
            return Stop(1, f"{names[0]} failed, so {names[1]} was asked")
        wanted, why = self.asks_on(query, first, pool, state)
        if not wanted:
            return Stop(0, why)
        if second is None:
            return Run(1)
        if second.completion is None:
            return Stop(0, f"{why}, so {names[1]} was asked, which failed; the answer of {names[0]} stands")
        return Stop(1, f"{why}, so {names[1]} was asked")


def above(score: float, threshold: float) -> str:
    """Both numbers and whether the first is the larger, with as many digits as show it, two at least.

    >>> above(0.4, 0.3), above(0.3, 0.3)
    ('0.40 > 0.30', '0.30 ≤ 0.30')
    """
    digits = next((d for d in range(2, 9) if f"{score:.{d}f}" != f"{threshold:.{d}f}"), 2)
    return f"{score:.{digits}f} {'>' if score > threshold else '≤'} {threshold:.{digits}f}"


def raise_if_all_failed(replies: Sequence[Reply]) -> None:
    """A fit that got no answer at all ends in the first error, which names who failed."""
    if replies and not any(reply.ok for reply in replies):
        replies[0].value  # noqa: B018  reading the value of a failed reply raises its error
