"""The one gate: every call of every actor passes here. Deadline, budget, permits, retries, prices, trace."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, cast

from septet.core.caps import Caps
from septet.core.errors import BackendError, LimitReached
from septet.core.money import Price, Usage
from septet.core.session import Session, Vocab
from septet.core.trace import CallEvent
from septet.core.types import Completion, Metered, Piece, Query
from septet.engine.members import Member
from septet.engine.run import Run
from septet.engine.sessions import BoundSession, Note, said
from septet.engine.store import Store
from septet.engine.wire import completion_json, completion_of, query_json, value_json

BYTES_PER_TOKEN = 3
"""A low guess, so that the reserved prompt tokens of a call are rather too many than too few."""


class Bound(Protocol):
    """An actor bound to a run: a member behind the gate, or a nested ensemble with a child run."""

    @property
    def name(self) -> str: ...
    @property
    def caps(self) -> Caps: ...
    @property
    def price(self) -> Price | None: ...
    @property
    def vocab(self) -> Vocab | None: ...
    @property
    def stop(self) -> tuple[str, ...]: ...

    async def do(self, ability: str, args: Mapping[str, Any], purpose: str) -> Any:
        """Any ability but `stream`; metered values come back as plain values."""

    def stream(self, query: Query, purpose: str) -> AsyncGenerator[Piece | Completion, None]:
        """The ability `stream`."""


@dataclass
class Gate:
    """Permits per endpoint, the clock, and the way to wait; one per house."""

    store: Store
    concurrency: int = 8
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    permits: dict[str, asyncio.Semaphore] = field(default_factory=dict)

    def permit(self, member: Member) -> asyncio.Semaphore:
        """The semaphore of a member's endpoint."""
        if member.endpoint not in self.permits:
            self.permits[member.endpoint] = asyncio.Semaphore(member.concurrency or self.concurrency)
        return self.permits[member.endpoint]


