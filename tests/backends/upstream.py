"""A server on loopback that answers as it is told, faults included, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from septet.backends.openai import Openai
from septet.core.actor import Actor
from septet.core.backend import Defaults, MemberSpec, Place
from septet.core.prompt import BUILT_IN

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
KEY = "sk-canary-5c1f0e"
FIXTURES = Path(__file__).parent / "fixtures"

Reply = Callable[["Upstream", web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Seen:
    """One request that arrived."""

    path: str
    headers: Mapping[str, str]
    body: Any


@dataclass
class Upstream:
    """Paths and their replies in turn; the last one is repeated. `free` ends every silence."""

    script: Mapping[str, Reply | Sequence[Reply]]
    seen: list[Seen] = field(default_factory=list)
    url: str = ""

    async def __aenter__(self) -> Upstream:
        self.free = asyncio.Event()
        self._turns = dict.fromkeys(self.script, 0)
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.free.set()
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        self.seen.append(Seen(request.path, dict(request.headers), json.loads(text) if text else None))
        replies = self.script.get(request.path)
        if replies is None:
            return await says({"error": {"message": "no such page"}}, 404)(self, request)
        if not isinstance(replies, Sequence):
            return await replies(self, request)
        turn = self._turns[request.path]
        self._turns[request.path] = turn + 1
        return await replies[min(turn, len(replies) - 1)](self, request)

    @property
    def body(self) -> Any:
        """What the last request asked for."""
        return self.seen[-1].body

    def member(self, *, prompt: str = "chat", defaults: Defaults | None = None, **options: Any) -> Actor:
        """A member that asks this server; a key is in the environment variable THE_KEY."""
        given = {"base_url": self.url, "model": "m", "key_env": "THE_KEY", **options}
        endpoint = Openai(**given).connect(Place(environment={"THE_KEY": KEY}))
        return endpoint.member(
            MemberSpec(name="it", prompt=BUILT_IN[prompt], defaults=defaults or Defaults())
        )


def says(value: Any, status: int = 200, **headers: str) -> Reply:
    """A JSON reply; header names are written with underscores."""
    return raw(json.dumps(value).encode(), "application/json", status, **headers)


def raw(data: bytes, kind: str, status: int = 200, **headers: str) -> Reply:
    """These bytes, whatever they are."""

    async def reply(up: Upstream, request: web.Request) -> web.StreamResponse:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(body=data, status=status, headers={"Content-Type": kind, **names})

    return reply


def events(*chunks: bytes, then: str = "end", kind: str = "text/event-stream") -> Reply:
    """A stream that sends each chunk as one piece, and then ends, breaks off ("reset") or falls "silent"."""

    async def reply(up: Upstream, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": kind})
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
            await asyncio.sleep(0)
        if then == "reset" and request.transport:
            request.transport.abort()
        if then == "silent":
            await up.free.wait()
        return response

    return reply


async def silence(up: Upstream, request: web.Request) -> web.StreamResponse:
    """Nothing, until the test is over."""
    await up.free.wait()
    return web.Response()


async def reset(up: Upstream, request: web.Request) -> web.StreamResponse:
    """The connection breaks before any reply."""
    assert request.transport
    request.transport.abort()
    return web.Response()


def half(data: bytes) -> Reply:
    """A reply that announces twice as many bytes as come before the connection breaks."""

    async def reply(up: Upstream, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.content_length = 2 * len(data)
        await response.prepare(request)
        await response.write(data)
        assert request.transport
        request.transport.close()
        return response

    return reply


def chat(*texts: str, finish: str | None = "stop", usage: Any = "stated", **choice: Any) -> dict[str, Any]:
    """A chat reply with these answers; usage 7 + 3 per answer unless said otherwise."""
    stated = {"prompt_tokens": 7, "completion_tokens": 3 * len(texts)} if usage == "stated" else usage
    choices = [
        {"index": i, "message": {"role": "assistant", "content": t}, "finish_reason": finish, **choice}
        for i, t in enumerate(texts)
    ]
    return {"object": "chat.completion", "choices": choices, **({"usage": stated} if stated else {})}


def delta(text: str | None = None, finish: str | None = None, **more: Any) -> bytes:
    """One event of a chat stream."""
    choice = {"index": 0, "delta": {"content": text} if text is not None else {}, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice], **more}).encode() + b"\n\n"


USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}\n\n'
DONE = b"data: [DONE]\n\n"


def fixture(name: str) -> Any:
    """A reply as a server's documentation shows it."""
    return json.loads((FIXTURES / name).read_text(encoding="utf-8"))
