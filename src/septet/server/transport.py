"""Bodies in, event streams out, and callers who leave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import aclosing
from typing import Any, TypeVar

from pydantic_core import from_json
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from septet.core.errors import SeptetError
from septet.core.types import Answer
from septet.server.asking import Asking, Event
from septet.server.errors import Refusal, refusal_of
from septet.server.replies import Reply

T = TypeVar("T")

BODY_LIMIT = 20_000_000
"""Bytes of a request body."""

SMALL_BODY = 64_000
"""Bytes up to which a body is read in the event loop; a larger one would hold up the other requests."""

TOO_LARGE = f"the body must be at most {BODY_LIMIT} bytes"


class CallerLeft(Exception):
    """The connection was closed before the answer was complete."""


async def json_body(request: Request) -> Any:
    """The JSON of a request's body; too large, not JSON or nested too deep is refused."""
    if int(request.headers.get("content-length") or 0) > BODY_LIMIT:
        raise Refusal(413, TOO_LARGE, code="body_too_large")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > BODY_LIMIT:
            raise Refusal(413, TOO_LARGE, code="body_too_large")
    return _parsed(bytes(body)) if len(body) < SMALL_BODY else await asyncio.to_thread(_parsed, bytes(body))


def _parsed(body: bytes) -> Any:
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise Refusal(400, f"the body is not valid JSON: {error}", code="invalid_json") from None


async def unless_left(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """The value of the work; where the caller leaves first, the work is cancelled and CallerLeft raised."""
    task, left = asyncio.create_task(work), asyncio.create_task(_left(receive))
    try:
        await asyncio.wait({task, left}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise CallerLeft
        return task.result()
    finally:
        task.cancel()
        left.cancel()
        await asyncio.wait({task, left})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream:
    """An ASGI response that streams the answers.

    The status line waits for the first event, at most as long as one ping, so that what fails before
    anything was answered is a proper HTTP error; a later failure is an `error` event, and no [DONE] follows.
    """

    def __init__(self, asking: Asking, reply: Reply, ping_seconds: float) -> None:
        self.asking, self.reply, self.ping_seconds = asking, reply, ping_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await unless_left(receive, self._run(scope, receive, send))
        except CallerLeft:
            return  # the runs have been cancelled, and their traces say so

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        ids = {"x-septet-request": ", ".join(self.asking.ids)}
        async with aclosing(self._body()) as body:
            try:
                first = await anext(body)
            except SeptetError as error:
                refusal = refusal_of(error)
                refusal.headers |= ids
                await refusal.response()(scope, receive, send)
                return
            headers = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache", **ids}
            raw = [(name.encode(), value.encode()) for name, value in headers.items()]
            await send({"type": "http.response.start", "status": 200, "headers": raw})
            await send({"type": "http.response.body", "body": first, "more_body": True})
            await self._rest(body, send)

    async def _rest(self, body: AsyncIterator[bytes], send: Send) -> None:
        try:
            async for part in body:
                await send({"type": "http.response.body", "body": part, "more_body": True})
        except Exception as error:
            last = _event(refusal_of(error).body())
            await send({"type": "http.response.body", "body": last, "more_body": False})
            if not isinstance(error, SeptetError):
                raise
        else:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _body(self) -> AsyncGenerator[bytes, None]:
        """The first part is made when the first event is there, or after the first silence."""
        found: dict[int, Answer] = {}
        n = self.asking.wanted.n
        part = b"".join(_event(chunk) for i in range(n) if (chunk := self.reply.opening(i)))
        async with self.asking:
            while len(found) < n:
                event = await self.asking.next(self.ping_seconds)
                if event is not None and isinstance(event[1], Answer):
                    found[event[0]] = event[1]
                yield part + self._part(event)
                part = b""
        closing = self.reply.closing([found[i] for i in range(n)], self.asking.ledgers)
        yield (_event(closing) if closing else b"") + b"data: [DONE]\n\n"

    def _part(self, event: Event | None) -> bytes:
        if event is None:
            return b": ping\n\n"
        index, item = event
        if isinstance(item, Answer):
            return _event(self.reply.ending(index, item))
        return _event(self.reply.piece(index, item.text))


def _event(data: Any) -> bytes:
    return b"data: " + json.dumps(data, ensure_ascii=False).encode("utf-8", "replace") + b"\n\n"
