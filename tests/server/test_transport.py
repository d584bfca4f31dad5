"""Bodies, pings, failures in the middle of an answer, and callers who leave: seen from a bare HTTP client."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import aiohttp
import pytest

from septet.backends.toy import ToyActor
from septet.core.errors import BackendError
from septet.core.types import Completion, Piece, Query

from .serving import Serve, Served

TOY = '[members]\na = { backend = "toy" }\nslow = { like = "a" }\n'
ASKED = {"model": "a", "messages": [{"role": "user", "content": "What is 2+3?"}]}
CHAT = "/v1/chat/completions"

T = TypeVar("T")


def eventually(look: Callable[[], T]) -> T:
    """The first true value; the store is written in the background."""
    for _ in range(1000):
        if value := look():
            return value
        time.sleep(0.01)
    raise AssertionError("it never happened")


async def post(server: Served, data: Any, path: str = CHAT) -> tuple[int, Any]:
    headers = {"content-type": "application/json"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(server.url + path, data=data, headers=headers) as response,
    ):
        assert response.content_type == "application/json"
        return response.status, await response.json()


async def lines(server: Served, **fields: Any) -> list[str]:
    """The lines of a stream that are not empty."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(server.url + CHAT, json={**ASKED, "stream": True, **fields}) as response,
    ):
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        return [line for line in (await response.text()).splitlines() if line]


