"""An ensemble as it was built: a method on its members, with its roles and its state."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from septet.core.actor import Pool
from septet.core.caps import Caps
from septet.core.facets import Granularity
from septet.core.method import Method, Seat
from septet.core.money import Price
from septet.core.session import Vocab
from septet.engine.config import EnsembleConfig
from septet.engine.members import Member
from septet.engine.prepared import prepared
from septet.engine.states import Cell

TOGETHER = (Granularity.TOKEN, Granularity.SPAN, Granularity.STEP)
"""Granularities at which the members share one answer, so that its length is the ensemble's to set."""


@dataclass
class Ensemble:
    """A method on its members. `then`: the c1 method of a router that draws several, with its own state."""

    name: str
    config: EnsembleConfig
    method: Method
    members: tuple[Member | Ensemble, ...]
    roles: Mapping[str, tuple[Member | Ensemble, ...]]
    cell: Cell
    cache: Path
    then: Method | None = None
    then_cell: Cell | None = None
    _prepared: Any = None
    _is_prepared: bool = False
    _preparing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def caps(self) -> Caps:
        return self.method.offers([m.caps for m in self.members])

    @property
    def price(self) -> Price | None:
        return None

    @property
    def max_tokens(self) -> int:
        return max(m.max_tokens for m in self.members)

    @property
    def stop(self) -> tuple[str, ...]:
        return ()

    @property
    def vocab(self) -> Vocab | None:
        return None

    def actors(self) -> list[Member | Ensemble]:
        """Members and role actors, each once."""
        found = {a.name: a for a in self.members}
        for actors in self.roles.values():
            found |= {a.name: a for a in actors}
        return list(found.values())

    async def prepared(self) -> Any:
        """What depends on the members only; made once, off the event loop."""
        async with self._preparing:
            if not self._is_prepared:
                pool = Pool(tuple(_actor(m) for m in self.members))
                self._prepared = await asyncio.to_thread(prepared, self.method, pool, self.cache)
                # while a member could not be loaded its vocabulary is missing, which is not to last
                self._is_prepared = all(m.vocab is not None for m in pool.members)
        return self._prepared


def _actor(member: Member | Ensemble) -> Any:
    return member.actor if isinstance(member, Member) else member


def seat_of(actor: Member | Ensemble) -> Seat:
    """An actor as a plan sees it."""
    inner = _actor(actor)
    return Seat(actor.name, actor.caps, price=actor.price, vocab=inner.vocab, stop=inner.stop)
