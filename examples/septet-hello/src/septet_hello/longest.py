"""Longest: every member answers, and the longest answer is taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Card, Rng, SeatPool, method
from septet.core.types import Completion, Query, Verdict
from septet.methods.c1_noncascade._family import NonCascadeMethod

CARD = Card(
    paper="septet-hello",
    title="The smallest method that can be installed",
    facets=Facets(
        family=Family.NONCASCADE,
        strategy=Strategy.SELECTION,
        granularity=Granularity.RESPONSE,
        goal=Goal.PERFORMANCE,
        supervised=False,
    ),
)


@method(CARD)
class Longest(NonCascadeMethod):
    """argmax_i of the number of characters, (n,) → one; ties go to the smaller text. Rewards talk, not truth.

    >>> from numpy.random import default_rng
    >>> from septet.testing import drive, seat
    >>> plan = Longest().plan(Query.of("Why?"), SeatPool((seat("ada"), seat("bob"))), None, default_rng(0))
    >>> drive(plan, {"ada": "Because.", "bob": "Nobody knows."})[0].reason
    'bob wrote 13 characters'
    """

    def combine(
        self, query: Query, candidates: Sequence[Completion], pool: SeatPool, state: Any, rng: Rng
    ) -> Verdict:
        longest = min(candidates, key=lambda c: (-len(c.text), c.text))
        reason = f"{longest.member} wrote {len(longest.text)} characters"
        return Verdict(chosen=candidates.index(longest), reason=reason)