# --- bodies ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"model": "a", "messages"',
        b"\xff\xfe",
        b'{"model": "a", "temperature": NaN}',
        b'{"model": "\\ud800"}',
        b"[" * 100_000,
    ],
    ids=["empty", "half", "cut", "not UTF-8", "NaN", "half a character", "deep"],
)
async def test_what_is_not_json_is_refused(serve: Serve, body: bytes) -> None:
    status, reply = await post(serve(TOY), body)
    assert (status, reply["error"]["code"]) == (400, "invalid_json")
    assert set(reply["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("body", [b"[]", b"null", b'"text"', b"3"])
async def test_json_that_is_no_object_is_refused(serve: Serve, body: bytes) -> None:
    status, reply = await post(serve(TOY), body)
    assert (status, reply["error"]["param"]) == (400, "body")


async def test_a_body_that_says_it_is_too_large_is_refused_unread(serve: Serve) -> None:
    server = serve(TOY)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: 20000001\r\n\r\n".encode())
    assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    writer.close()


async def test_a_body_that_turns_out_too_large_is_refused(serve: Serve) -> None:
    server = serve(TOY)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    part = b"f4240\r\n" + b" " * 1_000_000 + b"\r\n"
    for _ in range(20):
        writer.write(part)
        await writer.drain()
    writer.write(b"1\r\n \r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    writer.close()


async def test_a_question_of_200_kb_with_any_characters_is_answered(serve: Serve) -> None:
    text = "\0 é 日本 👍🏽\r\n" * 10_000 + " 2+3"
    messages = [{"role": "user", "content": text}]
    config = TOY.replace('"toy" }', '"toy", context = 0 }')
    status, reply = await post(serve(config), json.dumps({"model": "a", "messages": messages}))
    assert (status, reply["choices"][0]["message"]["content"]) == (200, "5")


async def test_a_question_longer_than_the_members_context_is_the_callers_error(serve: Serve) -> None:
    messages = [{"role": "user", "content": "x" * 9000}]
    status, reply = await post(serve(TOY), json.dumps({"model": "a", "messages": messages}))
    assert (status, reply["error"]["code"]) == (400, "member_refused")


async def test_a_wrong_route_or_verb_is_refused_in_the_same_shape(serve: Serve) -> None:
    server = serve(TOY)
    status, reply = await post(server, b"{}", "/v1/embeddings")
    assert (status, reply["error"]["code"]) == (404, "no_such_route")
    status, reply = await post(server, b"{}", "/v1/models")
    assert (status, reply["error"]["code"]) == (405, "no_such_route")


async def test_without_the_key_even_an_unknown_route_is_refused_but_health_is_not(serve: Serve) -> None:
    server = serve(TOY, key="sesame")
    for path in (CHAT, "/v1/models", "/nowhere"):
        status, reply = await post(server, b"{}", path)
        assert (status, reply["error"]["type"]) == (401, "authentication_error")
    async with aiohttp.ClientSession() as session, session.get(f"{server.url}/health") as response:
        assert (response.status, await response.json()) == (200, {"status": "ok"})


# --- streams -----------------------------------------------------------------------------------------


async def test_a_stream_is_data_lines_that_end_with_done(serve: Serve) -> None:
    found = await lines(serve(TOY))
    assert found[-1] == "data: [DONE]"
    first, *_ = [json.loads(line.removeprefix("data: ")) for line in found[:-1]]
    assert first["object"] == "chat.completion.chunk"
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}


async def test_a_silent_stream_is_pinged_after_it_has_said_who_speaks(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stream(self: ToyActor, query: Query) -> AsyncIterator[Piece | Completion]:
        await asyncio.sleep(0.3)
        yield Piece("late")
        yield Completion(member=self.name, text="late")

    monkeypatch.setattr(ToyActor, "stream", stream)
    found = await lines(serve(TOY, ping_seconds=0.05))
    assert '"role": "assistant"' in found[0]
    assert found[1] == ": ping"
    assert found[-1] == "data: [DONE]"
    assert [line for line in found if '"late"' in line]


async def test_a_failure_after_the_first_piece_is_an_error_event_and_no_done(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stream(self: ToyActor, query: Query) -> AsyncIterator[Piece | Completion]:
        yield Piece("The ")
        raise BackendError("the line broke")

    monkeypatch.setattr(ToyActor, "stream", stream)
    found = await lines(serve(TOY))
    last = json.loads(found[-1].removeprefix("data: "))
    assert set(last["error"]) == {"message", "type", "param", "code"}
    assert last["error"]["code"] == "member_failed"
    assert "the line broke" in last["error"]["message"]
    assert last["septet"]["partial"] == "The "


async def test_a_rate_limit_of_a_member_passes_on_when_to_come_back(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def complete(self: ToyActor, query: Query, *, n: int = 1, logprobs: int = 0) -> list[Completion]:
        raise BackendError("slow down", status=429, retry_after=7)

    monkeypatch.setattr(ToyActor, "complete", complete)
    server = serve(TOY)
    async with (
        aiohttp.ClientSession() as session,
        session.post(server.url + CHAT, json=ASKED) as response,
    ):
        assert (response.status, response.headers["retry-after"]) == (429, "7")


async def test_a_mistake_in_the_house_is_a_json_error_that_tells_nothing(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def complete(self: ToyActor, query: Query, *, n: int = 1, logprobs: int = 0) -> list[Completion]:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(ToyActor, "complete", complete)
    status, reply = await post(serve(TOY), json.dumps(ASKED))
    assert (status, reply["error"]["code"]) == (500, "internal_error")
    assert "secret" not in str(reply)


# --- callers who leave -------------------------------------------------------------------------------


class Stuck:
    """A member that, after so many pieces, waits until it is cancelled."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, pieces: int) -> None:
        self.began = self.cancelled = 0
        self.pieces = pieces
        stuck = self

        async def complete(self: ToyActor, query: Query, *, n: int = 1, logprobs: int = 0) -> Any:
            await stuck.wait()

        async def stream(self: ToyActor, query: Query) -> AsyncIterator[Piece | Completion]:
            for _ in range(stuck.pieces):
                yield Piece("a ")
            await stuck.wait()

        monkeypatch.setattr(ToyActor, "complete", complete)
        monkeypatch.setattr(ToyActor, "stream", stream)

    async def wait(self) -> None:
        self.began += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled += 1


@pytest.mark.parametrize(
    ("fields", "pieces"),
    [({}, 0), ({"stream": True}, 0), ({"stream": True}, 2), ({"stream": True, "n": 2}, 1), ({"n": 2}, 0)],
    ids=["whole", "before the first piece", "between pieces", "between pieces of two", "two whole"],
)
async def test_when_the_caller_leaves_the_members_calls_are_cancelled_and_the_trace_says_so(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], pieces: int
) -> None:
    stuck, server, n = Stuck(monkeypatch, pieces), serve(TOY), int(fields.get("n", 1))
    body = json.dumps({**ASKED, **fields}).encode()
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    await asyncio.to_thread(eventually, lambda: stuck.began == n)
    assert stuck.cancelled == 0
    writer.close()
    await asyncio.to_thread(eventually, lambda: stuck.cancelled == n)

    def ended() -> list[dict[str, Any]]:
        rows = server.house.store.recent(n)
        return rows if all(row["status"] != "running" for row in rows) else []

    rows = await asyncio.to_thread(eventually, ended)
    assert [row["status"] for row in rows] == ["cancelled"] * n
    for row in rows:
        (call,) = server.trace(row["id"])[1]
        assert call["error"] == "cancelled"


# --- requests at once --------------------------------------------------------------------------------


async def test_while_one_request_waits_others_are_answered(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete, go_on = ToyActor.complete, threading.Event()

    async def waiting(self: ToyActor, query: Query, **options: Any) -> list[Completion]:
        if self.name == "slow":
            await asyncio.to_thread(go_on.wait)
        return await complete(self, query, **options)

    monkeypatch.setattr(ToyActor, "complete", waiting)
    server = serve(TOY)
    slow = asyncio.create_task(post(server, json.dumps({**ASKED, "model": "slow"})))
    for _ in range(3):
        status, reply = await post(server, json.dumps(ASKED))
        assert (status, reply["choices"][0]["message"]["content"]) == (200, "5")
    assert not slow.done()
    go_on.set()
    status, reply = await slow
    assert (status, reply["choices"][0]["message"]["content"]) == (200, "5")


async def test_two_requests_at_once_share_a_loaded_model_and_answer_as_when_alone(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = ["What is 2+3?", "Who is it?"]

    def asked(question: str) -> str:
        messages = [{"role": "user", "content": question}]
        return json.dumps({"model": "a", "messages": messages, "temperature": 1.2, "seed": 3})

    server = serve(TOY)
    alone = [(await post(server, asked(q)))[1]["choices"][0]["message"]["content"] for q in questions]
    complete, both = ToyActor.complete, asyncio.Barrier(2)

    async def together(self: ToyActor, query: Query, **options: Any) -> list[Completion]:
        await both.wait()
        return await complete(self, query, **options)

    monkeypatch.setattr(ToyActor, "complete", together)
    replies = await asyncio.gather(*(post(server, asked(q)) for q in questions))
    assert [reply["choices"][0]["message"]["content"] for _, reply in replies] == alone
    assert list(server.house.builder.endpoints) == ["a"]
