"""The plan of every router: featurise, predict quality and cost, decide, and let one member answer.

Both families of routers (a1 and a2) are this skeleton; families do not import each other, so it stands here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import numpy as np

from septet.core.caps import Caps
from septet.core.errors import NoCandidate
from septet.core.method import Asking, Choice, Method, Plan, Rng, Seat, SeatPool, asking
from septet.core.money import Load
from septet.core.table import Table
from septet.core.types import Floats, Query, Verdict
from septet.parts.learning.features import Featurizer, Kind
from septet.parts.learning.rows import Features
from septet.parts.routing.choose import best, net_utility
from septet.parts.routing.records import Known


class Router(Method):
    """Gives `utility`; the rest has a default.

    Short form, for n queries and m members, always in the pool's order: `featurise(queries, pool, state)` ->
    X (n, d) · `utility(X, state)` -> q (n, m) · `cost(X, state, pool)` -> c (n, m) in USD · `choose(q, c,
    prefer, state, rng)` -> Choice. The first three may be generators of asks. NaN is unknown.
    A router that is fitted on questions gives `learn(known, featurizer, X, rng)` -> state, a `Fitted`.
    `features` = "embedder" asks the role of that name, which is there only then. `steady`: what it learns or
    spends while it serves changes its choices, but not its predictions.
    """

    features: Kind = "tf-idf"
    quality: ClassVar[str] = "expected quality"
    steady: ClassVar[bool] = False

    # --- the fit ----------------------------------------------------------------------------------

    def fit(self, table: Table, roles: Mapping[str, tuple[Seat, ...]], rng: Rng) -> Any:
        """The state learned from outcomes: featurises the known questions once and calls `learn`."""
        known = Known.of(table)
        if self.features == "embedder":
            return self._fit_embedded(known, roles["embedder"], rng)
        featurizer = Featurizer.of(self.features, known.questions, known.tasks)
        return self.learn(known, featurizer, featurizer.rows(known.questions, known.tasks), rng)

    def _fit_embedded(self, known: Known, seats: Sequence[Seat], rng: Rng) -> Asking[Any]:
        x = yield from embedded(known.questions, seats)
        return self.learn(known, Featurizer.unused(), x, rng)

    def learn(self, known: Known, featurizer: Featurizer, x: Features, rng: Rng) -> Any:
        """The state, from what is known and the features x (r, d) of its questions."""
        raise NotImplementedError

    # --- the short form ---------------------------------------------------------------------------

    def featurise(self, queries: Sequence[Query], pool: SeatPool, state: Any) -> Features | Asking[Features]:
        """(n, d) rows of length one, by the state's featurizer or from the role `embedder`."""
        texts = [q.text for q in queries]
        if self.features == "embedder":
            return embedded(texts, pool.role("embedder"))
        rows: Features = state.featurizer.rows(texts, [q.task for q in queries])
        return rows

    def utility(self, x: Features, state: Any) -> Floats | Asking[Floats]:
        """(n, m) predicted quality, x being (n, d)."""
        raise NotImplementedError

    def cost(self, x: Features, state: Any, pool: SeatPool) -> Floats | Asking[Floats]:
        """(n, m) predicted USD: the member's mean in the outcomes, else its price × its mean tokens."""
        usd: Floats = state.spending.expected_usd([m.price for m in pool.members])
        return usd[None].repeat(len(x), axis=0)

    def choose(self, q: Floats, c: Floats, prefer: Floats, state: Any, rng: Rng) -> Choice:
        """The member with the largest q − prefer·c; ties go to the first."""
        return Choice(best(net_utility(q, c, prefer)))

    # --- the plan ---------------------------------------------------------------------------------

    def roles(self) -> dict[str, Caps]:
        """An embedder, if the features come from one."""
        return {"embedder": Caps(embed=True)} if self.features == "embedder" else {}

    def offers(self, members: Sequence[Caps]) -> Caps:
        """What all members offer: whoever is chosen answers as itself."""
        both = members[0]
        for caps in members[1:]:
            both &= caps
        return both

    def worst(self, query: Query, pool: SeatPool) -> dict[str, Load]:
        """Every member once, if all but the last fail, and one call of each actor of a role."""
        loads = {m.name: Load(1, 1, query.max_tokens or 0) for m in pool.members}
        for seats in pool.roles.values():
            for seat in seats:
                loads[seat.name] = loads.get(seat.name, Load()) + Load(1, 1, 0)
        return loads

    def plan(self, query: Query, pool: SeatPool, state: Any, rng: Rng) -> Plan:
        """Decides for one query."""
        (only,) = yield from self.plan_many([query], pool, state, rng)
        return (yield from only)

    def plan_many(self, queries: Sequence[Query], pool: SeatPool, state: Any, rng: Rng) -> Asking[list[Plan]]:
        """Decides for all queries in one step; a plan per query carries its decision out."""
        x = cast("Features", (yield from asking(self.featurise(queries, pool, state))))
        q = yield from asking(self.utility(x, state))
        c = yield from asking(self.cost(x, state, pool))
        standing = getattr(state, "prefer", 0.0)  # calibrated to a budget by the fit
        prefer = np.array([standing if q.prefer is None else q.prefer for q in queries])
        (decided,) = yield [pool.decide(q, c, prefer)]
        choice: Choice = decided.value
        net = net_utility(q, c, prefer)
        reasons = choice.reasons or self.reasons(x, state, q, c, prefer, pool.names)
        draws = rng.spawn(len(queries))
        return [
            carry_out(query, pool, Decided(choice.weights[i], net[i], reasons[i], choice.draw), draws[i])
            for i, query in enumerate(queries)
        ]

    def reasons(
        self, x: Features, state: Any, q: Floats, c: Floats, prefer: Floats, names: Sequence[str]
    ) -> tuple[str, ...]:
        """Why, for each of n queries with features x (n, d): by default what was predicted."""
        return tuple(self.reason(*row, names) for row in zip(q, c, prefer, strict=True))

    def reason(self, q: Floats, c: Floats, prefer: float, names: Sequence[str]) -> str:
        """What was predicted for one query, as the start of a sentence; q (m,), c (m,)."""
        said = ", ".join(f"{name} {value:.3g}" for name, value in zip(names, q, strict=True))
        if prefer <= 0:
            return f"{self.quality}: {said}"
        costs = ", ".join(f"{name} ${value:.3g}" for name, value in zip(names, c, strict=True))
        return f"{self.quality}: {said}; less {prefer:g} per USD of expected cost: {costs}"


