"""One answer of a token ensemble, decoded by the engine's own loop, with what it cost on the clock and in tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import septet
from septet.core.session import Session
from septet.core.types import Piece, Query
from septet.engine.answering import Answering
from septet.engine.house import Asked, House, Request
from septet.engine.plan_runner import Want
from septet.engine.token_loop import FusedSession, Together, answer_with


@dataclass(frozen=True)
class Share:
    """One member's part in an answer. Token counts; `forward_seconds` is the time inside its forwards, from
    the call of the backend's decode until the top k is read, without the prompt's."""

    member: str
    prompt_tokens: int
    prompt_fed: int
    answer_fed: int
    answer_tokens: int
    rollbacks: int
    forward_seconds: float


@dataclass(frozen=True)
class Decoded:
    """`seconds` from the first distribution to the last commit; `text` is the answer's bytes."""

    text: bytes
    pieces: int
    seconds: float
    shares: tuple[Share, ...]

    @property
    def forwards(self) -> list[float]:
        """(n_members,) seconds inside each member's forwards."""
        return [share.forward_seconds for share in self.shares]


class InTurn(Together):
    """Members one after the other, so that no forward takes time from another one."""

    async def each(self, indices: Sequence[int], call: Any) -> list[Any]:
        values: list[Any] = [None] * len(self.sessions)
        for i in indices:
            values[i] = (await super().each([i], call))[i]
        return values


@asynccontextmanager
async def measured(config: Path, ensemble: str) -> AsyncIterator[Asked]:
    """The ensemble of a configuration, loaded and warm, with a store that is thrown away."""
    with TemporaryDirectory() as folder:
        house: House
        async with septet.load(config, set=[f"store.path={folder}/bench.db"]) as house:
            asked = house[ensemble]
            await decode(asked, Query.of("Hello", max_tokens=2), in_turn=True)
            yield asked


async def decode(asked: Asked, query: Query, *, in_turn: bool) -> Decoded:
    """A greedy answer. Stop strings are not looked for, so that it is as long as was asked, END apart."""
    request = Request(asked, query, Want(), False)
    answering = Answering(asked.ensemble, request.query, request.run, request.gate, Want(), _drop)
    session = await answering.open()
    try:
        if in_turn:
            session.together = InTurn(**vars(session.together))
        return await _decoded(session, answering)
    finally:
        await session.close()


async def _decoded(session: FusedSession, answering: Answering) -> Decoded:
    members = [s for s in session.together.sessions if s is not None]
    prompts = [s.meter.usage for s in members]
    spent = [s.meter.forward_seconds for s in members]
    began = perf_counter()
    written = await answer_with(session, answering.query, (), answering.run.rng, answering.emit)
    seconds = perf_counter() - began
    spent = [s.meter.forward_seconds - before for s, before in zip(members, spent, strict=True)]
    await session.distribution()  # the last piece waits for this forward; only now all of the answer is fed
    shares = tuple(
        _share(name, s, prompt.fed_tokens, prompt.prompt_tokens, seconds_, written.text)
        for name, s, prompt, seconds_ in zip(session.together.names, members, prompts, spent, strict=True)
    )
    return Decoded(written.text, len(written.tokens), seconds, shares)


def _share(name: str, s: Session, fed: int, prompt: int, seconds: float, text: bytes) -> Share:
    answer_fed, reading = s.meter.usage.fed_tokens - fed, s.vocab.tokenise(text)
    return Share(name, prompt, fed, answer_fed, len(reading), s.meter.rollbacks, seconds)


async def _drop(piece: Piece) -> None:
    """Nobody reads along."""
