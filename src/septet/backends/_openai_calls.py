"""The calls that make an answer: one reply for several samples, or a stream that is cut where it has to be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, TypeVar

from septet.backends._openai_endpoint import Server
from septet.backends._openai_flavours import Flavour
from septet.backends._openai_wire import Call, Reading, Sampling, choices_of, usage_of
from septet.core.money import Usage

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked of a server: the call, how to sample, the strings to end after, alternatives per token,
    and the query's own extra fields."""

    call: Call
    sampling: Sampling
    until: tuple[str, ...] = ()
    logprobs: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)

    def body(self, server: Server, sample: int = 0) -> dict[str, Any]:
        """The fields of one call for the sample."""
        drawn = self.sampling.fields(server.limit(self.call.path), sample)
        return {**self.extra, **self.call.body, **drawn, **self.call.asking(self.logprobs)}


@dataclass
class Streamed:
    """A stream that is being read: its text so far, and the usage that the server last stated."""

    reading: Reading = field(default_factory=Reading)
    usage: Usage | None = None


async def whole(
    server: Server, flavour: Flavour, wanted: Wanted, n: int
) -> tuple[list[Reading], Usage | None]:
    """n samples in one call. A server that gives fewer than it was asked for is asked for the rest."""
    body = wanted.body(server)
    if n > 1:
        body["n"] = n
    if wanted.until:
        # only for servers that name the string that ended the answer
        body["stop"] = [*wanted.sampling.stop, *wanted.until]
    reply = await server.post(wanted.call.path, body)
    source = server.http.source(server.http.base + wanted.call.path)
    readings = []
    for choice in choices_of(reply, source)[:n]:
        reading = Reading()
        reading.add(choice, flavour)
        reading.ended_by(wanted.until)
        readings.append(reading)
    return readings, usage_of(reply)


async def pieces(
    server: Server, flavour: Flavour, wanted: Wanted, out: Streamed, sample: int = 0
) -> AsyncGenerator[str, None]:
    """The text of one sample as it comes, up to its end or the first `until`; `out` holds the rest."""
    url, reading = server.http.base + wanted.call.path, out.reading
    body = {**wanted.body(server, sample), "stream": True, **flavour.streaming}
    async with aclosing(server.http.events(url, server.named(body))) as events:
        async for event in events:
            out.usage = usage_of(event) or out.usage
            shown = len(reading.text)
            for choice in _choices(event):
                # text after the finish is no part of the answer
                if reading.finish is None:
                    reading.add(choice, flavour)
            ended = reading.cut(wanted.until)
            if len(reading.text) > shown:
                yield reading.text[shown:]
            if ended:
                return
    if reading.finish is None:
        raise server.http.source(url).wrong("ended its stream in the middle of the answer", retryable=True)


def _choices(event: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    listed = event.get("choices")
    choices = listed if isinstance(listed, list) else []
    return [c for c in choices if isinstance(c, Mapping) and c.get("index", 0) == 0]


async def read(server: Server, flavour: Flavour, wanted: Wanted, sample: int) -> Streamed:
    """One sample, streamed only so that it can be cut."""
    out = Streamed()
    async with aclosing(pieces(server, flavour, wanted, out, sample)) as texts:
        async for _ in texts:
            pass
    return out


async def together(calls: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Several calls at once; the first failure ends the others and is raised."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