@dataclass(frozen=True)
class Decided:
    """A decision for one query: weights (m,), net utility (m,), why, and whether one or all are drawn."""

    weights: Floats
    net: Floats
    reason: str
    draw: Literal["one", "all"] = "one"


def carry_out(query: Query, pool: SeatPool, decided: Decided, rng: Rng) -> Plan:
    """Lets a drawn member answer; one that fails before its first piece is replaced, until none is left.

    A decision without any weight is a decision for nobody: the plan abstains, and nothing is asked.
    """
    if not decided.weights.any():
        return Verdict(
            abstained=True, weights=decided.weights, reason=f"{decided.reason}; so nobody was asked"
        )
    if decided.draw == "all":
        index = np.flatnonzero(decided.weights > 0).tolist()
        return (yield from pool.then(query, pool.only(index, decided.weights), rng))
    failed: dict[int, str] = {}
    while len(failed) < len(pool.members):
        i = draw(decided, list(failed), rng)
        (reply,) = yield [pool.members[i].complete(query, final=True)]
        if reply.ok:
            reason = "; ".join([decided.reason, *failed.values(), f"so {pool.members[i].name} was asked"])
            return Verdict(chosen=0, weights=decided.weights, reason=reason)
        failed[i] = f"{pool.members[i].name} failed ({reply.error})"
    raise NoCandidate("every member failed: " + "; ".join(failed.values()))


def draw(decided: Decided, failed: Sequence[int], rng: Rng) -> int:
    """A member by weight among those that have not failed; where no weight is left, the best of the rest."""
    weights = decided.weights.copy()
    weights[list(failed)] = 0.0
    if weights.sum() > 0:
        return int(rng.choice(len(weights), p=weights / weights.sum()))
    rest = [i for i in range(len(weights)) if i not in failed]
    return rest[int(best(decided.net[None, rest])[0].argmax())]


def embedded(texts: Sequence[str], seats: Sequence[Seat]) -> Asking[Features]:
    """(n, d) embeddings by the actors of a role, side by side, of length one."""
    replies = yield [seat.embed(texts) for seat in seats]
    rows: Floats = np.hstack([np.asarray(r.value, dtype=np.float64) for r in replies])
    rows = rows / np.sqrt(len(seats))
    return rows
