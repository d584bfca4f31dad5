"""The plan runner: drives a method's generator, makes its calls concurrently, and sends back one reply per ask."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, Protocol, TypeVar

from septet.core.errors import ConfigError, LimitReached, RunError
from septet.core.method import Ask, Asking, Choice, Emit, Reply, Seat
from septet.core.session import Session
from septet.core.types import Completion, Query
from septet.engine.gate import Bound
from septet.engine.run import Run
from septet.engine.sessions import close_all

T = TypeVar("T")

Mode = Literal["complete", "stream", "open", "score"]


@dataclass(frozen=True)
class Want:
    """How the outer caller asked: what a final ask is performed as, with the caller's own arguments."""

    mode: Mode = "complete"
    args: Mapping[str, Any] = field(default_factory=dict)


class Pieces(Protocol):
    """Where streamed pieces go."""

    async def __call__(self, piece: bytes, support: Mapping[str, float], logp: float) -> None: ...


@dataclass
class Outcome(Generic[T]):
    """What a plan came to: its return value, the candidates in the order of their asks, and the final reply."""

    value: T
    candidates: list[Completion]
    final: Any = None


class PlanRunner:
    """Runs one plan for one request.

    `decide` makes a router's choice on the latest state, `keep` changes that state; `inline` steps the generator in the
    event loop instead of a worker thread (tests and replay).
    """

    def __init__(
        self,
        actors: Mapping[str, Bound],
        run: Run,
        *,
        emit: Pieces,
        want: Want,
        decide: Callable[[Mapping[str, Any]], Awaitable[Choice]] | None = None,
        keep: Callable[[Mapping[str, Any]], Awaitable[Any]] | None = None,
        inline: bool = False,
    ) -> None:
        self.actors, self.run, self.emit, self.want = actors, run, emit, want
        self.decide, self.keep, self.inline = decide, keep, inline
        self.candidates: list[Completion] = []
        self.opened: list[Session] = []
        self.final: Any = None
        self.began_answer = False
        self._asked: dict[tuple[str, str], int] = {}

    async def drive(self, plan: Asking[T]) -> Outcome[T]:
        """Runs the plan to its end; closes every session that it opened."""
        replies: list[Reply] | None = None
        try:
            while True:
                done, value = await self._step(plan, replies)
                if done:
                    return Outcome(value, self.candidates, self.final)
                replies = await self._perform(value)
        finally:
            plan.close()
            await close_all(session for session in self.opened if session is not self.final)

    async def _step(self, plan: Asking[Any], replies: list[Reply] | None) -> tuple[bool, Any]:
        """One step of the generator; a cancelled request waits for the running step first."""

        def step() -> tuple[bool, Any]:
            try:
                return False, plan.send(replies)  # type: ignore[arg-type]
            except StopIteration as stop:
                return True, stop.value

        if self.inline:
            return step()
        running = asyncio.get_running_loop().run_in_executor(None, step)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait([running])
            if not running.cancelled():
                running.exception()  # it belongs to a request that nobody waits for any more
            raise

    async def _perform(self, items: Sequence[Ask | Emit]) -> list[Reply]:
        """Makes the calls of one list concurrently; pieces are passed on first."""
        asks = [item for item in items if isinstance(item, Ask)]
        for item in items:
            if isinstance(item, Emit):
                self.began_answer = True
                await self.emit(item.piece, item.support, float("nan"))
        if any(a.final for a in asks):
            if len(items) != 1:
                raise ConfigError("a final ask must stand alone in its list")
            return [await self._reply(asks[0], self._final(asks[0]))]
        seeded = [self._seeded(ask) for ask in asks]
        tasks = [asyncio.ensure_future(self._reply(ask, self._call(ask))) for ask in seeded]
        try:
            replies = list(await asyncio.gather(*tasks))
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise
        for ask, reply in zip(asks, replies, strict=True):
            if ask.do == "complete" and ask.purpose == "candidate" and reply.ok:
                self.candidates += reply.value
        return replies

    async def _reply(self, ask: Ask, call: Awaitable[Any]) -> Reply:
        """A failed call is a reply under `continue`; a reached limit never is."""
        try:
            return Reply(await call)
        except LimitReached:
            raise
        except RunError as error:
            if ask.to is not None:
                error.at(member=ask.to.name, request=self.run.id, method=self.run.place)
            if self.run.limits.on_member_error == "fail" or (ask.final and self.began_answer):
                raise
            return Reply(error=error)

    async def _call(self, ask: Ask) -> Any:
        if ask.do == "decide":
            if self.decide is None:
                raise ConfigError("only a router decides")
            return await self.decide(ask.args)
        if ask.do == "keep":
            if self.keep is None:
                raise ConfigError("only a plan that answers can keep something")
            return await self.keep(ask.args)
        seat: Seat = ask.to
        if seat.session is not None:
            value = await getattr(seat.session, ask.do)(**ask.args)
            return self._seat_of(seat, value) if ask.do == "fork" else value
        actor = self.actors[seat.name]
        value = await actor.do(ask.do, ask.args, ask.purpose)
        if ask.do == "open":
            return self._seat_of(seat, value)
        if ask.do == "complete":
            return [replace(c, member=seat.name, weight=seat.weight) for c in value]
        return value

    def _seat_of(self, seat: Seat, session: Session) -> Seat:
        self.opened.append(session)
        return Seat(
            seat.name, seat.caps, price=seat.price, vocab=session.vocab, stop=seat.stop, session=session
        )

    async def _final(self, ask: Ask) -> Any:
        """Performs the final ask as the outer caller asked."""
        actor, query, args = self.actors[ask.to.name], ask.args["query"], self.want.args
        if self.want.mode == "stream":
            async with aclosing(actor.stream(query, "candidate")) as items:
                async for item in items:
                    if isinstance(item, Completion):
                        self.final = replace(item, member=ask.to.name)
                    else:
                        self.began_answer = True
                        await self.emit(item.text.encode(), item.support or {ask.to.name: 1.0}, item.logp)
        elif self.want.mode == "complete":
            done = await actor.do("complete", {"query": query, "n": 1, "logprobs": 0, **args}, "candidate")
            self.final = [replace(c, member=ask.to.name) for c in done]
            self.candidates += self.final
            return self.final
        else:
            self.final = await actor.do(self.want.mode, {"query": query, **args}, ask.purpose)
            return self.final
        self.candidates.append(self.final)
        return [self.final]

    def _seeded(self, ask: Ask) -> Ask:
        """Gives a query its own seed: by the member's name, so that the order of members changes nothing."""
        query = ask.args.get("query") if ask.do in ("complete", "open") and ask.to is not None else None
        if not isinstance(query, Query):
            return ask
        key = (ask.to.name, ask.purpose)
        step = self._asked[key] = self._asked.get(key, -1) + 1
        seed = self.run.seed_for(ask.to.name, ask.purpose, step)
        return replace(ask, args={**ask.args, "query": query.but(seed=seed)})
