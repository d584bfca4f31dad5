"""Routers on recorded outcomes: what they would have chosen, and what that was worth. Nothing is called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from septet.core.caps import Caps
from septet.core.errors import BadParameter
from septet.core.method import Rng, Seat, SeatPool
from septet.core.money import Price
from septet.core.types import Floats
from septet.parts.learning.rows import Features
from septet.parts.routing.plan import Router

_CELLS = 2_000_000
"""Cells (queries × members × prices of cost) that are decided at once."""


@dataclass(frozen=True)
class Predicted:
    """What a router thinks of n queries: quality `q` (n, m) and cost `c` (n, m) in USD; NaN unknown."""

    q: Floats
    c: Floats

    def of(self, i: int) -> Predicted:
        """Of one query."""
        return Predicted(self.q[i : i + 1], self.c[i : i + 1])


def predicted(
    router: Router, state: Any, x: Features, members: Sequence[str], prices: Sequence[Price | None] = ()
) -> Predicted:
    """The router's view of queries with features x (n, d); its utility and cost may not ask anybody."""
    stated = prices or [None] * len(members)
    seats = [Seat(n, Caps(text=True), price=p) for n, p in zip(members, stated, strict=True)]
    q, c = router.utility(x, state), router.cost(x, state, SeatPool(tuple(seats)))
    if not isinstance(q, np.ndarray) or not isinstance(c, np.ndarray):
        raise BadParameter("method", router.name, "must predict without asking a role to be replayed")
    return Predicted(q, c)


def decided(
    router: Router, state: Any, view: Predicted, prefer: Sequence[float] | Floats, rng: Rng
) -> Floats:
    """(l, n, m) weights over members for each of l prices of cost; the state is not changed."""
    n, m = view.q.shape
    at_once = max(1, _CELLS // max(n * m, 1))
    found = []
    for first in range(0, len(prefer), at_once):
        part = np.asarray(prefer[first : first + at_once], dtype=np.float64)
        choice = router.choose(
            np.tile(view.q, (len(part), 1)),
            np.tile(view.c, (len(part), 1)),
            np.repeat(part, n),
            state,
            rng,
        )
        found.append(choice.weights.reshape(len(part), n, m))
    return np.concatenate(found) if found else np.empty((0, n, m))


def realised(weights: Floats, outcome: Floats) -> Floats:
    """(…, n) expected outcome of weights (…, n, m) that add up to one, given recorded outcomes (n, m).

    NaN where a member with weight has no outcome.

    >>> realised(np.array([[0., 1.], [.5, .5]]), np.array([[np.nan, 1.], [0., 1.]])).tolist()
    [1.0, 0.5]
    """
    used = weights > 0
    value: Floats = np.where(used, weights * outcome, 0.0).sum(axis=-1)
    return value
