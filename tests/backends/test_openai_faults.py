"""Everything that can go wrong with a server ends in one clear BackendError, and nothing hangs or tells the key."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import pickle
import socket
from email.utils import formatdate
from typing import Any

import pytest
from upstream import (
    CHAT,
    DONE,
    KEY,
    USAGE,
    Upstream,
    chat,
    delta,
    events,
    half,
    raw,
    reset,
    says,
    silence,
)

from septet.backends._openai_errors import Secret, retry_after
from septet.backends.openai import Openai
from septet.core.actor import Actor
from septet.core.backend import MemberSpec, Place
from septet.core.errors import BackendError, ConfigError
from septet.core.prompt import Prompt
from septet.core.types import Query

Q = Query.of("What is 2+3?")
TINY: dict[str, Any] = {
    "connect_seconds": 0.2,
    "first_byte_seconds": 0.05,
    "idle_seconds": 0.05,
    "total_seconds": 0.15,
}


async def failure(actor: Actor, *, stream: bool = False) -> BackendError:
    """The error of one call, which must come within seconds."""

    async def call() -> None:
        if not stream:
            await actor.complete(Q)
            return
        async for _ in actor.stream(Q):
            pass

    with pytest.raises(BackendError) as caught:
        await asyncio.wait_for(call(), 20)
    await actor.aclose()
    return caught.value


# --- status codes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("status", "retryable"),
    [
        *((status, False) for status in (400, 401, 403, 404, 413, 422)),
        *((status, True) for status in (408, 409, 429, 500, 502, 503, 504, 529)),
    ],
)
async def test_an_error_status_says_whether_it_may_pass(status: int, retryable: bool, stream: bool) -> None:
    async with Upstream({CHAT: says({"error": {"message": "No luck.", "type": "x"}}, status)}) as up:
        error = await failure(up.member(), stream=stream)
    assert (error.status, error.retryable, error.retry_after) == (status, retryable, None)
    assert f"answered {status}: No luck" in str(error)


@pytest.mark.parametrize(
    "body",
    [
        {"error": "No luck"},
        {"message": "No luck"},
        {"detail": "No luck"},
        {"error": {"message": "No luck"}},
        ["No luck"],
    ],
)
async def test_a_servers_own_words_are_found_in_any_shape(body: Any) -> None:
    async with Upstream({CHAT: says(body, 400)}) as up:
        assert "No luck" in str(await failure(up.member()))


async def test_a_page_of_html_is_shown_from_its_beginning() -> None:
    async with Upstream({CHAT: raw(b"<html>\n Bad  gateway" + b"x" * 900, "text/html", 502)}) as up:
        error = str(await failure(up.member()))
    assert "502: <html> Bad gatewayxxx" in error and len(error) < 500


async def test_a_wrong_key_names_the_variable() -> None:
    async with Upstream({CHAT: says({"error": {"message": f"Incorrect key {KEY}"}}, 401)}) as up:
        error = await failure(up.member())
    assert error.hint == "Check the API key in the environment variable THE_KEY"
    assert "Incorrect key ***" in str(error)


async def test_a_missing_key_says_how_to_give_one() -> None:
    async with Upstream({CHAT: says({"error": {"message": "no key"}}, 401)}) as up:
        error = await failure(up.member(key_env=""))
        assert "Authorization" not in up.seen[0].headers
    assert "key_env" in error.hint


async def test_an_unknown_model_is_named() -> None:
    async with Upstream({CHAT: says({"error": {"message": "no such model"}}, 404)}) as up:
        assert "'m'" in (await failure(up.member())).hint


async def test_a_prompt_that_is_too_long_is_said_to_be() -> None:
    said = {
        "error": {
            "message": "This model's maximum context length is 9 tokens",
            "code": "context_length_exceeded",
        }
    }
    async with Upstream({CHAT: says(said, 400)}) as up:
        assert (await failure(up.member())).hint == "The prompt and the answer are too long for m"


async def test_redirects_are_not_followed() -> None:
    async with Upstream(
        {CHAT: raw(b"", "text/plain", 307, Location="/v1/other"), "/v1/other": says(chat("5"))}
    ) as up:
        error = await failure(up.member())
        assert [s.path for s in up.seen] == [CHAT]
    assert error.status == 307 and not error.retryable and "not followed" in str(error)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry_After": "7"}, 7.0),
        ({"Retry_After": "0.5"}, 0.5),
        ({"retry_after_ms": "250", "Retry_After": "9"}, 0.25),
        ({"Retry_After": "-3"}, 0.0),
        ({"Retry_After": "soon"}, None),
        ({"Retry_After": "inf"}, None),
        ({}, None),
    ],
)
async def test_the_time_to_wait_is_read_from_the_headers(
    headers: dict[str, str], seconds: float | None
) -> None:
    async with Upstream({CHAT: says({}, 429, **headers)}) as up:
        assert (await failure(up.member())).retry_after == seconds


def test_the_time_to_wait_may_be_a_date() -> None:
    assert retry_after({"retry-after": formatdate(1_000_030, usegmt=True)}, now=1_000_000.0) == 30.0
    assert retry_after({"retry-after": formatdate(1_000_030, usegmt=True)}, now=2_000_000.0) == 0.0


@pytest.mark.parametrize(("word", "status"), [("false", 500), ("true", 400)])
async def test_the_servers_word_on_retries_comes_first(word: str, status: int) -> None:
    async with Upstream({CHAT: says({}, status, x_should_retry=word)}) as up:
        assert (await failure(up.member())).retryable == (word == "true")


# --- replies that are none -------------------------------------------------------------------------

BROKEN = {
    "half a JSON": (raw(b'{"choices": [{"mess', "application/json"), "broken or cut off", True),
    "a reply that breaks off": (half(b'{"choices": ['), "broke off", True),
    "a connection that breaks": (reset, "broke off", True),
    "no choices": (says({"choices": []}), "without any choice", True),
    "choices that are none": (says({"choices": "5"}), "no list of choices", False),
    "a choice that is empty": (says({"choices": [{}]}), "without a message or a text", False),
    "a choice of numbers": (says({"choices": [{"message": 5}]}), "without a message or a text", False),
    "no object": (says([1, 2]), "no object", False),
    "null": (says(None), "no object", False),
    "nothing": (raw(b"", "application/json"), "broken or cut off", True),
    "bytes that are no text": (raw(b'{"choices": "\xff"}', "application/json"), "not UTF-8", False),
    "a page": (raw(b"<html>hello</html>", "text/html"), "sent text/html where JSON was asked for", False),
    "deep nesting": (raw(b"[" * 200_000, "application/json"), "nested too deeply", False),
    "an error in a good reply": (says({"error": {"message": "overloaded", "code": 503}}), "overloaded", True),
    "an error that is a text": (says({"error": "no"}), "answered with an error: no", False),
    "an answer that was given up": (says(chat("5", finish="error")), "ended the answer with 'error'", True),
    "bad compression": (raw(b"not gzip", "application/json", Content_Encoding="gzip"), "broke off", True),
}


@pytest.mark.parametrize("fault", BROKEN)
async def test_a_reply_that_is_none_is_one_clear_error(fault: str) -> None:
    reply, words, retryable = BROKEN[fault]
    async with Upstream({CHAT: reply}) as up:
        error = await failure(up.member())
    assert words in str(error) and error.retryable == retryable


BROKEN_STREAMS = {
    "ends in the middle": (events(delta("a")), "in the middle of the answer", True),
    "is empty": (events(), "in the middle of the answer", True),
    "has comments only": (events(b": ping\n\n", b": ping\n\n"), "in the middle of the answer", True),
    "says it is done in the middle": (events(delta("a"), DONE), "in the middle of the answer", True),
    "breaks off": (events(delta("a"), then="reset"), "broke off", True),
    "has half a JSON": (events(b'data: {"choices": [\n\n'), "broken or cut off", True),
    "has an error": (
        events(delta("a"), b'data: {"error": {"message": "boom", "code": 500}}\n\n'),
        "boom",
        True,
    ),
    "is no UTF-8": (events(b'data: {"a": "\xff"}\n\n'), "not UTF-8", False),
    "is a page": (events(b"<html>", kind="text/html"), "sent text/html where JSON", False),
    "is a JSON reply": (says(chat("5")), "where an event stream was asked for", False),
    "is a JSON error": (says({"error": {"message": "boom"}}), "boom", False),
    "gives up": (events(delta("a", "abort"), DONE), "ended the answer with 'abort'", True),
}


@pytest.mark.parametrize("fault", BROKEN_STREAMS)
async def test_a_broken_stream_is_one_clear_error(fault: str) -> None:
    reply, words, retryable = BROKEN_STREAMS[fault]
    async with Upstream({CHAT: reply}) as up:
        error = await failure(up.member(), stream=True)
    assert words in str(error) and error.retryable == retryable


async def test_events_without_choices_and_doubled_ends_do_no_harm() -> None:
    odd = b'data: {"choices": null}\n\ndata: {"choices": [5, {"index": 1, "delta": {"content": "x"}}]}\n\n'
    async with Upstream({CHAT: events(odd, delta("5", "stop"), USAGE, DONE, DONE)}) as up:
        it = up.member()
        *pieces, end = [item async for item in it.stream(Q)]
        await it.aclose()
    assert [p.text for p in pieces] == ["5"] and end.text == "5"


async def test_a_huge_event_is_read() -> None:
    big = "x" * 3_000_000
    async with Upstream({CHAT: events(delta(big, "stop"), DONE)}) as up:
        it = up.member()
        *_, end = [item async for item in it.stream(Q)]
        await it.aclose()
    assert end.text == big


async def test_a_reply_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("septet.backends._openai_http.LARGEST_REPLY", 1000)
    async with Upstream(
        {CHAT: [raw(b"x" * 2000, "application/json"), events(b"data: " + b"x" * 2000)]}
    ) as up:
        assert "more than 1000 bytes" in str(await failure(up.member()))
        assert "event of more than 1000 bytes" in str(await failure(up.member(), stream=True))


# --- the four clocks -------------------------------------------------------------------------------


async def test_a_server_that_is_not_there_is_an_error_that_may_pass() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but not listening: connections are refused
        it = Openai(base_url=f"http://127.0.0.1:{taken.getsockname()[1]}/v1", model="m").connect(Place())
        error = await failure(it.member(MemberSpec(name="it", prompt=Prompt())))
    assert error.retryable and error.status is None and "could not be connected to" in str(error)


async def test_a_host_that_does_not_listen_runs_into_the_connection_clock() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for other in waiting:
            other.setblocking(False)
            other.connect_ex(("127.0.0.1", port))  # fills the queue of connections that nobody accepts
        options: dict[str, Any] = {**TINY, "first_byte_seconds": 5.0, "total_seconds": 5.0}
        it = Openai(base_url=f"http://127.0.0.1:{port}/v1", model="m", **options).connect(Place())
        error = await failure(it.member(MemberSpec(name="it", prompt=Prompt())))
        for other in waiting:
            other.close()
    assert "could not be connected to in 0.2 s" in str(error) and error.retryable


async def test_silence_before_a_stream_runs_into_the_first_byte_clock() -> None:
    async with Upstream({CHAT: silence}) as up:
        error = await failure(up.member(**TINY), stream=True)
    assert "sent nothing for 0.05 s" in str(error) and error.retryable


async def test_a_stream_that_opens_and_says_nothing_runs_into_the_first_byte_clock() -> None:
    async with Upstream({CHAT: events(then="silent")}) as up:
        error = await failure(up.member(**TINY), stream=True)
    assert "sent nothing for 0.05 s" in str(error)


async def test_silence_within_a_stream_runs_into_the_idle_clock() -> None:
    async with Upstream({CHAT: events(delta("a"), then="silent")}) as up:
        error = await failure(up.member(**TINY), stream=True)
    assert "fell silent for 0.05 s" in str(error) and error.retryable


async def test_a_whole_reply_that_never_comes_runs_into_the_total_clock() -> None:
    async with Upstream({CHAT: silence}) as up:
        error = await failure(up.member(**TINY))
    assert "took longer than 0.15 s" in str(error) and not error.retryable


async def test_a_stream_that_never_ends_runs_into_the_total_clock() -> None:
    async def endless(up: Upstream, request: Any) -> Any:
        return await events(*[delta("a")] * 10_000, then="silent")(up, request)

    async with Upstream({CHAT: endless}) as up:
        it = up.member(**{**TINY, "idle_seconds": 9.0, "total_seconds": 0.1})
        assert "took longer than 0.1 s" in str(await failure(it, stream=True))


async def test_a_cancelled_call_leaves_no_connection_behind() -> None:
    arrived = asyncio.Event()

    async def noted(up: Upstream, request: Any) -> Any:
        arrived.set()
        return await silence(up, request)

    async with Upstream({CHAT: noted}) as up:
        it = up.member()
        call = asyncio.ensure_future(it.complete(Q))
        await arrived.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert not it._server.http._session.connector._acquired  # type: ignore[attr-defined]
        await it.aclose()


async def test_connections_are_kept_alive_and_shared() -> None:
    ports = []

    async def noted(up: Upstream, request: Any) -> Any:
        ports.append(request.transport.get_extra_info("peername")[1])
        return await says(chat("5"))(up, request)

    async with Upstream({CHAT: noted}) as up:
        endpoint = Openai(base_url=up.url, model="m").connect(Place())
        for name in ("a", "b", "a"):
            await endpoint.member(MemberSpec(name=name, prompt=Prompt())).complete(Q)
        await endpoint.aclose()
    assert len(ports) == 3 and len(set(ports)) == 1


async def test_a_stream_has_a_connection_of_its_own() -> None:
    # llama-server closes the connection after a stream without announcing it
    async with Upstream({CHAT: [events(delta("5", "stop"), DONE), says(chat("5"))]}) as up:
        it = up.member()
        assert [item async for item in it.stream(Q)]
        assert not it._server.http._session.connector._conns  # type: ignore[attr-defined]
        await it.complete(Q)
        assert it._server.http._session.connector._conns  # type: ignore[attr-defined]
        assert [s.headers.get("Connection") for s in up.seen] == ["close", None]
        await it.aclose()


async def test_one_failure_of_several_calls_ends_the_others() -> None:
    async with Upstream({CHAT: [says(chat("a")), says({"error": "no"}, 500), silence]}) as up:
        it = up.member(flavour="ollama")
        with pytest.raises(BackendError, match="answered 500"):
            await asyncio.wait_for(it.complete(Q, n=3), 20)
        await it.aclose()
    assert len(up.seen) == 3


# --- the key ---------------------------------------------------------------------------------------


async def test_the_key_is_in_no_error_no_repr_and_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    echoes = f"you sent Bearer {KEY} and {KEY}"
    replies = [
        says({"error": {"message": echoes}}, 401),
        raw(echoes.encode(), "text/plain", 500),
        raw(b"x" * 295 + KEY.encode(), "text/plain", 500),
        says({"error": echoes}),
        says([echoes]),
        raw(echoes.encode(), "text/plain"),
        raw(echoes.encode(), "application/json"),
        says({"choices": echoes}),
        says(chat("5", finish="error")),
        reset,
        half(b"{"),
    ]
    async with Upstream({CHAT: replies}) as up:
        it = up.member()
        said = []
        for _ in replies:
            with pytest.raises(BackendError) as caught:
                await it.complete(Q)
            chain: BaseException | None = caught.value
            while chain is not None:
                said.append(f"{chain} {chain!r} {vars(chain)}")
                chain = chain.__cause__ or chain.__context__
        server = it._server  # type: ignore[attr-defined]
        said += [repr(x) for x in (it, server, server.http, vars(server.http), server.http.source("u"))]
        await it.aclose()
    assert all(s.headers["Authorization"] == f"Bearer {KEY}" for s in up.seen)
    told = "\n".join([*said, caplog.text])
    # not even the beginning of it, where an error was shortened
    assert KEY[:8] not in told


def test_the_key_cannot_be_written_down() -> None:
    secret = Secret(KEY, "THE_KEY")
    assert str(secret) == repr(secret) == f"{secret}" == "***" and not hasattr(secret, "__dict__")
    for write in (pickle.dumps, copy.deepcopy, json.dumps):
        with pytest.raises(TypeError):
            write(secret)


@pytest.mark.parametrize("value", ["sk-a\nHost: evil", "clé"])
def test_a_key_that_cannot_be_in_a_header_is_refused_and_not_shown(value: str) -> None:
    with pytest.raises(ConfigError, match="THE_KEY holds characters") as caught:
        Openai(model="m", key_env="THE_KEY").connect(Place(environment={"THE_KEY": value}))
    assert value not in str(caught.value)
