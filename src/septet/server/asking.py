"""One HTTP request as requests of the house: n answers under one budget, and what each member had to do."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import TypeAlias
from zlib import crc32

from septet.core.errors import LimitReached
from septet.core.money import Usage
from septet.core.trace import CallEvent, PieceEvent
from septet.core.types import Answer, Piece
from septet.engine.ensemble import Ensemble
from septet.engine.house import Asked, Request
from septet.engine.limits import worst_case
from septet.engine.plan_runner import Want
from septet.engine.run import Recorder, Run
from septet.server.errors import Refusal
from septet.server.requests import Wanted

Event: TypeAlias = tuple[int, Piece | Answer]
"""Which of the n answers, and a piece of it or the whole."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What one member did for a request."""

    calls: int = 0
    usage: Usage = Usage()
    usd: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.calls + other.calls, self.usage + other.usage, self.usd + other.usd)


class Ledger:
    """A recorder that passes every call on to the store and keeps each member's sum."""

    def __init__(self, store: Recorder) -> None:
        self._store = store
        self.members: dict[str, Spent] = {}

    def piece(self, event: PieceEvent) -> None:
        """Writes a piece down."""
        self._store.piece(event)

    def call(self, event: CallEvent) -> None:
        self._store.call(event)
        spent = Spent(1, event.usage, event.usd)
        self.members[event.member] = self.members.get(event.member, Spent()) + spent


class Asking:
    """An async context: inside, `next` gives events as they come; leaving cancels what is under way."""

    def __init__(self, asked: Asked, wanted: Wanted) -> None:
        refuse(asked.ensemble, wanted)
        self.asked, self.wanted = asked, wanted
        self.ledgers = [Ledger(asked.house.store) for _ in range(wanted.n)]
        self.requests = [self._request(j) for j in range(wanted.n)]
        if wanted.n > 1:
            _share_budget([request.run for request in self.requests])
        self._queue: asyncio.Queue[Event | Exception] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def ids(self) -> list[str]:
        """The trace ids of the answers."""
        return [request.run.id for request in self.requests]

    def _request(self, j: int) -> Request:
        query, top = self.wanted.query, self.wanted.top
        if j:
            first = self.asked.ensemble.config.seed if query.seed is None else query.seed
            query = query.but(seed=crc32(f"{first}:answer:{j}".encode()))
        # a member that streams does not report its tokens; one that completes does
        args = {} if top is None else {"logprobs": max(top, 1)}
        want = Want("stream" if self.wanted.stream and top is None else "complete", args)
        request = Request(self.asked, query, want, False)
        request.run.recorder = self.ledgers[j]
        return request

    async def __aenter__(self) -> Asking:
        self._tasks = [asyncio.create_task(self._work(j)) for j in range(self.wanted.n)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _work(self, j: int) -> None:
        try:
            async with aclosing(self.requests[j].pieces()) as pieces:
                async for item in pieces:
                    self._queue.put_nowait((j, item))
        except Exception as error:
            self._queue.put_nowait(error)

    async def next(self, seconds: float | None = None) -> Event | None:
        """The next event, or None after so many seconds of silence; an answer that failed raises."""
        try:
            async with asyncio.timeout(seconds):
                event = await self._queue.get()
        except TimeoutError:
            return None
        if isinstance(event, Exception):
            raise event
        return event

    async def answers(self) -> Sequence[Answer]:
        """All n answers, in order."""
        found: dict[int, Answer] = {}
        async with self:
            while len(found) < self.wanted.n:
                event = await self.next()
                if event is not None and isinstance(event[1], Answer):
                    found[event[0]] = event[1]
        return [found[j] for j in range(self.wanted.n)]


def refuse(ensemble: Ensemble, wanted: Wanted) -> None:
    """Refuses what this model cannot honour; nothing has been called."""
    caps, name = ensemble.caps, ensemble.name
    lacks = (
        (not caps.text, "model", "text"),
        (wanted.top is not None and not caps.logprobs, "logprobs", "log-probabilities"),
        (bool(wanted.tools_for) and not caps.tools, wanted.tools_for, "tools and response formats"),
    )
    for lacking, field, what in lacks:
        if lacking:
            raise Refusal(400, f"{field}: {name!r} does not offer {what}", param=field)
    allowed = ensemble.config.limits.calls
    calls = worst_case(ensemble, wanted.query).calls * wanted.n
    if calls > allowed:
        raise LimitReached("calls (worst case, before the first call)", calls, allowed)


def _share_budget(runs: Sequence[Run]) -> None:
    """Puts the runs of n answers under one parent, so that together they spend no more than one request may."""
    first = runs[0]
    shared = Run(
        id=first.id,
        path=first.path,
        seed=first.seed,
        limits=first.limits,
        began=first.began,
        deadline=first.deadline,
        recorder=first.recorder,
        clock=first.clock,
    )
    for run in runs:
        run.parent = shared
