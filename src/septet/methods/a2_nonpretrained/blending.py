"""Blending: every turn is answered by a member drawn at random, who sees the whole mixed conversation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any
from zlib import crc32

import numpy as np

from septet.core.errors import BadParameter
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy, Utility
from septet.core.method import Card, Choice, Plan, Rng, SeatPool, method, param
from septet.core.types import Floats, Query
from septet.methods.a2_nonpretrained._family import NonPretrainedRouter
from septet.parts.learning.rows import Features
from septet.parts.routing.choose import mix

CARD = Card(
    paper="2401.02994",
    title="Blending Is All You Need: Cheaper, Better Alternative to Trillion-Parameters LLM",
    facets=Facets(
        family=Family.NONPRETRAINED,
        strategy=Strategy.SELECTION,
        granularity=Granularity.RESPONSE,
        goal=Goal.PERFORMANCE,
        supervised=False,
        utility=Utility.CONTINUOUS,
    ),
    permutes=False,
    labels="none",
    differs=(
        "weights other than equal ones are ours",
        "the draw is fixed by the seed and the conversation, so that the same request is answered alike; the"
        " paper draws anew each time",
        "a member that fails is replaced by another draw",
    ),
)


@method(CARD)
class Blending(NonPretrainedRouter):
    """A random mixture over turns (2401.02994, section 3).

    P(member n answers turn k) = w_n, 1/N by default; r_k ~ P(r | u_1…u_k, r_1…r_k−1; θ_n): the answer follows the
    whole conversation, whoever wrote its earlier turns. Over turns this is one sample of the mixture of members.
    Cost: nothing beside the answer; expected cost and quality are the weighted means of the members'.
    Fails to be better than the mean member on questions that stand alone: there it is the random baseline.

    >>> from septet.core.types import Completion
    >>> from septet.testing.scripted import drive, seat
    >>> blend, rng = Blending(), np.random.default_rng(0)
    >>> def script(ask):
    ...     if ask.do == "decide":
    ...         return blend.choose(**ask.args, state=None, rng=rng)
    ...     return [Completion(member=ask.to.name, text="4")]
    >>> pool = SeatPool((seat("ada"), seat("bob")))
    >>> drive(blend.plan(Query.of("2 + 2?"), pool, None, rng), script)[0].reason
    'drawn with probability: ada 0.5, bob 0.5; so ada was asked'
    """

    weights: Annotated[
        tuple[float, ...],
        param("How often each member is drawn, in the order of the members; none: equally.", min_length=0),
    ] = ()

    quality = "drawn with probability"

    def featurise(self, queries: Sequence[Query], pool: SeatPool, state: Any) -> Features:
        """(n, m): nothing about the questions, only how often each member is drawn."""
        given = np.asarray(self.weights or np.ones(len(pool.members)))
        if len(given) != len(pool.members):
            raise BadParameter(
                "weights", list(self.weights), f"must hold one number for each of {list(pool.names)}"
            )
        return mix(given, len(queries))

    def utility(self, x: Features, state: Any) -> Floats:
        """(n, m) the probabilities; a larger one is asked first where the drawn member fails."""
        return np.asarray(x, dtype=np.float64)

    def cost(self, x: Features, state: Any, pool: SeatPool) -> Floats:
        """(n, m) unknown: no outcomes were seen, and cost changes nothing."""
        return np.full((len(x), len(pool.members)), np.nan)

    def choose(self, q: Floats, c: Floats, prefer: Floats, state: Any, rng: Rng) -> Choice:
        """The probabilities themselves."""
        return Choice(q)

    def plan(self, query: Query, pool: SeatPool, state: Any, rng: Rng) -> Plan:
        """As every router, but what is drawn also depends on the conversation so far."""
        turns = [[m.role, m.content] for m in query.messages] or [["raw", query.text]]
        here = crc32(json.dumps(turns).encode())
        return (
            yield from super().plan(
                query, pool, state, np.random.default_rng([*rng.integers(2**32, size=2), here])
            )
        )
