"""What a schedule gives: the pieces of an answer, one by one, each with how it was chosen."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from septet.engine.drawing import Sampling
from septet.engine.token_loop import FusedSession, Place
from septet.parts.decoding.stopping import Stopping

TOP_REPORTED = 20
"""How many alternatives per piece the answer's tokens carry: the most that OpenAI's format can ask for."""


@dataclass(frozen=True, slots=True)
class Decided:
    """A piece that was chosen: its place in the fused distribution there, and the probability that it was chosen
    with. `drafted`: it was proposed and stood."""

    place: Place
    index: int
    p: float
    drafted: bool = False

    @property
    def piece(self) -> bytes:
        return self.place.fused.texts[self.index]


@dataclass(frozen=True, slots=True)
class Task:
    """What a schedule needs to know of an answer: how strings are chosen, its most pieces, what ends it."""

    sampling: Sampling
    limit: int
    stopping: Stopping = Stopping()


Schedule = Callable[[FusedSession, Task], AsyncGenerator[Decided, None]]
"""Gives the pieces of an answer one by one, END among them; each is committed when the next one is asked for."""
