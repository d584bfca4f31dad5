"""A session on account of a run: the gate books what each call used, and writes one event when it is closed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from septet.core.errors import BackendError, SeptetError
from septet.core.money import Usage
from septet.core.session import Draft, Meter, Next, Sampler, Session, Vocab
from septet.core.types import Floats, Tokens

if TYPE_CHECKING:
    from septet.engine.gate import BoundMember


@dataclass
class Note:
    """What is being written down about a call that is under way; times are seconds since the request began."""

    queued: float
    started: float = 0.0
    first_byte: float | None = None
    retries: list[str] = field(default_factory=list)
    output: Mapping[str, Any] = field(default_factory=dict)
    usage: Usage = Usage()
    usd: float = 0.0
    cached: bool = False
    error: str = ""
    steps: Mapping[str, float] = field(default_factory=dict)


class BoundSession:
    """A session on account of a run: the gate books what each call used; one event, written on close."""

    def __init__(
        self,
        session: Session,
        owner: BoundMember,
        args: Mapping[str, Any],
        purpose: str,
        note: Note,
        step: int,
        reserved: float,
    ) -> None:
        self._session, self._owner, self._args, self._purpose = session, owner, args, purpose
        self._note, self._step, self._reserved = note, step, reserved
        self._counts: dict[str, float] = {}
        self._closed = False
        self._text = bytearray()

    @property
    def vocab(self) -> Vocab:
        return self._session.vocab

    @property
    def meter(self) -> Meter:
        return self._session.meter

    @property
    def prompt(self) -> Tokens | None:
        return self._session.prompt

    @property
    def commit_rule(self) -> str:
        return str(getattr(self._session, "commit_rule", "own"))

    @commit_rule.setter
    def commit_rule(self, rule: str) -> None:
        if rule != self.commit_rule:
            self._session.commit_rule = rule  # type: ignore[attr-defined]

    async def next(self, k: int | None, *, agreeing: bytes = b"", hidden: bool = False) -> Next:
        return cast(
            Next, await self._through("next", lambda: self._session.next(k, agreeing=agreeing, hidden=hidden))
        )

    async def push(self, piece: bytes, *, id: int | None = None) -> None:
        await self._through("push", lambda: self._session.push(piece, id=id), timed=False)
        self._text += piece

    async def look(self, pieces: Sequence[bytes], k: int | None) -> list[Next]:
        return cast("list[Next]", await self._through("look", lambda: self._session.look(pieces, k)))

    async def after(self, paths: Sequence[Sequence[int]]) -> list[Next]:
        return cast("list[Next]", await self._through("after", lambda: self._session.after(paths)))

    async def write(self, until: Sequence[bytes], max_tokens: int, sampler: Sampler) -> Draft:
        return cast(
            Draft, await self._through("write", lambda: self._session.write(until, max_tokens, sampler))
        )

    async def score(self, spans: Sequence[bytes]) -> list[Tokens]:
        return cast("list[Tokens]", await self._through("score", lambda: self._session.score(spans)))

    async def hidden(self) -> Floats:
        return cast(Floats, await self._through("hidden", lambda: self._session.hidden()))

    async def fork(self) -> Session:
        owner = self._owner
        twin = cast(Session, await self._through("fork", lambda: self._session.fork()))
        note = Note(owner.gate.clock() - owner.run.began)
        note.started = note.queued
        owner.run.check_time()  # a fork is no call: the calls that it makes possible are counted
        bound = BoundSession(twin, owner, self._args, "fork", note, next(owner.run.steps), 0.0)
        # a fork starts with what its parent has used; only what it adds is booked to it
        bound._note.usage = twin.meter.usage
        bound._forked = twin.meter.usage
        return bound

    _forked = Usage()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        owner, note, meter = self._owner, self._note, self._session.meter
        await self._session.close()
        self.book(note.started)
        note.usage = meter.usage - self._forked
        note.usd = owner.cost_of(note.usage, self._seconds)
        note.steps = {
            **self._counts,
            "forwards": meter.forwards,
            "forward_seconds": round(meter.forward_seconds, 6),
            "rollbacks": meter.rollbacks,
        }
        note.output = {"text": self._text.decode("utf-8", "replace")}
        owner.run.settle(self._reserved, Usage(), 0.0)
        owner.write(self._step, "session", self._args, self._purpose, note)

    _seconds = 0.0

    def book(self, began: float) -> None:
        """Books what was used since the last time, first from what was reserved at the opening; `began` is
        when this call started, in request seconds."""
        owner, used = self._owner, self._session.meter.usage - self._note.usage
        seconds = 0.0 if self._closed else max(owner.gate.clock() - owner.run.began - began, 0.0)
        usd = owner.cost_of(used, seconds)
        back = min(self._reserved, usd)
        self._reserved -= back
        self._seconds += seconds
        self._note.usage = self._session.meter.usage
        owner.run.settle(back, used, usd)

    async def _through(self, step: str, call: Callable[[], Awaitable[Any]], *, timed: bool = True) -> Any:
        """One call, tried again where the failure may pass: a session holds nothing that a retry repeats.

        `timed` is False for a push: it calls no model, and a timer would take longer than it does.
        """
        owner, attempt = self._owner, 0
        began = owner.gate.clock() - owner.run.began
        owner.run.check_usd()
        self._counts[step] = self._counts.get(step, 0) + 1
        try:
            while True:
                try:
                    return await (owner.in_time(call()) if timed else call())
                except BackendError as error:
                    await owner.wait_to_retry(error, attempt, self._note)
                    attempt += 1
        except SeptetError as error:
            self._note.error = said(error)
            raise
        finally:
            self.book(began)


async def opened(calls: Iterable[Awaitable[Session]]) -> list[Session | BaseException]:
    """Opens sessions concurrently: each one, or its error. A cancelled caller leaves none open."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return await asyncio.gather(*tasks, return_exceptions=True)
    except asyncio.CancelledError:
        await asyncio.shield(_unopened(tasks))
        raise


async def _unopened(tasks: Sequence[asyncio.Future[Session]]) -> None:
    """Closes what cancelled openings had opened before they were cancelled."""
    await asyncio.wait(tasks)
    await close_all(t.result() for t in tasks if not t.cancelled() and t.exception() is None)


async def close_all(sessions: Iterable[Session]) -> None:
    """Closes sessions, every one of them, also where the caller is cancelled meanwhile."""
    await asyncio.shield(asyncio.gather(*(session.close() for session in sessions)))


def said(error: BaseException) -> str:
    """An error as the trace shows it."""
    return (
        "cancelled"
        if isinstance(error, asyncio.CancelledError | GeneratorExit)
        else str(error) or repr(error)
    )