class BoundMember:
    """A member whose every call passes the gate on account of one run."""

    def __init__(self, member: Member, run: Run, gate: Gate) -> None:
        self.member, self.run, self.gate = member, run, gate

    @property
    def name(self) -> str:
        return self.member.name

    @property
    def caps(self) -> Caps:
        return self.member.caps

    @property
    def price(self) -> Price | None:
        return self.member.price

    @property
    def vocab(self) -> Vocab | None:
        return self.member.actor.vocab

    @property
    def stop(self) -> tuple[str, ...]:
        return self.member.actor.stop

    async def do(self, ability: str, args: Mapping[str, Any], purpose: str) -> Any:
        if ability == "complete":
            return await self._complete(args, purpose)
        if ability == "open":
            return await self._open(args, purpose)
        async with self._noted(ability, args, purpose) as note:
            began = self.gate.clock()
            metered: Metered[Any] = await self._attempts(ability, args, note)
            note.usage, note.usd = metered.usage, self.cost_of(metered.usage, self.gate.clock() - began)
            note.output = {"value": value_json(metered.value)}
        return metered.value

    async def _complete(self, args: Mapping[str, Any], purpose: str) -> list[Completion]:
        async with self._noted("complete", args, purpose) as note:
            key = self._key(args) if self.run.use_cache else ""
            stored = await self.gate.store.cached(key) if key else None
            if stored is not None:
                done = [replace(completion_of(c), usd=0.0, cached=True) for c in stored]
                note.cached = True
            else:
                began = self.gate.clock()
                done = await self._attempts("complete", args, note)
                done = self._priced(done, self.gate.clock() - began)
                if key:
                    self.gate.store.keep(key, [completion_json(c, tokens=True) for c in done])
            note.usage = sum((c.usage for c in done), Usage())
            note.usd = sum(c.usd for c in done)
            note.output = {"completions": [completion_json(c) for c in done]}
        return done

    async def stream(self, query: Query, purpose: str) -> AsyncGenerator[Piece | Completion, None]:
        """Pieces, then one completion; retried only while nothing has been passed on."""
        async with self._noted("stream", {"query": query}, purpose) as note:
            began = self.gate.clock()
            attempt = 0
            while True:
                passed_on = False
                try:
                    async with aclosing(self._timed_stream(query, note)) as items:
                        async for item in items:
                            passed_on = True
                            if isinstance(item, Completion):
                                item = self._priced([item], self.gate.clock() - began)[0]
                                note.usage, note.usd = item.usage, item.usd
                                note.output = {"completions": [completion_json(item)]}
                            yield item
                    return
                except BackendError as error:
                    if passed_on:
                        raise
                    await self.wait_to_retry(error, attempt, note)
                    attempt += 1

    async def _timed_stream(self, query: Query, note: Note) -> AsyncGenerator[Piece | Completion, None]:
        async with self.gate.permit(self.member):
            note.started = self.gate.clock() - self.run.began
            stream = self.member.actor.stream(query)
            try:
                while True:
                    item = await self.in_time(anext(stream, None))
                    if item is None:
                        return
                    if note.first_byte is None:
                        note.first_byte = self.gate.clock() - self.run.began
                    yield item
            finally:
                await cast(Any, stream).aclose()

    async def _open(self, args: Mapping[str, Any], purpose: str) -> Session:
        note = Note(self.gate.clock() - self.run.began)
        step = next(self.run.steps)
        reserved = self._worst(args)
        self.run.reserve(reserved)
        try:
            session = await self._attempts("open", args, note)
        except BaseException as error:
            self.run.settle(reserved, Usage(), 0.0)
            note.error = said(error)
            self.write(step, "session", args, purpose, note)
            raise
        bound = BoundSession(session, self, args, purpose, note, step, reserved)
        bound.book(note.started)
        return bound

    async def _attempts(self, ability: str, args: Mapping[str, Any], note: Note) -> Any:
        """The call, with retries for failures that may pass."""
        attempt = 0
        while True:
            try:
                async with self.gate.permit(self.member):
                    note.started = self.gate.clock() - self.run.began
                    return await self.in_time(getattr(self.member.actor, ability)(**args))
            except BackendError as error:
                await self.wait_to_retry(error, attempt, note)
                attempt += 1

    async def wait_to_retry(self, error: BackendError, attempt: int, note: Note) -> None:
        """Waits before the next attempt, or raises the error when there is none."""
        error.at(member=self.name, request=self.run.id, method=self.run.place)
        wait = error.retry_after if error.retry_after is not None else min(8.0, 0.5 * 2.0**attempt)
        too_late = self.gate.clock() + wait >= self.run.deadline
        if not error.retryable or attempt >= self.run.limits.retries or too_late:
            raise error
        note.retries.append(f"{error.message} (waited {wait:g} s)")
        await self.gate.sleep(wait)

    async def in_time(self, call: Awaitable[Any]) -> Any:
        """The call's value, or LimitReached at the deadline."""
        left = self.run.deadline - self.gate.clock()
        try:
            async with asyncio.timeout(max(left, 0.0)) as scope:
                return await call
        except TimeoutError:
            if not scope.expired():
                raise
            allowed = self.run.deadline - self.run.began
            raise LimitReached("seconds", self.gate.clock() - self.run.began, allowed) from None

    @asynccontextmanager
    async def _noted(self, ability: str, args: Mapping[str, Any], purpose: str) -> AsyncIterator[Note]:
        """Reserves before, settles and writes the call down after, whatever happens."""
        note = Note(self.gate.clock() - self.run.began)
        step = next(self.run.steps)
        reserved = self._worst(args)
        self.run.reserve(reserved)
        try:
            yield note
        except BaseException as error:
            note.error = said(error)
            raise
        finally:
            self.run.settle(reserved, note.usage, note.usd)
            self.write(step, ability, args, purpose, note)

    def write(self, step: int, do: str, args: Mapping[str, Any], purpose: str, note: Note) -> None:
        """Writes one call down."""
        self.run.recorder.call(
            CallEvent(
                request=self.run.id,
                step=step,
                path=self.run.place,
                member=self.name,
                do=do,
                purpose=purpose,
                input=_input(args),
                output=note.output,
                usage=note.usage,
                usd=note.usd,
                queued=note.queued,
                started=note.started or note.queued,
                first_byte=note.first_byte,
                finished=self.gate.clock() - self.run.began,
                retries=tuple(note.retries),
                cached=note.cached,
                error=note.error,
                steps=note.steps,
            )
        )

    def _priced(self, done: Sequence[Completion], seconds: float) -> list[Completion]:
        """Completions with the gate's usd and seconds; the seconds of one call are shared by its samples.
        A backend that knows what was paid (a replayed outcome) keeps its own usd where no price is stated."""
        share = seconds / max(len(done), 1)
        priced = []
        for c in done:
            took = c.seconds or share
            usd = self.price.of(c.usage, took) if self.price else c.usd
            priced.append(replace(c, usd=usd, seconds=took))
        return priced

    def cost_of(self, usage: Usage, seconds: float) -> float:
        """USD of some usage at this member's price."""
        return self.price.of(usage, seconds) if self.price else 0.0

    def _worst(self, args: Mapping[str, Any]) -> float:
        """The most that this call can cost, in USD, apart from its seconds."""
        if self.price is None:
            return 0.0
        query = args.get("query")
        size = len(json.dumps(_input(args), ensure_ascii=False).encode("utf-8", "replace"))
        tokens = (query.max_tokens if isinstance(query, Query) else None) or self.member.max_tokens
        return self.price.of(Usage(size // BYTES_PER_TOKEN, tokens * int(args.get("n", 1))), 0.0)

    def _key(self, args: Mapping[str, Any]) -> str:
        """What makes a reply the same: the member, its parameters, the query and the seed."""
        known = {"member": self.member.identity, **_input(args)}
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def _input(args: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call as JSON."""
    found: dict[str, Any] = {}
    for name, value in args.items():
        if isinstance(value, Query):
            found[name] = query_json(value)
        elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
            found[name] = [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in value]
        else:
            found[name] = value
    return found
