"""One answer of a token ensemble, decoded by the engine's own loop, with what it cost on the clock and in tokens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np

import septet
from septet.core.money import Usage
from septet.core.session import Session
from septet.core.types import Floats, Piece, Query
from septet.engine.answering import Answering
from septet.engine.decode import Written, answer_with
from septet.engine.house import Asked, House, Request
from septet.engine.plan_runner import Want
from septet.engine.schedules import schedule_of
from septet.engine.token_loop import FusedSession, Together


@dataclass(frozen=True)
class Share:
    """One member's part in an answer, in its own tokens."""

    member: str
    prompt_tokens: int
    prompt_fed: int
    answer_fed: int
    answer_tokens: int
    rollbacks: int


@dataclass(frozen=True)
class Decoded:
    """`seconds` (n,) from commit to commit, and `forwards` (n, n_members) the part of it inside each member's
    forward, from the call of the backend's decode until the top k is read. The first piece is left out of
    both, since its distributions come with the prompt. `text` is the answer's bytes."""

    text: bytes
    pieces: int
    seconds: Floats
    forwards: Floats
    shares: tuple[Share, ...]


class InTurn(Together):
    """Members one after the other, so that no forward takes time from another one."""

    async def each(self, indices: Sequence[int], call: Any) -> list[Any]:
        turn = asyncio.Lock()

        async def alone(i: int, session: Session) -> Any:
            async with turn:
                return await call(i, session)

        return await super().each(indices, alone)


class Marked(FusedSession):
    """Writes down the clock and the members' forwards so far after every commit."""

    def __init__(self, together: Together, s: Any) -> None:
        super().__init__(together, s)
        self.marks: list[tuple[float, list[float]]] = []

    @property
    def members(self) -> list[Session]:
        """The members' sessions; a benchmark goes on with all of them or not at all."""
        return [s for s in self.together.sessions if s is not None]

    async def push(self, piece: bytes, *, id: int | None = None, drawn: int | None = None) -> None:
        await super().push(piece, id=id, drawn=drawn)
        self.marks.append((perf_counter(), [s.meter.forward_seconds for s in self.members]))


@asynccontextmanager
async def measured(config: Path, ensemble: str, settings: Sequence[str] = ()) -> AsyncIterator[Asked]:
    """The ensemble of a configuration, loaded and warm, with a store that is thrown away. `settings` are put
    on top of the file."""
    with TemporaryDirectory() as folder:
        house: House
        async with septet.load(config, set=[*settings, f"store.path={folder}/bench.db"]) as house:
            asked = house[ensemble]
            await decode(asked, Query.of("Hello", max_tokens=2), in_turn=True)
            yield asked


@asynccontextmanager
async def written(
    asked: Asked, query: Query
) -> AsyncIterator[tuple[Marked, Callable[[], Awaitable[Written]]]]:
    """A session after the prompt, and what writes the answer on it by the ensemble's own schedule; stop strings
    are not looked for."""
    request = Request(asked, query, Want(), False)
    answering = Answering(asked.ensemble, request.query, request.run, request.gate, Want(), _drop)
    opened, config = await answering.open(), asked.ensemble.config
    session = Marked(opened.together, opened.s)
    schedule = schedule_of(config.schedule, config.draft, config.beam)

    def drawn(step: int) -> np.random.Generator:
        return answering.run.rng("token", step)

    def answer() -> Awaitable[Written]:
        return answer_with(session, answering.query, (), drawn, answering.emit, schedule=schedule)

    try:
        yield session, answer
    finally:
        await session.close()


async def decode(asked: Asked, query: Query, *, in_turn: bool) -> Decoded:
    """A greedy answer. Stop strings are not looked for, so that it is as long as was asked, END apart."""
    request = Request(asked, query, Want(), False)
    answering = Answering(asked.ensemble, request.query, request.run, request.gate, Want(), _drop)
    opened = await answering.open()
    together = InTurn(**vars(opened.together)) if in_turn else opened.together
    session = Marked(together, opened.s)
    try:
        return await _decoded(session, answering)
    finally:
        await session.close()


async def _decoded(session: Marked, answering: Answering) -> Decoded:
    prompts = [s.meter.usage for s in session.members]
    written = await answer_with(session, answering.query, (), answering.run.rng, answering.emit)
    await session.distribution()  # the last piece waits for this forward; only now all of the answer is fed
    shares = tuple(
        _share(name, s, prompt, written.text)
        for name, s, prompt in zip(session.together.names, session.members, prompts, strict=True)
    )
    seconds = np.diff([clock for clock, _ in session.marks])
    forwards = np.diff([spent for _, spent in session.marks], axis=0)
    return Decoded(written.text, len(written.tokens), seconds, forwards, shares)


def _share(name: str, s: Session, prompt: Usage, text: bytes) -> Share:
    fed, reading = s.meter.usage.fed_tokens - prompt.fed_tokens, s.vocab.tokenise(text)
    return Share(name, prompt.prompt_tokens, prompt.fed_tokens, fed, len(reading), s.meter.rollbacks)


async def _drop(piece: Piece) -> None:
    """Nobody reads along."""
