"""The worst case of one request, before the first call: depth, fan-out, calls, tokens, USD."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from septet.core.errors import BadParameter, LimitReached
from septet.core.method import SeatPool
from septet.core.money import Load, Usage, dollars
from septet.core.types import Query
from septet.engine.config import Limits
from septet.engine.ensemble import Ensemble, seat_of
from septet.engine.gate import BYTES_PER_TOKEN
from septet.engine.members import Member


@dataclass(frozen=True)
class Worst:
    """The most that one request asks of each leaf member. `usd` leaves out members priced by the second,
    which `timed` names: how long they take is not known beforehand."""

    loads: Mapping[str, Load] = field(default_factory=dict)
    usd: float = 0.0
    timed: tuple[str, ...] = ()

    @property
    def calls(self) -> int:
        return sum(load.calls for load in self.loads.values())

    @property
    def tokens(self) -> int:
        return sum(load.tokens for load in self.loads.values())


def worst_case(ensemble: Ensemble, query: Query) -> Worst:
    """The worst case of one request of an ensemble, through every ensemble inside it."""
    loads: dict[str, Load] = {}
    leaves: dict[str, Member] = {}
    _add(ensemble, query, 1, loads, leaves)
    prompt = sum(len(m.content.encode("utf-8", "replace")) for m in query.messages) or len(query.text)
    usd, timed = 0.0, []
    for name, load in loads.items():
        price = leaves[name].price
        if price is not None:
            usd += price.of(Usage(load.prompts * (prompt // BYTES_PER_TOKEN + 1), load.tokens), 0.0)
            if price.usd_per_second:
                timed.append(name)
    return Worst(loads, usd, tuple(timed))


def _add(
    ensemble: Ensemble, query: Query, times: int, loads: dict[str, Load], leaves: dict[str, Member]
) -> None:
    query = query if query.max_tokens else query.but(max_tokens=ensemble.max_tokens)
    pool = SeatPool(
        tuple(seat_of(m) for m in ensemble.members),
        {role: tuple(seat_of(a) for a in actors) for role, actors in ensemble.roles.items()},
    )
    asked = dict(ensemble.method.worst(query, pool))
    if ensemble.then is not None:
        for name, load in ensemble.then.worst(query, pool).items():
            asked[name] = asked.get(name, Load()) + load
    for actor in ensemble.actors():
        load = asked.get(actor.name, Load())
        if isinstance(actor, Member):
            leaves[actor.name] = actor
            load = Load(load.calls * times, load.prompts * times, load.tokens * times)
            loads[actor.name] = loads.get(actor.name, Load()) + load
        elif load.calls:
            _add(actor, query, times * load.calls, loads, leaves)


def out_of_order(ensemble: Ensemble, query: Query) -> list[str]:
    """What the prices say against the order in which the members stand, which is kept: one sentence for every
    neighbours. A dearer member is taken for a stronger one. Members priced by the second are not compared."""
    rule = ensemble.method.card.pool.order
    if rule in ("none", "primary-first"):
        return []
    usd = [_most_usd(member, query) for member in ensemble.members]
    named = [(m.name, cost) for m, cost in zip(ensemble.members, usd, strict=True)]
    said = []
    falling = rule == "strong-weak"
    for (before, first), (name, cost) in pairwise(named):
        if (first < cost) if falling else (first > cost):
            said.append(
                f"{name} ({dollars(cost)}) comes after {before} ({dollars(first)}),"
                f" which costs {'less' if falling else 'more'}"
            )
    return said


def _most_usd(member: Member | Ensemble, query: Query) -> float:
    """The most that one answer of a member costs; NaN where that is not known beforehand."""
    if isinstance(member, Ensemble):
        worst = worst_case(member, query)
        return float("nan") if worst.timed else worst.usd
    if member.price is None:
        return 0.0
    if member.price.usd_per_second:
        return float("nan")
    prompt = sum(len(m.content.encode("utf-8", "replace")) for m in query.messages) or len(query.text)
    written = query.max_tokens or member.max_tokens
    return member.price.of(Usage(prompt // BYTES_PER_TOKEN + 1, written), 0.0)


def check_calls(ensemble: Ensemble, query: Query, limits: Limits) -> None:
    """Refuses a request whose worst case exceeds the limit on calls; nothing has been called."""
    calls = worst_case(ensemble, query).calls
    if calls > limits.calls:
        raise LimitReached("calls (worst case, before the first call)", calls, limits.calls)


def check_shape(ensemble: Ensemble, limits: Limits) -> None:
    """Refuses an ensemble that is nested too deep or fans out too wide."""
    depth = _depth(ensemble)
    if depth > limits.depth:
        raise BadParameter(
            f"ensembles.{ensemble.name}", depth, f"may be nested at most {limits.depth} deep (limits.depth)"
        )
    if len(ensemble.members) > limits.fan_out:
        raise BadParameter(
            f"ensembles.{ensemble.name}.members",
            len(ensemble.members),
            f"may be at most {limits.fan_out} (limits.fan_out)",
        )


def _depth(ensemble: Ensemble) -> int:
    return 1 + max((_depth(a) for a in ensemble.actors() if isinstance(a, Ensemble)), default=0)
